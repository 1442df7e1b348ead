#include "transport/peer_network.h"

#include <fmt/format.h>

#include <algorithm>
#include <boost/asio/connect.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/steady_timer.hpp>
#include <set>
#include <utility>

#include "base/address.h"
#include "base/log.h"
#include "base/random.h"
#include "net/tcp.h"
#include "transport/link.h"

namespace connectd::transport {
namespace {

using boost::asio::ip::tcp;
using boost::system::error_code;
using std::chrono::milliseconds;
using SteadyTime = std::chrono::steady_clock::time_point;

constexpr auto kRepeatLogAfter = std::chrono::seconds(30);
constexpr auto kAcceptBackOff = milliseconds(100);

// Lets a line through unless one of the same kind went through a short time ago.
class LogGate {
 public:
  bool opens(const std::string& kind) {
    SteadyTime now = std::chrono::steady_clock::now();
    auto [last, is_new] = last_.try_emplace(kind, now);
    if (!is_new && now - last->second < kRepeatLogAfter) return false;
    last->second = now;
    if (last_.size() > kKindsMax) last_.clear();
    return true;
  }
  void reset() { last_.clear(); }

 private:
  static constexpr size_t kKindsMax = 64;
  std::map<std::string, SteadyTime> last_;
};

// A peer wrote it, and it goes to the log: one line of printable characters.
std::string printable(std::string text) {
  for (char& c : text) {
    if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) c = ' ';
  }
  return text;
}

}  // namespace

class PeerNetwork::Impl final : public std::enable_shared_from_this<PeerNetwork::Impl>,
                                public LinkOwner {
 public:
  Impl(boost::asio::io_context& io, const PeerNetworkOptions& options,
       wire::TransportHandler& handler, PeerNetworkHooks hooks)
      : io_(io),
        options_(options),
        handler_(handler),
        hooks_(std::move(hooks)),
        acceptor_(io),
        accept_timer_(io),
        random_(options.seed) {}

  Result<> listen(const Address& address);
  uint16_t listen_port() const {
    error_code ignored;  // not open: no port
    return acceptor_.local_endpoint(ignored).port();
  }
  void set_peers(const std::map<NodeId, std::vector<Address>>& peers);
  void recheck_peers();
  void send(NodeId to, wire::PeerMessage message);
  void flush();
  void stop();
  std::map<NodeId, PeerCounters> counters() const;

 private:
  // One attempt to reach a peer, from the name to the hello: its handlers know by `is_over` that
  // they come too late.
  struct Attempt {
    explicit Attempt(boost::asio::io_context& io) : resolver(io), socket(io), timer(io) {}
    tcp::resolver resolver;
    tcp::socket socket;
    boost::asio::steady_timer timer;
    std::string address;
    bool is_over = false;
  };
  struct Peer : std::enable_shared_from_this<Peer> {
    Peer(boost::asio::io_context& io, NodeId peer_id) : id(peer_id), redial(io) {}
    const NodeId id;
    std::vector<Address> addresses;  // none: not on the list
    std::optional<Address> hint;     // where it says that it wants to be dialled
    size_t next_address = 0;
    milliseconds back_off{0};
    bool is_waiting = false;  // for `redial`
    boost::asio::steady_timer redial;
    std::shared_ptr<Attempt> attempt;
    std::shared_ptr<Link> out;  // dialled; before and after its handshake
    bool is_out_up = false;     // its handshake is done
    wire::Hello out_hello;
    std::shared_ptr<Link> in;  // accepted, handshake done
    bool is_reached = false;   // what the handler was told last
    bool needs_flush = false;
    PeerCounters counters;
    LogGate gate;
  };

  // LinkOwner
  void on_handshake(Link& link, wire::Handshake handshake) override;
  void on_message(Link& link, wire::PeerMessage message, size_t frame_bytes) override;
  void on_broken(Link& link, std::string why) override;

  void accept();
  void on_accepted(error_code error, tcp::socket socket);
  void welcome(Link& link, const wire::Hello& hello);
  void answered(Peer& peer, Link& link, const wire::Hello& hello);
  void refuse(Link& link, const wire::Refusal& refusal, bool says_magic);
  std::optional<wire::Refusal> judge(const wire::Hello& mine, const wire::Hello& theirs) const;

  void dial(Peer& peer);
  void connect(Peer& peer, const std::vector<tcp::endpoint>& endpoints);
  void on_connected(Peer& peer, tcp::socket socket);
  void attempt_failed(Peer& peer, const std::string& why);
  void dial_later(Peer& peer, milliseconds least);
  void end_attempt(Peer& peer);

  void drop_out(Peer& peer);
  void tell_reached(Peer& peer);
  void tell_lost(Peer& peer);
  Peer* find(NodeId id);
  Peer* find_out(const Link& link);
  Peer* find_in(const Link& link);
  wire::Hello hello_to(NodeId peer) const {
    wire::Hello hello = hooks_.hello();
    hello.node_id = options_.self;
    hello.to = peer;
    return hello;
  }

  boost::asio::io_context& io_;
  const PeerNetworkOptions options_;
  wire::TransportHandler& handler_;
  PeerNetworkHooks hooks_;
  tcp::acceptor acceptor_;
  boost::asio::steady_timer accept_timer_;
  Random random_;
  std::map<NodeId, std::shared_ptr<Peer>> peers_;
  std::set<std::shared_ptr<Link>> strangers_;  // accepted, no hello yet
  LogGate accept_gate_;
  bool is_stopped_ = false;
};

// ---- listening

Result<> PeerNetwork::Impl::listen(const Address& address) {
  auto listening = net::listen(acceptor_, address, net::kPeerPort);
  if (!listening) return listening;
  accept();
  return {};
}

void PeerNetwork::Impl::accept() {
  acceptor_.async_accept([self = shared_from_this()](error_code error, tcp::socket socket) {
    self->on_accepted(error, std::move(socket));
  });
}

void PeerNetwork::Impl::on_accepted(error_code error, tcp::socket socket) {
  if (is_stopped_) return;
  if (error) {
    // Mostly a lack of descriptors: it would fail again at once.
    std::string text = fmt::format("accepting a peer's connection failed: {}", error.message());
    if (accept_gate_.opens(text)) LOG_WARNING("transport", "{}", text);
    accept_timer_.expires_after(kAcceptBackOff);
    accept_timer_.async_wait([self = shared_from_this()](error_code aborted) {
      if (!aborted && !self->is_stopped_) self->accept();
    });
    return;
  }
  if (strangers_.size() < kMaxPendingHandshakes) {
    auto link = std::make_shared<Link>(std::move(socket), *this);
    strangers_.insert(link);
    link->start(options_.handshake_timeout);
  } else if (std::string text = "too many connections to the peer port that say nothing";
             accept_gate_.opens(text)) {
    LOG_WARNING("transport", "{}; a new one was closed", text);
  }
  accept();
}

// ---- the handshake

std::optional<wire::Refusal> PeerNetwork::Impl::judge(const wire::Hello& mine,
                                                      const wire::Hello& theirs) const {
  auto refusal = wire::check_hello(mine, theirs);
  if (!refusal) refusal = hooks_.check(theirs);
  return refusal;
}

void PeerNetwork::Impl::refuse(Link& link, const wire::Refusal& refusal, bool says_magic) {
  std::string text = printable(refusal.text);
  if (accept_gate_.opens(text)) {
    LOG_WARNING("transport", "refused the connection with {}: {}", link.remote(), text);
  }
  if (says_magic) link.output().append(wire::kPeerMagic);
  wire::append_refusal(link.output(), refusal);
  link.close_after_output();
}

void PeerNetwork::Impl::on_handshake(Link& link, wire::Handshake handshake) {
  Peer* out = find_out(link);
  if (const auto* refusal = std::get_if<wire::Refusal>(&handshake)) {
    // The answer to our dialling, or the dialler's second thought about our answer.
    Peer* peer = out != nullptr ? out : find_in(link);
    if (peer == nullptr) {
      on_broken(link, "a refusal in place of a hello");
      return link.close();
    }
    NodeId id = peer->id;
    wire::Refusal copy{refusal->code, printable(refusal->text)};
    std::string text =
        fmt::format("node {} at {} refuses this node: {}", id, link.remote(), copy.text);
    if (peer->gate.opens(copy.text)) LOG_WARNING("transport", "{}", text);
    link.close();
    if (out != nullptr) {
      drop_out(*out);
      dial_later(*out, options_.reconnect_max);
    } else {
      peer->in = nullptr;
    }
    tell_lost(*peer);
    hooks_.on_refused(id, copy);
    return;
  }
  const auto& hello = std::get<wire::Hello>(handshake);
  if (out != nullptr) {
    answered(*out, link, hello);
  } else {
    welcome(link, hello);
  }
}

// A peer that dialled us says hello.
void PeerNetwork::Impl::welcome(Link& link, const wire::Hello& hello) {
  auto self = link.shared_from_this();
  strangers_.erase(self);
  wire::Hello mine = hello_to(hello.node_id);
  if (auto refusal = judge(mine, hello)) return refuse(link, *refusal, true);
  Peer* peer = find(hello.node_id);
  if (peer == nullptr) {
    if (peers_.size() >= kMaxPeers) {
      return refuse(link, {wire::RefusalCode::kOther, "this node has too many peers"}, true);
    }
    peer = peers_.emplace(hello.node_id, std::make_shared<Peer>(io_, hello.node_id))
               .first->second.get();
  }
  if (peer->in) {
    // The peer has restarted, or lost the connection before we did.
    std::exchange(peer->in, nullptr)->close();
    tell_lost(*peer);
    // The handler may have taken the peer off the list, or stopped us.
    if (is_stopped_ || find(hello.node_id) != peer) return link.close();
  }
  peer->in = self;
  if (auto hint = parse_address(hello.peer_address)) {
    peer->hint = *hint;
  }
  link.output().append(wire::kPeerMagic);
  wire::append_hello(link.output(), mine);
  link.handshake_done(true);
  link.write_now();
  if (!link.is_open()) return;
  LOG_DEBUG("transport", "node {} connected from {}", peer->id, link.remote());
  if (peer->is_out_up) {
    tell_reached(*peer);
  } else if (peer->is_waiting || (!peer->out && !peer->attempt)) {
    peer->back_off = milliseconds(0);  // it lives: no need to wait
    dial(*peer);
  }
}

// A peer that we dialled answers.
void PeerNetwork::Impl::answered(Peer& peer, Link& link, const wire::Hello& hello) {
  wire::Hello mine = hello_to(peer.id);
  std::optional<wire::Refusal> refusal;
  if (hello.node_id != peer.id) {
    refusal = wire::Refusal{
        wire::RefusalCode::kWrongNode,
        fmt::format("node {} wants to talk to node {}, but at {} is node {}: check the members' "
                    "peer addresses",
                    options_.self, peer.id, link.remote(), hello.node_id)};
  } else {
    refusal = judge(mine, hello);
  }
  if (refusal) {
    auto keep = link.shared_from_this();
    drop_out(peer);
    refuse(link, *refusal, false);
    return dial_later(peer, options_.reconnect_max);
  }
  link.handshake_done(false);
  peer.back_off = milliseconds(0);
  peer.is_out_up = true;
  peer.out_hello = hello;
  peer.gate.reset();
  LOG_INFO("transport", "connected to node {} at {}", peer.id, link.remote());
  tell_reached(peer);
}

void PeerNetwork::Impl::recheck_peers() {
  std::vector<NodeId> ids;
  for (const auto& [id, peer] : peers_) ids.push_back(id);
  for (NodeId id : ids) {
    // The handler may take peers off the list, or stop us.
    Peer* found = find(id);
    if (is_stopped_ || found == nullptr) continue;
    auto peer = found->shared_from_this();
    // Who has dialled us and has not been reached is judged when it dials again.
    const bool is_known = peer->is_out_up;
    if (!is_known && !peer->in) continue;
    if (is_known && !wire::check_hello(hello_to(id), peer->out_hello)) continue;
    if (peer->in) std::exchange(peer->in, nullptr)->close();
    if (is_known) {
      drop_out(*peer);
      dial_later(*peer, options_.reconnect_max);
    }
    tell_lost(*peer);
  }
}

// ---- dialling

void PeerNetwork::Impl::set_peers(const std::map<NodeId, std::vector<Address>>& peers) {
  std::vector<NodeId> gone;
  for (const auto& [id, peer] : peers_) {
    if (!peer->addresses.empty() && !peers.contains(id)) gone.push_back(id);
  }
  for (NodeId id : gone) {
    auto node = peers_.extract(id);
    if (node.empty()) continue;  // the handler, told of the one before, has called this again
    Peer& peer = *node.mapped();
    peer.addresses.clear();
    peer.hint.reset();
    peer.is_waiting = false;
    end_attempt(peer);
    drop_out(peer);
    peer.redial.cancel();
    if (peer.in) std::exchange(peer.in, nullptr)->close();
    tell_lost(peer);
  }
  for (const auto& [id, addresses] : peers) {
    CHECK(id != options_.self) << "a node is not its own peer";
    auto& peer = peers_[id];
    if (!peer) peer = std::make_shared<Peer>(io_, id);
    if (peer->addresses == addresses) continue;
    peer->addresses = addresses;
    peer->next_address = 0;
    if (!peer->out && !peer->attempt) dial(*peer);
  }
}

void PeerNetwork::Impl::end_attempt(Peer& peer) {
  if (!peer.attempt) return;
  auto attempt = std::exchange(peer.attempt, nullptr);
  attempt->is_over = true;
  attempt->timer.cancel();
  attempt->resolver.cancel();
  error_code ignored;  // closing what may not be open
  attempt->socket.close(ignored);
}

void PeerNetwork::Impl::dial(Peer& peer) {
  std::vector<Address> addresses = peer.addresses;
  if (peer.hint && std::ranges::find(addresses, *peer.hint) == addresses.end()) {
    addresses.push_back(*peer.hint);
  }
  if (is_stopped_ || addresses.empty()) return;
  CHECK(!peer.out && !peer.attempt) << "one connection to a peer at a time";
  peer.is_waiting = false;
  peer.redial.cancel();
  const Address& address = addresses[peer.next_address++ % addresses.size()];
  auto attempt = std::make_shared<Attempt>(io_);
  peer.attempt = attempt;
  attempt->address = address.to_string();
  attempt->timer.expires_after(options_.handshake_timeout);
  attempt->timer.async_wait([self = shared_from_this(), attempt, &peer](error_code aborted) {
    if (!aborted && !attempt->is_over) self->attempt_failed(peer, "no answer in time");
  });
  error_code error;
  auto number = boost::asio::ip::make_address(address.host, error);
  if (!error) return connect(peer, {tcp::endpoint(number, address.port)});
  attempt->resolver.async_resolve(
      address.host, std::to_string(address.port), tcp::resolver::numeric_service,
      [self = shared_from_this(), attempt, &peer](error_code failed,
                                                  const tcp::resolver::results_type& results) {
        if (attempt->is_over) return;
        if (failed) {
          return self->attempt_failed(
              peer, fmt::format("the name cannot be resolved: {}", failed.message()));
        }
        std::vector<tcp::endpoint> endpoints;
        for (const auto& result : results) endpoints.push_back(result.endpoint());
        self->connect(peer, endpoints);
      });
}

void PeerNetwork::Impl::connect(Peer& peer, const std::vector<tcp::endpoint>& endpoints) {
  auto attempt = peer.attempt;
  boost::asio::async_connect(
      attempt->socket, endpoints,
      [self = shared_from_this(), attempt, &peer](error_code error, const tcp::endpoint&) {
        if (attempt->is_over) return;
        if (error) return self->attempt_failed(peer, error.message());
        self->on_connected(peer, std::move(attempt->socket));
      });
}

void PeerNetwork::Impl::on_connected(Peer& peer, tcp::socket socket) {
  end_attempt(peer);
  auto link = std::make_shared<Link>(std::move(socket), *this);
  peer.out = link;
  link->output().append(wire::kPeerMagic);
  wire::append_hello(link->output(), hello_to(peer.id));
  link->start(options_.handshake_timeout);
  link->write_now();
}

void PeerNetwork::Impl::attempt_failed(Peer& peer, const std::string& why) {
  std::string text =
      fmt::format("cannot reach node {} at {}: {}", peer.id, peer.attempt->address, why);
  if (peer.gate.opens(text)) LOG_WARNING("transport", "{}; trying on", text);
  end_attempt(peer);
  dial_later(peer, milliseconds(0));
}

void PeerNetwork::Impl::dial_later(Peer& peer, milliseconds least) {
  if (is_stopped_ || peer.is_waiting) return;
  peer.back_off = std::clamp(std::max(peer.back_off * 2, least), options_.reconnect_min,
                             options_.reconnect_max);
  // Between a half and the whole: peers that broke together do not come back together.
  auto whole = static_cast<uint64_t>(peer.back_off.count());
  auto wait = milliseconds(random_.between((whole + 1) / 2, whole));
  peer.is_waiting = true;
  peer.redial.expires_after(wait);
  peer.redial.async_wait(
      [self = shared_from_this(), keep = peer.shared_from_this()](error_code aborted) {
        if (!aborted && keep->is_waiting) self->dial(*keep);
      });
}

// ---- up and down

void PeerNetwork::Impl::tell_reached(Peer& peer) {
  if (peer.is_reached) return;
  peer.is_reached = true;
  peer.counters.times_reached++;
  handler_.on_peer_reached(peer.id, peer.out_hello);
}

void PeerNetwork::Impl::tell_lost(Peer& peer) {
  if (!peer.is_reached) return;
  peer.is_reached = false;
  peer.counters.times_lost++;
  handler_.on_peer_lost(peer.id);
}

void PeerNetwork::Impl::drop_out(Peer& peer) {
  if (peer.out) std::exchange(peer.out, nullptr)->close();
  peer.is_out_up = false;
  peer.needs_flush = false;
}

void PeerNetwork::Impl::on_broken(Link& link, std::string why) {
  auto keep = link.shared_from_this();
  if (strangers_.erase(keep) > 0) {
    if (accept_gate_.opens(why)) {
      LOG_WARNING("transport",
                  "a connection from {} to the peer port ended before it said who it is: {}",
                  link.remote(), why);
    }
    return;
  }
  if (Peer* peer = find_out(link)) {
    if (peer->gate.opens("to: " + why)) {
      LOG_WARNING("transport", "lost the connection to node {} at {}: {}", peer->id, link.remote(),
                  why);
    }
    drop_out(*peer);
    dial_later(*peer, milliseconds(0));
    return tell_lost(*peer);
  }
  if (Peer* peer = find_in(link)) {
    if (peer->gate.opens("from: " + why)) {
      LOG_WARNING("transport", "lost the connection from node {} at {}: {}", peer->id,
                  link.remote(), why);
    }
    peer->in = nullptr;
    tell_lost(*peer);
  }
}

// ---- messages

void PeerNetwork::Impl::on_message(Link& link, wire::PeerMessage message, size_t frame_bytes) {
  Peer* peer = find_in(link);
  if (peer == nullptr) return;
  if (const auto* envelope = std::get_if<raft::Envelope>(&message);
      envelope != nullptr && (envelope->from != peer->id || envelope->to != options_.self)) {
    std::string why =
        fmt::format("it sent a message from node {} to node {}", envelope->from, envelope->to);
    auto keep = link.shared_from_this();
    link.close();
    return on_broken(link, std::move(why));
  }
  peer->counters.messages_received++;
  peer->counters.bytes_received += frame_bytes;
  handler_.on_message(peer->id, std::move(message));
}

void PeerNetwork::Impl::send(NodeId to, wire::PeerMessage message) {
  Peer* peer = find(to);
  if (peer == nullptr || is_stopped_) return;
  if (!peer->is_out_up || !peer->out->is_writable()) {
    peer->counters.messages_dropped++;
    return;
  }
  std::string& output = peer->out->output();
  size_t before = output.size();
  if (!wire::append_frame(output, message)) {
    peer->counters.messages_dropped++;
    LOG_ERROR("transport", "a message to node {} is over the limit of {} bytes and was dropped", to,
              wire::kMaxFrameBytes);
    return;
  }
  if (peer->out->output_bytes() > options_.output_bytes_max) {
    // Without a broken connection the peer would see a gap.
    peer->counters.messages_dropped++;
    peer->out->break_later(fmt::format("it does not keep up: over {} bytes wait to be sent",
                                       options_.output_bytes_max));
    return;
  }
  peer->counters.messages_sent++;
  peer->counters.bytes_sent += output.size() - before;
  peer->needs_flush = true;
}

void PeerNetwork::Impl::flush() {
  for (auto& [id, peer] : peers_) {
    if (!std::exchange(peer->needs_flush, false)) continue;
    peer->out->write_now();
  }
}

// ---- the rest

PeerNetwork::Impl::Peer* PeerNetwork::Impl::find(NodeId id) {
  auto it = peers_.find(id);
  return it == peers_.end() ? nullptr : it->second.get();
}

PeerNetwork::Impl::Peer* PeerNetwork::Impl::find_out(const Link& link) {
  for (auto& [id, peer] : peers_) {
    if (peer->out.get() == &link) return peer.get();
  }
  return nullptr;
}

PeerNetwork::Impl::Peer* PeerNetwork::Impl::find_in(const Link& link) {
  for (auto& [id, peer] : peers_) {
    if (peer->in.get() == &link) return peer.get();
  }
  return nullptr;
}

void PeerNetwork::Impl::stop() {
  if (is_stopped_) return;
  is_stopped_ = true;
  error_code ignored;  // closing what may not be open
  acceptor_.close(ignored);
  accept_timer_.cancel();
  for (const auto& link : strangers_) link->close();
  strangers_.clear();
  for (auto& [id, peer] : peers_) {
    end_attempt(*peer);
    drop_out(*peer);
    peer->redial.cancel();
    if (peer->in) std::exchange(peer->in, nullptr)->close();
  }
}

std::map<NodeId, PeerCounters> PeerNetwork::Impl::counters() const {
  std::map<NodeId, PeerCounters> out;
  for (const auto& [id, peer] : peers_) out.emplace(id, peer->counters);
  return out;
}

PeerNetwork::PeerNetwork(boost::asio::io_context& io, const PeerNetworkOptions& options,
                         wire::TransportHandler& handler, PeerNetworkHooks hooks)
    : impl_(std::make_shared<Impl>(io, options, handler, std::move(hooks))) {}
PeerNetwork::~PeerNetwork() { stop(); }
Result<> PeerNetwork::listen(const Address& address) { return impl_->listen(address); }
uint16_t PeerNetwork::listen_port() const { return impl_->listen_port(); }
void PeerNetwork::recheck_peers() { impl_->recheck_peers(); }

void PeerNetwork::set_peers(const std::map<NodeId, std::vector<Address>>& peers) {
  impl_->set_peers(peers);
}
void PeerNetwork::send(NodeId to, wire::PeerMessage message) {
  impl_->send(to, std::move(message));
}
void PeerNetwork::flush() { impl_->flush(); }
void PeerNetwork::stop() { impl_->stop(); }
std::map<NodeId, PeerCounters> PeerNetwork::counters() const { return impl_->counters(); }

}  // namespace connectd::transport
