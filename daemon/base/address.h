// "host:port", as in configuration files, on command lines and in member lists. Text only; nothing
// is resolved here. Values; any thread.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <tl/expected.hpp>

namespace connectd {

// "10.0.0.11:7101", "[::1]:7101", "[fe80::1%eth0]:7101", "db1.example.org:7101".
struct Address {
  // A name, an IPv4 address, or an IPv6 address without its brackets; "fe80::1%eth0".
  std::string host;
  uint16_t port = 0;  // 0: no address; where to listen, any free port

  bool operator==(const Address&) const = default;
  explicit operator bool() const { return port != 0; }
  // "host:port", an IPv6 host in brackets; "" for no address.
  std::string to_string() const;
  // 127.0.0.0/8, ::1 or localhost.
  bool is_loopback() const;
  // 0.0.0.0 or ::, which can be listened on and not dialled.
  bool is_wildcard() const;
};

// Strict: the port is 1 to 65535, an IPv6 host is in brackets, and only digits and dots are an IPv4
// address. The error says what is wrong with the text and how to write it.
tl::expected<Address, std::string> parse_address(std::string_view text);

// The same, but a text without a port has `port`: of a name whose port is understood, as in a URL.
tl::expected<Address, std::string> parse_host(std::string_view text, uint16_t port);

}  // namespace connectd
