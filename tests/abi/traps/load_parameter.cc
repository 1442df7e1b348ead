// Expected: load does not fit. Expected, public: void load(sdk::Reader& in)
#include "base.h"

struct Machine : Reads {
  void load(std::string_view) {}
};
CONNECTD_PLUGIN(Machine, .name = "trap", .version = "1");
