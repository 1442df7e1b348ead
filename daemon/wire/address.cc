#include "wire/address.h"

#include <fmt/format.h>

#include <charconv>

namespace connectd::wire {
namespace {

tl::unexpected<Error> bad_address(std::string_view text, std::string_view why) {
  return failure(
      ExitCode::kConfig,
      fmt::format("\"{}\" is not an address: {}; write host:port, like 10.0.0.11:7101 or "
                  "[::1]:7101",
                  text, why));
}

}  // namespace

std::string Address::to_string() const {
  if (host.find(':') != std::string::npos) return fmt::format("[{}]:{}", host, port);
  return fmt::format("{}:{}", host, port);
}

Result<Address> parse_address(std::string_view text) {
  size_t colon = text.rfind(':');
  if (colon == std::string_view::npos) return bad_address(text, "it has no port");
  std::string_view host = text.substr(0, colon);
  std::string_view digits = text.substr(colon + 1);
  if (host.starts_with('[') && host.ends_with(']')) {
    host = host.substr(1, host.size() - 2);
  } else if (host.find(':') != std::string_view::npos) {
    return bad_address(text, "an IPv6 address needs brackets");
  }
  if (host.empty()) return bad_address(text, "it has no host");
  uint16_t port = 0;
  auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), port);
  if (error != std::errc() || end != digits.data() + digits.size() || digits.empty()) {
    return bad_address(text, "the port is not a number from 0 to 65535");
  }
  return Address{std::string(host), port};
}

}  // namespace connectd::wire
