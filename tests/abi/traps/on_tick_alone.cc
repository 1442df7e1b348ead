// Expected: on_tick is there and next_deadline is not, so there would be no timers. Expected:
// int64_t next_deadline() const
#include "base.h"

struct Machine : Reads {
  void on_tick(const sdk::ApplyContext&) {}
};
CONNECTD_PLUGIN(Machine, .name = "trap", .version = "1");
