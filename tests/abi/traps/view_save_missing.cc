// Expected: view does not fit. Expected, public: View view(), without arguments, which returns
// an object with a public member void save(sdk::Writer& out)
#include "base.h"

struct Machine : Reads {
  struct View {};
  View view() { return {}; }
};
CONNECTD_PLUGIN(Machine, .name = "trap", .version = "1");
