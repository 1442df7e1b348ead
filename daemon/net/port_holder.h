// Who has a port that this process cannot get. `ss -l` shows listeners only, but a connection of
// this machine may have the port, too, or what is left of one. Reads /proc; any thread.
#pragma once

#include <boost/asio/ip/tcp.hpp>
#include <cstdint>
#include <istream>
#include <string>
#include <string_view>

namespace connectd::net {

enum class PortHolder : uint8_t {
  kUnknown,     // /proc cannot be read, or is too long
  kUnlisted,    // no listener and no connection: a process has bound it and does not listen
  kTimeWait,    // only what is left of connections that have ended
  kConnection,  // a connection
  kListener,
};

// The holder that comes last in the enum. `table`: /proc/net/tcp or tcp6. kUnknown: it has no first
// line, or more than 64 Ki lines. Format: proc_pid_net(5).
PortHolder look_for_holder(std::istream& table, const boost::asio::ip::tcp::endpoint& wanted);
// In the tables of this process's network namespace.
PortHolder look_for_holder(const boost::asio::ip::tcp::endpoint& wanted);

// What the operator can do, for an error text. `key`: of the configuration, "listen.client".
std::string advice(PortHolder holder, uint16_t port, std::string_view key);

}  // namespace connectd::net
