// Expected: apply is missing. Expected: void apply(const sdk::ApplyContext& context,
// std::string_view command, sdk::Reply& reply); the result may be int32_t
#include "base.h"

struct Machine {
  void save(sdk::Writer&) const {}
  void load(sdk::Reader&) {}
};
CONNECTD_PLUGIN(Machine, .name = "trap", .version = "1", .only_writes = true);
