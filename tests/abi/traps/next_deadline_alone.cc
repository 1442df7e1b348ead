// Expected: next_deadline is there and on_tick is not, so there would be no timers. Expected:
// void on_tick(const sdk::ApplyContext& context); the result may be int32_t
#include "base.h"

struct Machine : Reads {
  int64_t next_deadline() const { return INT64_MAX; }
};
CONNECTD_PLUGIN(Machine, .name = "trap", .version = "1");
