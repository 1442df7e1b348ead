// The echo plugin: keeps no state, so that benchmarks measure connectd alone. A request that begins
// with "read" is a read, every other one a write; the reply to both is the request and a line end.
#include <connect/plugin.hpp>

namespace sdk = connectd::sdk;

class Echo {
 public:
  sdk::Kind classify(std::string_view request, sdk::Reply&) const {
    return request.starts_with("read") ? sdk::Kind::kRead : sdk::Kind::kWrite;
  }
  void read(const sdk::ReadContext&, std::string_view request, sdk::Reply& reply) const {
    reply << request << "\n";
  }
  void apply(const sdk::ApplyContext&, std::string_view command, sdk::Reply& reply) {
    reply << command << "\n";
  }
  void save(sdk::Writer&) const {}
  void load(sdk::Reader&) {}
};
CONNECTD_PLUGIN(Echo, .name = "echo", .version = "1.0.0",
                .flags = CONNECTD_F_CANONICAL_SNAPSHOT | CONNECTD_F_FORK_SNAPSHOT);
