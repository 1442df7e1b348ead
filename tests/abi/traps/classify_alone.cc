// Expected: classify is there and read is not, so classify would never be called. Expected: void
// read(const sdk::ReadContext& context, std::string_view request, sdk::Reply& reply) const; the
// result may be int32_t
#include "base.h"

struct Machine : Writes {
  sdk::Kind classify(std::string_view, sdk::Reply&) const { return sdk::Kind::kRead; }
};
CONNECTD_PLUGIN(Machine, .name = "trap", .version = "1");
