// The port that clients talk to: accepts connections and bounds their number. connection.h drives
// one of them, conversation.h knows its protocol.
//
// Loop thread only.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "auth/policy.h"
#include "auth/token_checker.h"
#include "base/address.h"
#include "base/error.h"
#include "client/client_port_options.h"
#include "net/port_tls.h"
#include "net/tcp.h"
#include "node/service.h"
#include "tls/handshakes.h"

namespace boost::asio {
class io_context;
}

namespace connectd::client {

class ClientPort final {
 public:
  // `io` and `service` must live until stop(). `tokens`: the node's, shared with its other ports.
  ClientPort(boost::asio::io_context& io, const ClientPortOptions& options, node::Service& service,
             std::shared_ptr<auth::TokenChecker> tokens);
  ~ClientPort();
  ClientPort(const ClientPort&) = delete;
  ClientPort& operator=(const ClientPort&) = delete;

  // Binds and accepts. At start-up: resolving a name may wait.
  Result<> listen(const Address& address);
  Result<> listen(net::BoundPort port);  // the same on a port that is bound already
  uint16_t listen_port() const;          // 0 when not listening

  // From now on. Connections that would be refused now end: at once with a certificate that is not
  // good any longer, else when no reply is owed. `handshakes` may be null with TLS off, and must
  // live until stop().
  void set_tls(const net::PortTls& tls, tls::Handshakes* handshakes);

  // What clients may do from the next request on, as a reload says, too: that of who shows no
  // certificate, and that of the certificates of this cluster. Without a call, all.
  void set_access(std::shared_ptr<const auth::Policy> policy, std::string cluster);

  // Accepts no more; closes each connection when it owes no reply, at the latest after `patience`.
  // Then calls `done`, once, from the loop. Requests that still come go to the node, which refuses
  // them.
  void drain(std::chrono::milliseconds patience, std::function<void()> done);
  // Closes everything at once. Also what the destructor does.
  void stop();

  size_t connections() const;
  const ClientPortCounters& counters() const;

 private:
  class Impl;
  std::shared_ptr<Impl> impl_;
};

}  // namespace connectd::client
