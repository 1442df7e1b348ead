// Expected: the class has a read, and CONNECTD_PLUGIN says .only_writes = true
#include "base.h"

struct Machine : Reads {};
CONNECTD_PLUGIN(Machine, .name = "trap", .version = "1", .only_writes = true);
