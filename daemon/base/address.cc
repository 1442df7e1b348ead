#include "base/address.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>

namespace connectd {
namespace {

constexpr size_t kMaxHost = 253;  // of a DNS name
constexpr size_t kMaxZone = 15;   // of an interface's name (IFNAMSIZ)

bool is_digit(char c) { return c >= '0' && c <= '9'; }

bool is_host_char(char c) {
  return is_digit(c) || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '.' || c == '-' ||
         c == '_';
}

bool is_ipv6_char(char c) {
  return is_digit(c) || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F') || c == ':' || c == '.';
}

// Only digits and dots: meant as an IPv4 address.
bool looks_like_ipv4(std::string_view host) {
  return std::all_of(host.begin(), host.end(), [](char c) { return is_digit(c) || c == '.'; });
}

bool is_ipv4(std::string_view host) {
  int parts = 0;
  while (true) {
    size_t dot = host.find('.');
    std::string_view part = host.substr(0, dot);
    if (part.empty() || part.size() > 3 || (part.size() > 1 && part[0] == '0')) return false;
    int value = 0;
    std::from_chars(part.data(), part.data() + part.size(), value);
    if (value > 255) return false;
    ++parts;
    if (dot == std::string_view::npos) break;
    host.remove_prefix(dot + 1);
  }
  return parts == 4;
}

// "eth0" of "fe80::1%eth0" (RFC 4007): the interface that a link-local address is on.
std::string check_zone(std::string_view number, std::string_view zone, std::string_view text) {
  const bool is_link_local = number.size() >= 4 && (number[0] == 'f' || number[0] == 'F') &&
                             (number[1] == 'e' || number[1] == 'E') &&
                             std::string_view("89abAB").find(number[2]) != std::string_view::npos;
  if (!is_link_local) {
    return fmt::format("'{}': only a link-local address (fe80::) has a zone", text);
  }
  const bool is_name = !zone.empty() && zone.size() <= kMaxZone &&
                       std::all_of(zone.begin(), zone.end(), is_host_char);
  if (!is_name)
    return fmt::format("'{}': the zone behind % must be the name of an interface", text);
  return {};
}

// What is wrong with a host as it is written, in brackets or not; empty: nothing. `bare`: gets it
// without its brackets.
std::string check_host(std::string_view host, std::string_view text, std::string_view& bare) {
  bare = host;
  if (host.empty()) return fmt::format("'{}' has no host", text);
  if (host.front() == '[') {
    if (host.size() < 4 || host.back() != ']') return fmt::format("'{}' is not an address", text);
    bare = host.substr(1, host.size() - 2);
    const std::string_view number = bare.substr(0, bare.find('%'));
    if (!std::all_of(number.begin(), number.end(), is_ipv6_char) ||
        number.find(':') == std::string_view::npos) {
      return fmt::format("'{}' has no IPv6 address in its brackets", text);
    }
    if (number.size() < bare.size())
      return check_zone(number, bare.substr(number.size() + 1), text);
    return {};
  }
  if (host.find(':') != std::string_view::npos) {
    return fmt::format("'{}': an IPv6 address must be in brackets", text);
  }
  if (host.size() > kMaxHost || !std::all_of(host.begin(), host.end(), is_host_char) ||
      (looks_like_ipv4(host) && !is_ipv4(host))) {
    return fmt::format("invalid host '{}' in '{}'", host, text);
  }
  return {};
}

// 0: it is none. A leading zero would be octal to some readers.
uint16_t parse_port(std::string_view text) {
  if (text.empty() || text[0] == '0' || !std::all_of(text.begin(), text.end(), is_digit)) return 0;
  uint16_t port = 0;
  auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), port);
  return error == std::errc() && end == text.data() + text.size() ? port : 0;
}

}  // namespace

std::string Address::to_string() const {
  if (host.empty()) return "";
  bool v6 = host.find(':') != std::string::npos;
  return v6 ? fmt::format("[{}]:{}", host, port) : fmt::format("{}:{}", host, port);
}

bool Address::is_loopback() const {
  return host == "localhost" || host == "::1" || host.starts_with("127.");
}

bool Address::is_wildcard() const { return host == "0.0.0.0" || host == "::"; }

tl::expected<Address, std::string> parse_address(std::string_view text) {
  auto wrong = [&](std::string what) {
    return tl::unexpected<std::string>(
        fmt::format("{}; must be host:port, such as 127.0.0.1:7101 or [::1]:7101", what));
  };
  const size_t colon = text.rfind(':');
  if (colon == std::string_view::npos) return wrong(fmt::format("'{}' has no port", text));
  std::string_view host;
  std::string problem = check_host(text.substr(0, colon), text, host);
  if (!problem.empty()) return wrong(std::move(problem));
  const uint16_t port = parse_port(text.substr(colon + 1));
  if (port == 0) return wrong(fmt::format("the port of '{}' must be 1 to 65535", text));
  return Address{std::string(host), port};
}

tl::expected<Address, std::string> parse_host(std::string_view text, uint16_t port) {
  const size_t colon = text.rfind(':');
  // The last colon of "[::1]" is none before a port.
  const bool has_port = colon != std::string_view::npos && !text.ends_with(']');
  if (has_port) return parse_address(text);
  std::string_view host;
  std::string problem = check_host(text, text, host);
  if (!problem.empty()) {
    return tl::unexpected(problem + "; must be a host, such as db1.example.org, or host:port");
  }
  return Address{std::string(host), port};
}

}  // namespace connectd
