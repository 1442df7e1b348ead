// Expected: next_deadline does not fit. Expected, public: int64_t next_deadline() const
#include "base.h"

struct Machine : Reads {
  int64_t next_deadline(int64_t now) const { return now; }
  void on_tick(const sdk::ApplyContext&) {}
};
CONNECTD_PLUGIN(Machine, .name = "trap", .version = "1");
