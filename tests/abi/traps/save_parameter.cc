// Expected: save does not fit. Expected, public: void save(sdk::Writer& out) const
#include "base.h"

struct Machine : Reads {
  void save(sdk::Writer*) const {}
};
CONNECTD_PLUGIN(Machine, .name = "trap", .version = "1");
