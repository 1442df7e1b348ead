// The connections between this node and its peers over TCP: the production side of
// wire/transport.h. Accepts, keeps a socket for each channel, and drives Peers, which says what
// happens on them (peers.h).
//
// Nothing here waits: sends go to the socket as far as it takes them, the rest to a bounded buffer.
// Loop thread only.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "base/address.h"
#include "base/error.h"
#include "base/types.h"
#include "net/port_tls.h"
#include "net/tcp.h"
#include "tls/handshakes.h"
#include "transport/peers.h"
#include "wire/transport.h"

namespace boost::asio {
class io_context;
}

namespace connectd::transport {

class PeerNetwork final : public wire::Transport {
 public:
  // `io` and `handler` must live until stop().
  PeerNetwork(boost::asio::io_context& io, const PeersOptions& options,
              wire::TransportHandler& handler, PeersHooks hooks);
  ~PeerNetwork() override;
  PeerNetwork(const PeerNetwork&) = delete;
  PeerNetwork& operator=(const PeerNetwork&) = delete;

  // From now on. Connections that stand and would be refused now are closed. `handshakes` may be
  // null with TLS off, and must live until stop(); `cluster` is its name.
  void set_tls(const net::PortTls& tls, tls::Handshakes* handshakes, const std::string& cluster);

  // Binds and accepts. At start-up: resolving a name may wait.
  Result<> listen(const Address& address);
  Result<> listen(net::BoundPort port);  // the same on a port that is bound already
  uint16_t listen_port() const;          // 0 before listen()

  // See Peers.
  void set_peers(const std::map<NodeId, std::vector<Address>>& peers);
  void recheck_peers();
  void set_probe_timeout(std::chrono::milliseconds timeout);
  void send(NodeId to, wire::PeerMessage message) override;
  void flush() override;

  // Closes everything; no call to the handler or the hooks comes after. Also what the destructor
  // does.
  void stop();

  std::map<NodeId, PeerCounters> counters() const;
  std::vector<NodeId> plain_peers() const;
  bool has_tried_all() const;

 private:
  class Impl;
  std::shared_ptr<Impl> impl_;
};

}  // namespace connectd::transport
