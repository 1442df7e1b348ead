#include "transport/peer_network.h"

#include <fmt/format.h>

#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/steady_timer.hpp>
#include <functional>
#include <unordered_map>
#include <utility>
#include <vector>

#include "base/clock.h"
#include "base/log.h"
#include "net/names.h"
#include "net/stream.h"
#include "net/tcp.h"
#include "transport/link.h"

namespace connectd::transport {
namespace {

using boost::asio::ip::tcp;
using boost::system::error_code;

constexpr auto kExpiryInterval = std::chrono::seconds(1);
constexpr auto kHandshakeTimeout = std::chrono::seconds(3);
constexpr auto kAcceptBackOff = std::chrono::milliseconds(100);

Time now() { return read_clocks().time; }

}  // namespace

class PeerNetwork::Impl final : public std::enable_shared_from_this<PeerNetwork::Impl>,
                                public LinkOwner {
 public:
  Impl(boost::asio::io_context& io, const PeersOptions& options, wire::TransportHandler& handler,
       PeersHooks hooks)
      : io_(io),
        acceptor_(io),
        accept_timer_(io),
        expiry_timer_(io),
        timer_(io),
        names_(io),
        peers_(options, handler, std::move(hooks)) {}

  Result<> listen(const Address& address) {
    auto listening = net::listen(acceptor_, address, net::kPeerPort);
    if (listening) accept();
    return listening;
  }
  Result<> listen(net::BoundPort port) {
    auto listening = port.listen(acceptor_);
    if (listening) accept();
    return listening;
  }
  uint16_t listen_port() const {
    error_code ignored;  // not open: no port
    return acceptor_.local_endpoint(ignored).port();
  }
  void set_peers(const std::map<NodeId, std::vector<Address>>& peers) {
    peers_.set_peers(peers, now());
    carry_out();
  }
  void recheck_peers() {
    peers_.recheck_peers(now());
    carry_out();
  }
  void set_probe_timeout(std::chrono::milliseconds timeout) { peers_.set_probe_timeout(timeout); }
  void set_tls(const net::PortTls& tls, tls::Handshakes* handshakes, const std::string& cluster);
  void send(NodeId to, wire::PeerMessage message) { peers_.send(to, std::move(message)); }
  void flush() {
    peers_.flush();
    carry_out();
  }
  void stop();
  std::map<NodeId, PeerCounters> counters() const { return peers_.counters(); }
  std::vector<NodeId> plain_peers() const { return peers_.plain_peers(); }
  bool has_tried_all() const { return peers_.has_tried_all(); }

 private:
  // LinkOwner
  void on_connected(Link& link, const tcp::endpoint& remote) override {
    peers_.connected(link.channel(), net::endpoint_text(remote), now());
    carry_out();
  }
  void on_dial_failed(Link& link, const std::string& why) override {
    peers_.dial_failed(link.channel(), why, now());
    carry_out();
  }
  void on_read(Link& link, size_t bytes) override {
    peers_.received(link.channel(), bytes, now());
    carry_out();
  }
  void on_ended(Link& link) override {
    peers_.ended(link.channel(), now());
    carry_out();
  }
  void on_failed(Link& link, const std::string& why) override {
    peers_.broken(link.channel(), why, now());
    carry_out();
  }

  void accept();
  void on_accepted(error_code error, tcp::socket socket);
  void shake_hands(net::Stream stream, const std::string& remote);
  void shook_hands(net::Shaken& shaken, const std::string& remote);
  void admit(net::Stream stream, const std::string& remote);
  void break_sessions(const std::function<std::string(const tls::Session&)>& fault);
  void watch_expiry();
  void carry_out();
  void set_timer();

  boost::asio::io_context& io_;
  tcp::acceptor acceptor_;
  tcp::endpoint accepted_from_;  // written by accept(): a reset socket has no address any more
  boost::asio::steady_timer accept_timer_;
  boost::asio::steady_timer expiry_timer_;
  boost::asio::steady_timer timer_;  // for Peers::next_deadline()
  Time timer_is_for_ = Time::max();
  net::Names names_;
  net::PortTls tls_;
  tls::Handshakes* handshakes_ = nullptr;  // null: tls_ is off
  std::string cluster_;
  Peers peers_;
  std::unordered_map<uint64_t, std::shared_ptr<Link>> links_;  // by the channel's id
  SocketWork work_;                                            // empty but in carry_out()
  bool is_stopped_ = false;
};

// ---- accepting

void PeerNetwork::Impl::accept() {
  acceptor_.async_accept(accepted_from_,
                         [self = shared_from_this()](error_code error, tcp::socket socket) {
                           self->on_accepted(error, std::move(socket));
                         });
}

void PeerNetwork::Impl::on_accepted(error_code error, tcp::socket socket) {
  if (is_stopped_) return;
  if (error) {
    // Mostly a lack of descriptors: it would fail again at once.
    peers_.accept_failed(error.message());
    accept_timer_.expires_after(kAcceptBackOff);
    accept_timer_.async_wait([self = shared_from_this()](error_code aborted) {
      if (!aborted && !self->is_stopped_) self->accept();
    });
    return;
  }
  const std::string remote = net::endpoint_text(accepted_from_);
  if (tls_.takes_tls()) {
    shake_hands(net::Stream(std::move(socket)), remote);
  } else {
    admit(net::Stream(std::move(socket)), remote);
  }
  accept();
}

// On a thread for handshakes, which has the socket meanwhile.
void PeerNetwork::Impl::shake_hands(net::Stream stream, const std::string& remote) {
  const int socket = stream.release();
  if (socket < 0) return;
  auto done = [weak = weak_from_this(), remote](tls::Outcome outcome) {
    const auto self = weak.lock();
    auto shaken = std::make_shared<net::Shaken>(std::move(outcome));
    if (!self) return;
    boost::asio::post(self->io_, [self, remote, shaken] {
      if (!self->is_stopped_) self->shook_hands(*shaken, remote);
    });
  };
  tls::AcceptOptions options;
  options.takes = tls_.takes_plain() ? tls::Takes::kBoth : tls::Takes::kTlsOnly;
  options.demand = tls::Demand::kRequired;
  options.timeout = kHandshakeTimeout;
  handshakes_->accept(tls::Lane::kPeers, socket, tls_.credentials, options, std::move(done));
}

void PeerNetwork::Impl::shook_hands(net::Shaken& shaken, const std::string& remote) {
  if (shaken.outcome.fd < 0) return peers_.handshake_failed(remote, shaken.outcome.failure);
  net::Stream stream(io_);
  if (!stream.take(shaken)) admit(std::move(stream), remote);  // else it has gone
}

void PeerNetwork::Impl::admit(net::Stream stream, const std::string& remote) {
  const tls::Session* session = stream.session();
  std::optional<wire::Refusal> refusal;
  NodeId certified;
  if (session == nullptr && !tls_.takes_plain()) {
    refusal = wire::Refusal{wire::RefusalCode::kTls,
                            "this node takes peers only inside TLS: set tls.peer.mode of the node "
                            "that dials to prefer or require"};
  } else if (session != nullptr) {
    const auto id = tls::node_of(*session->other(), cluster_);
    if (id) {
      certified = *id;
    } else {
      refusal = wire::Refusal{
          wire::RefusalCode::kTls,
          fmt::format("the certificate names no node of cluster \"{}\": {} has no URI {} among its "
                      "alternative names",
                      cluster_, session->other()->subject, tls::node_uri(cluster_, NodeId(1)))};
    }
  }
  auto channel = peers_.accepted(remote, now());
  if (!channel) return;
  channel->set_certified(certified);
  auto link = std::make_shared<Link>(channel, std::move(stream), *this);
  links_.emplace(channel->id(), link);
  link->start();
  if (refusal) peers_.turn_away(channel, *refusal, now());
  carry_out();
}

// ---- TLS

void PeerNetwork::Impl::set_tls(const net::PortTls& tls, tls::Handshakes* handshakes,
                                const std::string& cluster) {
  tls_ = tls;
  handshakes_ = handshakes;
  cluster_ = cluster;
  if (tls_.credentials) {
    break_sessions(
        [this](const tls::Session& session) { return tls_.credentials->check(session); });
  }
  peers_.set_tls(tls_.dials_tls(), tls_.takes_plain(), tls_.takes_tls(), now());
  carry_out();
  watch_expiry();
}

// Those in which `fault` finds one.
void PeerNetwork::Impl::break_sessions(
    const std::function<std::string(const tls::Session&)>& fault) {
  std::vector<std::pair<std::shared_ptr<Channel>, std::string>> broken;
  for (const auto& [id, link] : links_) {
    const tls::Session* session = link->stream().session();
    if (session == nullptr) continue;
    if (std::string why = fault(*session); !why.empty()) {
      broken.emplace_back(link->channel(), std::move(why));
    }
  }
  for (const auto& [channel, why] : broken) peers_.broken(channel, why, now());
}

// A certificate that ends while its connection stands.
void PeerNetwork::Impl::watch_expiry() {
  if (!tls_.takes_tls()) {
    expiry_timer_.cancel();
    return;
  }
  expiry_timer_.expires_after(kExpiryInterval);
  expiry_timer_.async_wait([self = shared_from_this()](error_code aborted) {
    if (aborted || self->is_stopped_) return;
    const int64_t today = read_clocks().wall_ns / 1'000'000'000;
    self->break_sessions([today](const tls::Session& session) -> std::string {
      if (session.other() == nullptr || session.other()->not_after >= today) return {};
      return fmt::format("the certificate of {} has expired", tls::name_of(*session.other()));
    });
    self->carry_out();
    self->watch_expiry();
  });
}

// ---- what Peers wants

void PeerNetwork::Impl::carry_out() {
  peers_.take_work(work_);
  for (const auto& [channel, address] : work_.dial) {
    if (channel->is_closed()) continue;
    auto link = std::make_shared<Link>(channel, io_, *this);
    links_.emplace(channel->id(), link);
    std::optional<SecureDial> tls;
    if (tls_.dials_tls()) {
      tls = {handshakes_, tls_.credentials, tls::node_uri(cluster_, channel->peer())};
      channel->set_certified(channel->peer());
    }
    link->dial(address, names_, std::move(tls));
  }
  for (const auto& channel : work_.write) {
    if (auto at = links_.find(channel->id()); at != links_.end()) at->second->write();
  }
  for (const auto& channel : work_.close) {
    auto node = links_.extract(channel->id());
    if (!node.empty()) node.mapped()->close();
  }
  work_.clear();
  set_timer();
}

void PeerNetwork::Impl::set_timer() {
  const Time next = peers_.next_deadline();
  // A timer that is early does no harm, and deadlines of partial messages move with each read.
  if (next >= timer_is_for_) return;
  timer_is_for_ = next;
  timer_.expires_after(next - now());
  timer_.async_wait([self = shared_from_this()](error_code aborted) {
    if (aborted || self->is_stopped_) return;
    self->timer_is_for_ = Time::max();
    self->peers_.advance(now());
    self->carry_out();
  });
}

void PeerNetwork::Impl::stop() {
  if (std::exchange(is_stopped_, true)) return;
  error_code ignored;  // closing what may not be open
  acceptor_.close(ignored);
  accept_timer_.cancel();
  expiry_timer_.cancel();
  timer_.cancel();
  peers_.stop();
  carry_out();
}

PeerNetwork::PeerNetwork(boost::asio::io_context& io, const PeersOptions& options,
                         wire::TransportHandler& handler, PeersHooks hooks)
    : impl_(std::make_shared<Impl>(io, options, handler, std::move(hooks))) {}
PeerNetwork::~PeerNetwork() { stop(); }
Result<> PeerNetwork::listen(const Address& address) { return impl_->listen(address); }
Result<> PeerNetwork::listen(net::BoundPort port) { return impl_->listen(std::move(port)); }
uint16_t PeerNetwork::listen_port() const { return impl_->listen_port(); }
void PeerNetwork::set_tls(const net::PortTls& tls, tls::Handshakes* handshakes,
                          const std::string& cluster) {
  impl_->set_tls(tls, handshakes, cluster);
}
void PeerNetwork::recheck_peers() { impl_->recheck_peers(); }
void PeerNetwork::set_probe_timeout(std::chrono::milliseconds timeout) {
  impl_->set_probe_timeout(timeout);
}

void PeerNetwork::set_peers(const std::map<NodeId, std::vector<Address>>& peers) {
  impl_->set_peers(peers);
}
void PeerNetwork::send(NodeId to, wire::PeerMessage message) {
  impl_->send(to, std::move(message));
}
void PeerNetwork::flush() { impl_->flush(); }
void PeerNetwork::stop() { impl_->stop(); }
std::vector<NodeId> PeerNetwork::plain_peers() const { return impl_->plain_peers(); }
std::map<NodeId, PeerCounters> PeerNetwork::counters() const { return impl_->counters(); }
bool PeerNetwork::has_tried_all() const { return impl_->has_tried_all(); }

}  // namespace connectd::transport
