// Expected: load is missing. Expected: void load(sdk::Reader& in)
#include "base.h"

struct Machine {
  void apply(const sdk::ApplyContext&, std::string_view, sdk::Reply&) {}
  void save(sdk::Writer&) const {}
  void restore(sdk::Reader&) {}
};
CONNECTD_PLUGIN(Machine, .name = "trap", .version = "1", .only_writes = true);
