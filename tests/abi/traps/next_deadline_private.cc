// Expected: next_deadline does not fit. Expected, public: int64_t next_deadline() const
#include "base.h"

class Machine : public Reads {
 public:
  void on_tick(const sdk::ApplyContext&) {}

 private:
  int64_t next_deadline() const { return INT64_MAX; }
};
CONNECTD_PLUGIN(Machine, .name = "trap", .version = "1");
