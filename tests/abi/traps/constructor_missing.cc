// Expected: the class needs a public constructor. Expected: explicit Machine(const sdk::Host&
// host), or Machine()
#include "base.h"

struct Machine : Reads {
  explicit Machine(int) {}
};
CONNECTD_PLUGIN(Machine, .name = "trap", .version = "1");
