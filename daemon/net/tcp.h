// What the ports for peers, clients and HTTP have in common: how one is opened, and what their
// connections are set to. On the thread of the caller.
#pragma once

#include <boost/asio/ip/tcp.hpp>
#include <string_view>

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
