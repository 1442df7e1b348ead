// Expected: next_deadline does not fit. Expected, public: int64_t next_deadline() const
#include "base.h"

struct Machine : Reads {
  std::optional<int64_t> next_deadline() const { return {}; }
  void on_tick(const sdk::ApplyContext&) {}
};
CONNECTD_PLUGIN(Machine, .name = "trap", .version = "1");
