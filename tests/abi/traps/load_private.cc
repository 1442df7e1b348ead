// Expected: load does not fit. Expected, public: void load(sdk::Reader& in)
#include "base.h"

class Machine : public Reads {
 private:
  void load(sdk::Reader&) {}
};
CONNECTD_PLUGIN(Machine, .name = "trap", .version = "1");
