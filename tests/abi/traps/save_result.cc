// Expected: save does not fit. Expected, public: void save(sdk::Writer& out) const
#include "base.h"

struct Machine : Reads {
  int32_t save(sdk::Writer&) const { return CONNECTD_E_IO; }
};
CONNECTD_PLUGIN(Machine, .name = "trap", .version = "1");
