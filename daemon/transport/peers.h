// Whom this node talks to, and on which connection: the protocol between nodes without a socket.
// PeerNetwork drives it with Asio, the simulator with a virtual network.
//
// Each node dials every peer and sends on the connection it dialled; it receives on the connections
// that its peers dialled. Both sides of each connection say who they are first (wire/handshake.h),
// and either may refuse. A dialled connection that breaks is dialled again, with back-off and
// jitter, at the peer's addresses in turn. A peer that dials this node is dialled back at once,
// also at the port that its hello gives, of the host that it dialled from: this lets a new member
// answer a node that it does not know yet.
//
// A peer is reached whenever a dialled connection is accepted. It is lost when either direction
// breaks: a killed leader is noticed by whichever end hears of it first. If only the accepted one
// broke, it is reached again when the peer dials again.
//
// Two processes of one node id (a copied machine) must not both count. A hello with another
// incarnation than the connection that stands, or without one, is held, and the process at the
// other end of that connection is probed: if it answers, the newcomer is refused; if it does not
// within probe_timeout, the newcomer takes its place
// (docs/adr/0036-two-processes-of-one-node.md).
//
// A connection is replaced without a gap when it should be inside TLS and is not, or the other way
// round: the dialler dials another one whose hello says so, ends the first one behind its last
// message, and sends on the second one when the peer, which has read all of the first, has closed
// it. Neither side counts that as a loss.
//
// The driver reports what happens to connections, and after each call carries out take_work().
// Output that a peer does not take is bounded. Beyond the bound, and when a message is over the
// frame limit, the connection breaks, so that what arrives has no gaps. One thread.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "base/address.h"
#include "base/clock.h"
#include "base/random.h"
#include "base/types.h"
#include "transport/channel.h"
#include "wire/limits.h"
#include "wire/transport.h"

namespace connectd::transport {

struct PeersOptions {
  NodeId self;
  uint64_t seed = 0;  // of the jitter
  std::chrono::milliseconds reconnect_min{20};
  std::chrono::milliseconds reconnect_max{1000};
  // Resolving, connecting and the handshake together.
  std::chrono::milliseconds handshake_timeout{3000};
  // How long a standing connection may take to answer a probe: an election timeout.
  std::chrono::milliseconds probe_timeout{500};
  // Encoded and not yet taken by the socket, for each peer.
  size_t output_bytes_max = wire::kMaxLinkOutputBytes;
  // The highest version of the protocol that this node announces. Lower: a stand-in for an older
  // build, in tests and the simulator.
  uint16_t protocol_max = wire::kPeerProtocolMax;
};

// Bounds that are not options.
// Strangers: let in, and not on the list. One more, and one of them gives way (room.h).
inline constexpr size_t kMaxStrangers = 16;
// Of the messages that strangers have begun, together: more, and who has sent most is cut off. One
// may be the leader of a node that missed how it became a member, and sends what a leader sends.
inline constexpr size_t kMaxStrangersBytes = 2 * wire::kMaxFrameBytes;
// Accepted connections that have not said hello; and as many that were refused and are closing.
// One more, and one of them gives way (room.h). Who says hello before so many others have come
// behind it is heard, however many come.
inline constexpr size_t kMaxPendingHandshakes = 64;
// Bytes of answers to probes that a peer leaves unread.
inline constexpr size_t kMaxUnreadAnswers = 4096;

// Between attempts to replace a connection.
inline constexpr std::chrono::milliseconds kReplaceAgain{5000};

// Between dials to strangers: all of them together.
inline constexpr std::chrono::milliseconds kStrangerDialGap{250};

struct PeerCounters {
  uint64_t messages_sent = 0;  // encoded into the buffer
  uint64_t bytes_sent = 0;
  uint64_t messages_dropped = 0;  // not connected, buffer full, or over the frame limit
  uint64_t messages_received = 0;
  uint64_t bytes_received = 0;
  uint64_t times_reached = 0;
  uint64_t times_lost = 0;
};

struct PeersHooks {
  // What this node says of itself at this moment; Peers fills in `to`.
  std::function<wire::Hello()> hello;
  // What the node has against a peer beyond wire::check_hello(): its disk, its membership. Nothing:
  // welcome.
  std::function<std::optional<wire::Refusal>(const wire::Hello&)> check;
  // A peer refused the hello that this node wrote at `hello_at`. Some reasons mean that this node
  // must not run: the node decides.
  std::function<void(NodeId peer, const wire::Refusal&, Time hello_at)> on_refused;
};

// What the driver has to do, in this order.
struct SocketWork {
  struct Dial {
    std::shared_ptr<Channel> channel;
    Address address;  // a name is resolved anew
  };
  std::vector<Dial> dial;
  // unsent() has something: write what the socket takes, the rest when it takes more. Of one that
  // is_closing(), shut down the sending side behind the last byte.
  std::vector<std::shared_ptr<Channel>> write;
  // Close at once, without a report. An attempt that is under way ends.
  std::vector<std::shared_ptr<Channel>> close;

  bool empty() const { return dial.empty() && write.empty() && close.empty(); }
  // Keeps the memory: a flush costs no allocation.
  void clear() {
    dial.clear();
    write.clear();
    close.clear();
  }
};

class Peers final : public wire::Transport {
 public:
  using ChannelPtr = std::shared_ptr<Channel>;

  // `handler` must live until stop(). It may call any function but received() from inside.
  Peers(const PeersOptions& options, wire::TransportHandler& handler, PeersHooks hooks)
      : options_(options), handler_(handler), hooks_(std::move(hooks)), random_(options.seed) {}

  // All peers, without this node, each with the addresses to try in turn. Peers that are no longer
  // listed are disconnected, and those that are refused now; a connection is kept when addresses
  // change.
  void set_peers(const std::map<NodeId, std::vector<Address>>& peers, Time now);
  // This node's hello has changed. Disconnects peers whose hello is refused now, and all that have
  // dialled this node and are not reached yet; they are told why when they connect again.
  void recheck_peers(Time now);
  // Whether connections are dialled inside TLS, and whether plain ones and ones inside TLS are
  // taken. Those that stand and should not are replaced, or ended when the peer has to do it.
  void set_tls(bool dials_tls, bool takes_plain, bool takes_tls, Time now);
  // The cluster's election timeout has changed.
  void set_probe_timeout(std::chrono::milliseconds timeout) { options_.probe_timeout = timeout; }

  void send(NodeId to, wire::PeerMessage message) override;
  void flush() override;

  // ---- from the driver
  // A connection came in. None: this is stopped; close it.
  ChannelPtr accepted(std::string remote, Time now);
  void accept_failed(const std::string& why);
  // Refuses a connection that was accepted just now, before it says hello.
  void turn_away(const ChannelPtr& channel, const wire::Refusal& refusal, Time now);
  // Its TLS handshake failed, before it was one.
  void handshake_failed(const std::string& remote, const std::string& why);
  // How a Dial ended.
  void connected(const ChannelPtr& channel, std::string remote, Time now);
  void dial_failed(const ChannelPtr& channel, const std::string& why, Time now);
  // Bytes were read into channel->read_space().
  void received(const ChannelPtr& channel, size_t bytes, Time now);
  // The other side has closed it, behind its last byte.
  void ended(const ChannelPtr& channel, Time now);
  // The connection failed.
  void broken(const ChannelPtr& channel, const std::string& why, Time now);
  // Looks at what is due; to be called at next_deadline(), which any other call may change.
  void advance(Time now);
  Time next_deadline() const;

  // Swaps what is to be done into `out`, which must be empty.
  void take_work(SocketWork& out) { std::swap(work_, out); }

  // Closes everything; no call to the handler or the hooks comes after.
  void stop();

  std::map<NodeId, PeerCounters> counters() const;
  // The peers with a connection, of either direction, that is not inside TLS.
  std::vector<NodeId> plain_peers() const;
  // Every listed peer has answered, refused or failed at least once.
  bool has_tried_all() const;

 private:
  // Another process that says it is this peer, while a connection of the first one stands.
  struct Newcomer {
    ChannelPtr channel;  // dialled or accepted; held
    wire::Hello hello;
    uint64_t probe = 0;  // the number that the first one must answer
    Time until;
  };
  struct Peer {
    explicit Peer(NodeId peer_id) : id(peer_id) {}
    const NodeId id;
    std::vector<Address> addresses;  // none: not on the list
    std::optional<Address> hint;     // where else it may be dialled, while `in` stands
    size_t next_address = 0;
    Address dialled;           // last
    std::string reached_host;  // that answered last
    std::chrono::milliseconds back_off{0};
    Time redial_at = Time::max();
    ChannelPtr out;          // dialled; before and after its handshake
    bool is_out_up = false;  // its handshake is done
    bool was_tried = false;  // an attempt to reach it has ended, whatever came of it
    Time up_since;           // then
    wire::Hello out_hello;
    ChannelPtr in;  // accepted, handshake done
    wire::Hello in_hello;
    std::optional<Newcomer> newcomer;
    // Replacements: of `out`, while it is dialled and shakes hands; the one that `out` has
    // replaced, until the peer has closed it; of `in`, until that ends.
    ChannelPtr next_out;
    ChannelPtr last_out;
    ChannelPtr next_in;
    wire::Hello next_in_hello;
    Time replace_at = Time::max();  // `out` has to be replaced then
    bool is_reached = false;        // what the handler was told last
    bool needs_flush = false;
    std::string break_reason;  // not empty: `out` breaks at the next advance(), see send()
    PeerCounters counters;
  };
  // Who is not on the list is forgotten when the connection that it dialled ends. A handler that is
  // called may take any peer off the list.
  using PeerPtr = std::shared_ptr<Peer>;

  void on_handshake(const ChannelPtr& channel, const wire::Handshake& handshake, Time now);
  void on_refusal(const ChannelPtr& channel, const wire::Refusal& refusal, Time now);
  void on_message(const ChannelPtr& channel, Channel::Message message, Time now);
  void welcome(const ChannelPtr& channel, const wire::Hello& hello, Time now);
  void answered(const PeerPtr& peer, const wire::Hello& hello, Time now);
  void on_probe(const ChannelPtr& channel, const wire::Probe& probe, Time now);
  bool has_other_process(const Peer& peer, const wire::Hello& hello) const;
  static bool is_standing(const Peer& peer, const wire::Hello& hello);
  void hold(const PeerPtr& peer, const ChannelPtr& channel, const wire::Hello& hello, Time now);
  void send_probe(Peer& peer, Time now);
  static wire::Refusal twin_refusal(const Peer& peer, const Channel& stands, const Channel& other);
  static wire::Refusal disk_refusal(const Peer& peer, const Channel& stands, const Channel& other);
  void refuse_newcomer(const PeerPtr& peer, const ChannelPtr& stands, Time now);
  void admit_newcomer(const PeerPtr& peer, Time now);
  void settle_newcomer(const PeerPtr& peer, Time now);
  void end_probe(const PeerPtr& peer, Time now);
  void drop_newcomer(Peer& peer, Time now);
  // Replacements.
  bool should_replace(const Peer& peer) const;
  void replace_later(Peer& peer, Time at);
  void dial_replacement(Peer& peer, Time now);
  void replacement_failed(Peer& peer, const std::string& why, Time now);
  void answered_replacement(const PeerPtr& peer, const wire::Hello& hello, Time now);
  bool park_replacement(Peer& peer, const ChannelPtr& channel, const wire::Hello& mine,
                        const wire::Hello& hello, Time now);
  void take_replacement(Peer& peer);
  void write_out(Peer& peer);
  ChannelPtr in_excess(bool (Channel::*is_of_kind)() const) const;
  std::set<std::string> member_hosts() const;
  void refuse(const ChannelPtr& channel, const wire::Refusal& refusal, bool says_magic, Time now);
  std::optional<wire::Refusal> judge(const wire::Hello& mine, const wire::Hello& theirs) const;
  wire::Hello hello_to(NodeId peer) const;

  void dial(Peer& peer, Time now);
  void dial_later(Peer& peer, std::chrono::milliseconds least, Time now);
  void close(const ChannelPtr& channel);
  void drop_out(Peer& peer);
  void drop_in(Peer& peer);
  void drop_refused(const PeerPtr& peer, Time now);
  static uint64_t log_key(const Peer& peer);
  void make_room_for_stranger(Time now);
  void bound_strangers_bytes(Time now);
  // To be called after the handler was told.
  void forget_if_unlisted(const PeerPtr& peer);
  void tell_reached(const PeerPtr& peer);
  void tell_lost(const PeerPtr& peer);
  PeerPtr find(NodeId id) const;
  // The peer whose connection of this direction this is.
  PeerPtr find_out(const ChannelPtr& channel) const;
  PeerPtr find_in(const ChannelPtr& channel) const;
  // A replacement's, or what it has replaced.
  PeerPtr find_replaced(const ChannelPtr& channel) const;

  PeersOptions options_;
  wire::TransportHandler& handler_;
  PeersHooks hooks_;
  Random random_;
  std::map<NodeId, PeerPtr> peers_;
  // Of no peer: accepted and without a hello yet, or closing. By id.
  std::map<uint64_t, ChannelPtr> loose_;
  uint64_t next_channel_ = 1;
  uint64_t next_probe_ = 1;
  Time next_stranger_dial_{};
  SocketWork work_;
  bool dials_tls_ = false;
  bool is_stopped_ = false;
};

}  // namespace connectd::transport
