#include "net/port_holder.h"

#include <arpa/inet.h>
#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cstring>
#include <fstream>
#include <optional>
#include <sstream>

#include "base/local_ports.h"

namespace connectd::net {
namespace {

namespace ip = boost::asio::ip;

// Reading a table takes the kernel long if there are many connections, and this happens again and
// again while a node waits for its port.
constexpr size_t kMaxLines = 64 << 10;
constexpr unsigned kListen = 0x0A;
constexpr unsigned kTimeWait = 0x06;

std::optional<uint32_t> from_hex(std::string_view digits) {
  uint32_t value = 0;
  const auto [end, error] =
      std::from_chars(digits.data(), digits.data() + digits.size(), value, 16);
  if (error != std::errc() || end != digits.data() + digits.size()) return std::nullopt;
  return value;
}

// "0100007F": words of 32 bits as this machine has them in memory, 1 or 4.
std::optional<ip::address> parse_address(std::string_view digits) {
  unsigned char bytes[16];
  if (digits.size() != 8 && digits.size() != 32) return std::nullopt;
  for (size_t i = 0; i < digits.size() / 8; ++i) {
    const auto word = from_hex(digits.substr(i * 8, 8));
    if (!word) return std::nullopt;
    std::memcpy(bytes + i * 4, &*word, 4);
  }
  if (digits.size() == 8) {
    ip::address_v4::bytes_type four;
    std::copy_n(bytes, 4, four.begin());
    return ip::address_v4(four);
  }
  ip::address_v6::bytes_type sixteen;
  std::copy_n(bytes, 16, sixteen.begin());
  const ip::address_v6 address(sixteen);
  if (address.is_v4_mapped()) return ip::make_address_v4(ip::v4_mapped, address);
  return address;
}

// Whether sockets of both addresses exclude each other on one port. :: takes IPv4, too, mostly.
bool overlap(const ip::address& a, const ip::address& b) {
  if (a.is_unspecified() || b.is_unspecified()) {
    return a.is_v4() == b.is_v4() || (a.is_unspecified() && a.is_v6()) ||
           (b.is_unspecified() && b.is_v6());
  }
  return a == b;
}

// The holder that one line of the table shows.
PortHolder holder_of(const std::string& line, const ip::tcp::endpoint& wanted) {
  std::istringstream fields(line);
  std::string slot, local, remote, state;
  fields >> slot >> local >> remote >> state;
  const size_t colon = std::min(local.find(':'), local.size());
  const auto address = parse_address(std::string_view(local).substr(0, colon));
  const auto port = from_hex(std::string_view(local).substr(std::min(colon + 1, local.size())));
  const auto number = from_hex(state);
  if (!address || !port || !number) return PortHolder::kUnlisted;
  if (*port != wanted.port() || !overlap(*address, wanted.address())) return PortHolder::kUnlisted;
  return *number == kListen     ? PortHolder::kListener
         : *number == kTimeWait ? PortHolder::kTimeWait
                                : PortHolder::kConnection;
}

// How to keep connections away from the port.
std::string exclusion(uint16_t port, std::string_view key) {
  const std::string range = EphemeralPorts::read().text();
  return fmt::format(
      "keep it from outgoing connections (sysctl -w net.ipv4.ip_local_reserved_ports={}), or set "
      "{} to a port outside of net.ipv4.ip_local_port_range{}",
      port, key, range.empty() ? "" : fmt::format(" ({})", range));
}

}  // namespace

PortHolder look_for_holder(std::istream& table, const ip::tcp::endpoint& wanted) {
  std::string line;
  if (!std::getline(table, line)) return PortHolder::kUnknown;  // the titles
  PortHolder holder = PortHolder::kUnlisted;
  for (size_t lines = 0; std::getline(table, line); ++lines) {
    if (lines == kMaxLines) return PortHolder::kUnknown;
    holder = std::max(holder, holder_of(line, wanted));
    if (holder == PortHolder::kListener) break;
  }
  return holder;
}

PortHolder look_for_holder(const ip::tcp::endpoint& wanted) {
  // Not /proc/net, which ProcSubset=pid of the unit hides.
  std::ifstream four("/proc/self/net/tcp");
  std::ifstream six("/proc/self/net/tcp6");
  const PortHolder one = look_for_holder(four, wanted);
  const PortHolder other = look_for_holder(six, wanted);  // kUnknown: a machine without IPv6
  if (one == PortHolder::kUnknown && other == PortHolder::kUnlisted) return one;
  return std::max(one, other);
}

std::string advice(PortHolder holder, uint16_t port, std::string_view key) {
  switch (holder) {
    case PortHolder::kListener:
      return fmt::format("another process listens there: `ss -ltnp sport = :{}` shows which", port);
    case PortHolder::kConnection:
      return fmt::format("a connection has it: `ss -tanp sport = :{}` shows which; {}", port,
                         exclusion(port, key));
    case PortHolder::kTimeWait:
      return fmt::format(
          "a connection that has ended keeps it for a minute (TIME-WAIT; `ss -tan sport = :{}`): "
          "wait, and {}",
          port, exclusion(port, key));
    case PortHolder::kUnlisted:
      return fmt::format(
          "a process has bound it and does not listen yet: `ss -tBnp sport = :{}` shows which, "
          "where ss knows -B",
          port);
    case PortHolder::kUnknown:
      break;
  }
  return fmt::format(
      "`ss -tanp sport = :{}` shows who has it: a listener, a connection, or what is left of one "
      "for a minute (TIME-WAIT)",
      port);
}

}  // namespace connectd::net
