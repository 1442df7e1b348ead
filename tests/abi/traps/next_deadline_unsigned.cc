// Expected: next_deadline does not fit. Expected, public: int64_t next_deadline() const
#include "base.h"

struct Machine : Reads {
  uint64_t next_deadline() const { return UINT64_MAX; }
  void on_tick(const sdk::ApplyContext&) {}
};
CONNECTD_PLUGIN(Machine, .name = "trap", .version = "1");
