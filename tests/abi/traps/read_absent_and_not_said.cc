// Expected: add .only_writes = true as the last field of CONNECTD_PLUGIN
#include "base.h"

struct Machine : Writes {};
CONNECTD_PLUGIN(Machine, .name = "trap", .version = "1");
