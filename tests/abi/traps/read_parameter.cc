// Expected: read does not fit. Expected, public: void read(const sdk::ReadContext& context,
// std::string_view request, sdk::Reply& reply) const; the result may be int32_t
#include "base.h"

struct Machine : Reads {
  void read(const sdk::ApplyContext&, std::string_view, sdk::Reply&) const {}
};
CONNECTD_PLUGIN(Machine, .name = "trap", .version = "1");
