#include <connect/plugin.hpp>

namespace sdk = connectd::sdk;

class Counter {
 public:
  explicit Counter(const sdk::Host& host) : value_(host.option_number<uint64_t>("start", 0)) {}
  sdk::Kind classify(std::string_view request, sdk::Reply&) const {
    return request.starts_with("incr") ? sdk::Kind::kWrite : sdk::Kind::kRead;
  }
  void read(const sdk::ReadContext&, std::string_view, sdk::Reply& reply) const {
    reply << value_ << "\n";
  }
  void apply(const sdk::ApplyContext&, std::string_view, sdk::Reply& reply) {
    reply << ++value_ << "\n";
  }
  void save(sdk::Writer& out) const { out.number(value_); }
  void load(sdk::Reader& in) { value_ = in.number<uint64_t>(); }

 private:
  uint64_t value_;
};
CONNECTD_PLUGIN(Counter, .name = "counter", .version = "1.0.0");
