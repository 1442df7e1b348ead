// The connections between this node and its peers: the production side of wire/transport.h.
//
// Each node dials every peer and sends on the connection it dialled; it receives on the connections
// that its peers dialled. Both sides of each connection say who they are first (wire/handshake.h),
// and either may refuse. A dialled connection that breaks is dialled again, with back-off and
// jitter, at the peer's addresses in turn, each time resolved anew; a peer that dials us is dialled
// back at once, also where it says that it wants to be dialled: so a new member that is dialled by
// one it does not know can answer.
//
// A peer is reached when the connection dialled to it is accepted, and lost when either direction
// breaks: a killed leader is noticed by whichever end hears of it first. After a loss it is reached
// again when both stand again.
//
// Nothing here waits: sends go to the socket as far as it takes them, the rest to a bounded buffer.
// A buffer that overflows breaks the connection, so that what arrives has no gaps. Loop thread
// only.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/address.h"
#include "base/error.h"
#include "base/types.h"
#include "wire/transport.h"

namespace boost::asio {
class io_context;
}

namespace connectd::transport {

struct PeerNetworkOptions {
  NodeId self;
  uint64_t seed = 0;  // of the jitter
  std::chrono::milliseconds reconnect_min{20};
  std::chrono::milliseconds reconnect_max{1000};
  // Resolving, connecting and the handshake together.
  std::chrono::milliseconds handshake_timeout{3000};
  // Encoded and not yet taken by the socket, for each peer.
  size_t output_bytes_max = size_t{64} << 20;
};

// Bounds that are not options.
inline constexpr size_t kMaxPeers = 128;  // known ids, and strangers that were let in
inline constexpr size_t kMaxPendingHandshakes =
    64;  // accepted connections that have not said hello

struct PeerCounters {
  uint64_t messages_sent = 0;  // encoded into the buffer
  uint64_t bytes_sent = 0;
  uint64_t messages_dropped = 0;  // not connected, buffer full, or over the frame limit
  uint64_t messages_received = 0;
  uint64_t bytes_received = 0;
  uint64_t times_reached = 0;
  uint64_t times_lost = 0;
};

struct PeerNetworkHooks {
  // What this node says of itself at this moment; the transport fills in `to`.
  std::function<wire::Hello()> hello;
  // What the node has against a peer beyond wire::check_hello(): its disk, its membership. Nothing:
  // welcome.
  std::function<std::optional<wire::Refusal>(const wire::Hello&)> check;
  // A peer refused this node. Some reasons mean that this node must not run: the node decides.
  std::function<void(NodeId peer, const wire::Refusal&)> on_refused;
};

class PeerNetwork final : public wire::Transport {
 public:
  // `io` and `handler` must live until stop().
  PeerNetwork(boost::asio::io_context& io, const PeerNetworkOptions& options,
              wire::TransportHandler& handler, PeerNetworkHooks hooks);
  ~PeerNetwork() override;
  PeerNetwork(const PeerNetwork&) = delete;
  PeerNetwork& operator=(const PeerNetwork&) = delete;

  // Binds and accepts. At start-up: resolving a name may wait.
  Result<> listen(const Address& address);
  uint16_t listen_port() const;  // 0 before listen()

  // All peers, without this node, each with the addresses to try in turn. Who is no longer in the
  // list is disconnected; a connection that stands is kept when addresses change.
  void set_peers(const std::map<NodeId, std::vector<Address>>& peers);

  // What this node says of itself has changed: a peer that would be refused now is disconnected.
  // It is told why when it connects again.
  void recheck_peers();

  void send(NodeId to, wire::PeerMessage message) override;
  void flush() override;

  // Closes everything; no call to the handler or the hooks comes after. Also what the destructor
  // does.
  void stop();

  std::map<NodeId, PeerCounters> counters() const;

 private:
  class Impl;
  std::shared_ptr<Impl> impl_;
};

}  // namespace connectd::transport
