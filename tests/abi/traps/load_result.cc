// Expected: load does not fit. Expected, public: void load(sdk::Reader& in)
#include "base.h"

struct Machine : Reads {
  bool load(sdk::Reader&) { return false; }
};
CONNECTD_PLUGIN(Machine, .name = "trap", .version = "1");
