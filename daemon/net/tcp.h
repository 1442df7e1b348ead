// What the ports for peers, clients and HTTP have in common: how one is opened, and what their
// connections are set to. On the thread of the caller.
#pragma once

#include <boost/asio/ip/tcp.hpp>
#include <string>
#include <string_view>
#include <utility>

#include "base/address.h"
#include "base/error.h"

namespace connectd::net {

struct Port {
  std::string_view whom;  // for the error texts: "clients"
  std::string_view key;   // of the configuration: "listen.client"
  int backlog;            // connections that wait to be accepted
};
inline constexpr Port kPeerPort{"peers", "listen.peer", 128};
inline constexpr Port kClientPort{"clients", "listen.client", 1024};
inline constexpr Port kHttpPort{"HTTP", "listen.http", 128};

// A port of this machine that nobody else can get. Connections are refused until listen().
class BoundPort final {
 public:
  using tcp = boost::asio::ip::tcp;

  // To `endpoint`, which `address` was resolved to. Does not wait. kPermission when the port is not
  // for this user, kAddressInUse, kNoSuchAddress when this machine does not have the address, else
  // kCannotListen.
  static Result<BoundPort> bind(const Address& address, const tcp::endpoint& endpoint,
                                const Port& port);
  BoundPort(BoundPort&& other) noexcept;
  BoundPort(const BoundPort&) = delete;
  BoundPort& operator=(const BoundPort&) = delete;
  ~BoundPort();

  // As the configuration has it, and what it is.
  const Address& address() const { return address_; }
  const tcp::endpoint& endpoint() const { return endpoint_; }
  // "db1:7101", or "db1:7101 bound=10.0.0.11:7101" where the address is a name.
  std::string text() const;

  // Hands the socket over to `acceptor`. Once. The same errors; then `acceptor` is closed.
  Result<void> listen(tcp::acceptor& acceptor);

 private:
  BoundPort(int socket, Address address, const tcp::endpoint& endpoint, const Port& port)
      : socket_(socket), address_(std::move(address)), endpoint_(endpoint), port_(port) {}

  int socket_;  // -1: handed over
  Address address_;
  tcp::endpoint endpoint_;
  Port port_;
};

// "10.0.0.7:7001", "[::1]:7001".
std::string endpoint_text(const boost::asio::ip::tcp::endpoint& endpoint);

// Binds `acceptor` to the address and listens. Blocks while a name is resolved. kPermission when
// the port is not for this user, kBadConfig when the name is unknown, kAddressInUse, else
// kCannotListen; then `acceptor` is closed.
Result<void> listen(boost::asio::ip::tcp::acceptor& acceptor, const Address& address,
                    const Port& port);

struct KeepAlive {
  int idle_seconds;  // without traffic, until the first probe
  int interval_seconds;
  int probes;
  int user_timeout_ms = 0;  // for what was sent and is not acknowledged; 0: the kernel's, minutes
};

// Small packets leave at once, and a peer that is gone is noticed.
void set_options(boost::asio::ip::tcp::socket& socket, const KeepAlive& keep_alive);

}  // namespace connectd::net
