// Expected: the constructor does not fit: the host is passed as const sdk::Host&. Expected:
// explicit Machine(const sdk::Host& host)
#include "base.h"

struct Machine : Reads {
  Machine() = default;
  explicit Machine(const connectd_host*) {}
};
CONNECTD_PLUGIN(Machine, .name = "trap", .version = "1");
