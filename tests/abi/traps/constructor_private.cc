// Expected: the class needs a public constructor. Expected: explicit Machine(const sdk::Host&
// host), or Machine()
#include "base.h"

class Machine : public Reads {
  Machine() = default;
};
CONNECTD_PLUGIN(Machine, .name = "trap", .version = "1");
