// Expected: on_tick does not fit. Expected, public: void on_tick(const sdk::ApplyContext&
// context); the result may be int32_t
#include "base.h"

class Timer {
 public:
  void on_tick(const sdk::ApplyContext&) {}
};

struct Base : Reads, private Timer {
  int64_t next_deadline() const { return INT64_MAX; }
};

struct Machine : Base {};
CONNECTD_PLUGIN(Machine, .name = "trap", .version = "1");
