// Expected: apply does not fit. Expected, public: void apply(const sdk::ApplyContext& context,
// std::string_view command, sdk::Reply& reply); the result may be int32_t
#include "base.h"

struct Machine : Reads {
  int64_t apply(const sdk::ApplyContext&, std::string_view, sdk::Reply&) { return 0; }
};
CONNECTD_PLUGIN(Machine, .name = "trap", .version = "1");
