// Expected: a plugin is a class
#include "base.h"

union Machine {
  int number;
};
CONNECTD_PLUGIN(Machine, .name = "trap", .version = "1");
