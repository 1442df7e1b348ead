// Expected: classify does not fit. Expected, public: sdk::Kind classify(std::string_view
// request, sdk::Reply& reply) const
#include "base.h"

struct Machine : Reads {
  sdk::Kind classify(std::string_view, sdk::Reply&) { return sdk::Kind::kRead; }
};
CONNECTD_PLUGIN(Machine, .name = "trap", .version = "1");
