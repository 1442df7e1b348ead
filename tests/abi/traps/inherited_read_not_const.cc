// Expected: read does not fit. Expected, public: void read(const sdk::ReadContext& context,
// std::string_view request, sdk::Reply& reply) const; the result may be int32_t
#include "base.h"

struct Base : Reads {
  void read(const sdk::ReadContext&, std::string_view, sdk::Reply&) {}
};

struct Machine : Base {};
CONNECTD_PLUGIN(Machine, .name = "trap", .version = "1");
