// "host:port", as in configuration files and member lists. Text only; nothing is resolved here.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "base/error.h"

namespace connectd::wire {

struct Address {
  std::string host;  // a name, an IPv4 address, or an IPv6 address without its brackets
  uint16_t port = 0;
  bool operator==(const Address&) const = default;

  // "host:port"; an IPv6 address gets brackets.
  std::string to_string() const;
};

// Port 0 is allowed: where to listen, it means "any free one".
Result<Address> parse_address(std::string_view text);

}  // namespace connectd::wire
