// Expected: save is missing. Expected: void save(sdk::Writer& out) const
#include "base.h"

struct Machine {
  void apply(const sdk::ApplyContext&, std::string_view, sdk::Reply&) {}
  void load(sdk::Reader&) {}
};
CONNECTD_PLUGIN(Machine, .name = "trap", .version = "1", .only_writes = true);
