// Expected: read is there and classify is not, so read would never be called. Expected:
// sdk::Kind classify(std::string_view request, sdk::Reply& reply) const
#include "base.h"

struct Machine : Writes {
  void read(const sdk::ReadContext&, std::string_view, sdk::Reply&) const {}
};
CONNECTD_PLUGIN(Machine, .name = "trap", .version = "1");
