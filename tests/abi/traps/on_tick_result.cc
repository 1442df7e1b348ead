// Expected: on_tick does not fit. Expected, public: void on_tick(const sdk::ApplyContext&
// context); the result may be int32_t
#include "base.h"

struct Machine : Reads {
  int64_t next_deadline() const { return INT64_MAX; }
  bool on_tick(const sdk::ApplyContext&) { return true; }
};
CONNECTD_PLUGIN(Machine, .name = "trap", .version = "1");
