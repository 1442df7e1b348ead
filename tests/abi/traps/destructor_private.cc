// Expected: the destructor must be public and must not throw
#include "base.h"

class Machine : public Reads {
  ~Machine() = default;
};
CONNECTD_PLUGIN(Machine, .name = "trap", .version = "1");
