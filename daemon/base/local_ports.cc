#include "base/local_ports.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <fstream>
#include <iterator>
#include <optional>

namespace connectd {
namespace {

// Skips blanks, takes a number.
std::optional<uint16_t> take_number(std::string_view& text) {
  text.remove_prefix(std::min(text.find_first_not_of(" \t"), text.size()));
  uint16_t number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc()) return std::nullopt;
  text.remove_prefix(static_cast<size_t>(end - text.data()));
  return number;
}

std::string read_file(const char* path) {
  std::ifstream in(path);
  return {std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>()};
}

}  // namespace

EphemeralPorts EphemeralPorts::read() {
  return parse(read_file("/proc/sys/net/ipv4/ip_local_port_range"),
               read_file("/proc/sys/net/ipv4/ip_local_reserved_ports"));
}

EphemeralPorts EphemeralPorts::parse(std::string_view range, std::string_view reserved) {
  EphemeralPorts ports;
  const auto first = take_number(range);
  const auto last = take_number(range);
  if (!first || !last) return ports;
  ports.range_ = {*first, *last};
  while (const auto from = take_number(reserved)) {
    auto to = from;
    if (reserved.starts_with('-')) {
      reserved.remove_prefix(1);
      to = take_number(reserved);
    }
    if (!to) break;
    ports.reserved_.emplace_back(*from, *to);
    if (!reserved.starts_with(',')) break;
    reserved.remove_prefix(1);
  }
  return ports;
}

bool EphemeralPorts::contains(uint16_t port) const {
  const auto has = [port](const Range& range) {
    return range.first <= port && port <= range.second;
  };
  return has(range_) && std::ranges::none_of(reserved_, has);
}

std::string EphemeralPorts::text() const {
  if (range_.first > range_.second) return {};
  return fmt::format("{} to {}", range_.first, range_.second);
}

}  // namespace connectd
