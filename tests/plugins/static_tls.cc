// A plugin with more thread-local data of the initial-exec kind than the dynamic loader has room
// for: it cannot be loaded.
#include <connect/plugin.hpp>
#include <string_view>

namespace sdk = connectd::sdk;

namespace {
__attribute__((tls_model("initial-exec"))) thread_local volatile char large[1 << 20];
}

class StaticTls {
 public:
  void apply(const sdk::ApplyContext&, std::string_view, sdk::Reply& reply) {
    large[0] = static_cast<char>(large[0] + 1);
    reply << "ok\n";
  }
  void save(sdk::Writer&) const {}
  void load(sdk::Reader&) {}
};

CONNECTD_PLUGIN(StaticTls, .name = "static_tls", .version = "1.0.0", .only_writes = true);
