#include "transport/peer_network.h"

#include <fmt/format.h>

#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/steady_timer.hpp>
#include <unordered_map>
#include <utility>

#include "base/clock.h"
#include "base/log.h"
#include "net/names.h"
#include "net/tcp.h"
#include "transport/link.h"

namespace connectd::transport {
namespace {

using boost::asio::ip::tcp;
using boost::system::error_code;

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
  void send(NodeId to, wire::PeerMessage message) { peers_.send(to, std::move(message)); }
  void flush() {
    peers_.flush();
    carry_out();
  }
  void stop();
  std::map<NodeId, PeerCounters> counters() const { return peers_.counters(); }
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
  void on_failed(Link& link, const std::string& why) override {
    peers_.broken(link.channel(), why, now());
    carry_out();
  }

  void accept();
  void on_accepted(error_code error, tcp::socket socket);
  void carry_out();
  void set_timer();

  boost::asio::io_context& io_;
  tcp::acceptor acceptor_;
  tcp::endpoint accepted_from_;  // written by accept(): a reset socket has no address any more
  boost::asio::steady_timer accept_timer_;
  boost::asio::steady_timer timer_;  // for Peers::next_deadline()
  Time timer_is_for_ = Time::max();
  net::Names names_;
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
  if (auto channel = peers_.accepted(net::endpoint_text(accepted_from_), now())) {
    auto link = std::make_shared<Link>(channel, std::move(socket), *this);
    links_.emplace(channel->id(), link);
    link->start();
  }
  carry_out();
  accept();
}

// ---- what Peers wants

void PeerNetwork::Impl::carry_out() {
  peers_.take_work(work_);
  for (const auto& [channel, address] : work_.dial) {
    if (channel->is_closed()) continue;
    auto link = std::make_shared<Link>(channel, io_, *this);
    links_.emplace(channel->id(), link);
    link->dial(address, names_);
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
std::map<NodeId, PeerCounters> PeerNetwork::counters() const { return impl_->counters(); }
bool PeerNetwork::has_tried_all() const { return impl_->has_tried_all(); }

}  // namespace connectd::transport
