// A plugin with a library beside it, which it finds by $ORIGIN. Each command replies the library's
// number.
#include <connect/plugin.hpp>
#include <string_view>

namespace sdk = connectd::sdk;

extern "C" int number_of_beside();

class Origin {
 public:
  void apply(const sdk::ApplyContext&, std::string_view, sdk::Reply& reply) {
    reply << number_of_beside() << "\n";
  }
  void save(sdk::Writer&) const {}
  void load(sdk::Reader&) {}
};

CONNECTD_PLUGIN(Origin, .name = "origin", .version = "1.0.0", .only_writes = true);
