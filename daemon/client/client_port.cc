#include "client/client_port.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/steady_timer.hpp>
#include <list>
#include <optional>
#include <utility>
#include <vector>

#include "auth/audit_line.h"
#include "base/address.h"
#include "base/heap.h"
#include "base/log.h"
#include "base/log_event.h"
#include "client/access.h"
#include "client/connection.h"
#include "net/tcp.h"

namespace connectd::client {
namespace {

using boost::asio::ip::tcp;
using boost::system::error_code;

constexpr std::string_view kTooManyClients = "this node has too many connections";
constexpr auto kAcceptBackOff = std::chrono::milliseconds(100);
constexpr size_t kChecksInTurn = 16;
constexpr auto kTrimInterval = std::chrono::seconds(2);
constexpr size_t kTrimBytes = size_t{32} << 20;

bool is_out_of_descriptors(error_code error) {
  return error == boost::system::errc::too_many_files_open ||
         error == boost::system::errc::too_many_files_open_in_system;
}

}  // namespace

class ClientPort::Impl final : public std::enable_shared_from_this<ClientPort::Impl>,
                               public ConnectionOwner {
 public:
  Impl(boost::asio::io_context& io, const ClientPortOptions& options, node::Service& service,
       std::shared_ptr<auth::TokenChecker> tokens)
      : io_(io),
        shared_(new Shared{.options = options, .service = service}),
        acceptor_(io),
        accept_timer_(io),
        sweep_timer_(io),
        drain_timer_(io),
        access_(std::move(tokens)),
        reserve_(open_reserve()) {}
  ~Impl() { close_reserve(); }

  Result<> listen(const Address& address) {
    auto listening = net::listen(acceptor_, address, net::kClientPort);
    return listening ? begin() : listening;
  }
  Result<> listen(net::BoundPort port) {
    auto listening = port.listen(acceptor_);
    return listening ? begin() : listening;
  }
  uint16_t listen_port() const {
    error_code ignored;  // if it is not open there is no port
    return acceptor_.local_endpoint(ignored).port();
  }
  void set_tls(const net::PortTls& tls, tls::Handshakes* handshakes);
  void set_access(std::shared_ptr<const auth::Policy> policy, std::string cluster);
  void drain(std::chrono::milliseconds patience, std::function<void()> done);
  void stop();
  size_t connections() const { return connections_.size(); }
  const ClientPortCounters& counters() const { return shared_->counters; }

  // ConnectionOwner
  void on_closed(Connection& connection) override;
  void on_turn_end() override { wake_waiting(); }
  std::optional<CredentialsError> on_credentials(Connection& connection, std::string_view user,
                                                 std::string_view secret) override;
  void on_reset(Connection& connection) override;
  void on_no_permission(Connection& connection) override;

 private:
  Result<> begin();
  static int open_reserve() { return ::open("/dev/null", O_RDONLY | O_CLOEXEC); }
  void close_reserve() {
    if (reserve_ >= 0) ::close(std::exchange(reserve_, -1));
  }
  void accept();
  void on_accepted(error_code error, tcp::socket socket);
  void shake_hands(tcp::socket socket);
  void shook_hands(net::Shaken& shaken, const std::string& remote);
  void admit(net::Stream stream);
  void check_sessions_later();
  void caller_has_changed(Connection& connection);
  void forget_unknown(Connection& connection);
  void bound_unknown();
  void end_unknown();
  bool has_room();
  void turn_away_one();
  void accept_later();
  void turn_away(tcp::socket socket);
  void refuse(net::Stream stream, std::string_view code, std::string_view why);
  void wake_waiting();
  void sweep_later();
  void give_back_memory(SteadyTime now);
  void close_all();

  boost::asio::io_context& io_;
  const std::shared_ptr<Shared> shared_;
  tcp::acceptor acceptor_;
  boost::asio::steady_timer accept_timer_;
  boost::asio::steady_timer sweep_timer_;
  boost::asio::steady_timer drain_timer_;
  std::vector<std::shared_ptr<Connection>> connections_;
  Access access_;
  std::list<Connection*> unknown_;  // callers, in the order of arrival
  net::PortTls tls_;
  tls::Handshakes* handshakes_ = nullptr;  // null: TLS is off
  // Those whose certificates are to be checked again, a few a turn: each takes a signature's check.
  std::vector<std::weak_ptr<Connection>> unchecked_;
  // A spare descriptor, closed for a moment when none is left, so that a connection can be accepted
  // and closed: otherwise the socket would be reported ready forever.
  int reserve_ = -1;
  bool wakes_waiting_ = false;  // a posted task will do it
  SteadyTime last_trim_{};
  SteadyTime last_sweep_ = std::chrono::steady_clock::now();
  std::function<void()> drained_;
  bool is_stopped_ = false;
};

Result<> ClientPort::Impl::begin() {
  error_code error;
  acceptor_.non_blocking(true, error);
  if (error) {
    return failure(ErrorKind::kCannotListen,
                   fmt::format("cannot use the client port: {}", error.message()));
  }
  accept();
  sweep_later();
  return {};
}

// ---- accepting

void ClientPort::Impl::accept() {
  acceptor_.async_accept([self = shared_from_this()](error_code error, tcp::socket socket) {
    self->on_accepted(error, std::move(socket));
  });
}

void ClientPort::Impl::on_accepted(error_code error, tcp::socket socket) {
  if (is_stopped_ || !acceptor_.is_open()) return;
  if (error) {
    if (is_out_of_descriptors(error)) turn_away_one();
    log_event(LogEvent::kClientNotAccepted,
              "cannot accept a client: {}; raise the limit of open files (LimitNOFILE) or lower "
              "client.max_connections",
              error.message());
    return accept_later();
  }
  if (!has_room()) {
    turn_away(std::move(socket));
  } else if (tls_.takes_tls()) {
    shake_hands(std::move(socket));
  } else {
    admit(net::Stream(std::move(socket)));
  }
  accept();
}

void ClientPort::Impl::admit(net::Stream stream) {
  shared_->counters.accepted++;
  auto connection = std::make_shared<Connection>(std::move(stream), shared_, *this,
                                                 std::chrono::steady_clock::now());
  connection->place = connections_.size();
  connections_.push_back(connection);
  connection->caller = access_.caller_of(connection->session());
  caller_has_changed(*connection);
  connection->start();
  bound_unknown();
}

// ---- who asks

void ClientPort::Impl::set_access(std::shared_ptr<const auth::Policy> policy, std::string cluster) {
  access_.set(std::move(policy), std::move(cluster));
  const Now now = read_clocks();
  for (size_t i = connections_.size(); i-- > 0;) {
    const auto connection = connections_[i];
    if (!access_.check_again(connection->caller, connection->session(), now)) {
      connection->close();
    } else {
      caller_has_changed(*connection);
    }
  }
}

void ClientPort::Impl::caller_has_changed(Connection& connection) {
  connection.was_refused = false;
  const bool is_known = access_.is_known(connection.caller);
  connection.set_caller(access_.rights_of(connection.caller), is_known,
                        std::chrono::steady_clock::now());
  if (is_known) {
    forget_unknown(connection);
  } else if (!connection.unknown_place) {
    connection.unknown_place = unknown_.insert(unknown_.end(), &connection);
  }
}

void ClientPort::Impl::forget_unknown(Connection& connection) {
  if (!connection.unknown_place) return;
  unknown_.erase(*connection.unknown_place);
  connection.unknown_place.reset();
}

void ClientPort::Impl::bound_unknown() {
  if (unknown_.size() > std::max<size_t>(shared_->options.max_connections / 2, 1)) end_unknown();
}

// Whoever has been silent for longest. Connections in their handshakes are beside these: their lane
// bounds them (tls/handshakes.h), and the silent give way there, too.
void ClientPort::Impl::end_unknown() {
  shared_->counters.unknown++;
  unknown_.front()->close();
}

// Who says nothing keeps out nobody.
bool ClientPort::Impl::has_room() {
  if (connections_.size() < shared_->options.max_connections) return true;
  if (unknown_.empty()) return false;
  end_unknown();
  return true;
}

std::optional<CredentialsError> ClientPort::Impl::on_credentials(Connection& connection,
                                                                 std::string_view user,
                                                                 std::string_view secret) {
  auto error = access_.authenticate(connection.caller, source_of(connection.stream()), user, secret,
                                    read_clocks());
  if (!error) caller_has_changed(connection);
  return error;
}

void ClientPort::Impl::on_reset(Connection& connection) {
  connection.caller = access_.caller_of(connection.session());
  caller_has_changed(connection);
}

void ClientPort::Impl::on_no_permission(Connection& connection) {
  if (std::exchange(connection.was_refused, true)) return;  // the others look the same
  auth::write({.is_refusal = true,
               .principal = connection.caller.principal.text(),
               .address = source_of(connection.stream()).address,
               .outcome = "NOPERM",
               .what = "a request to the client port"});
}

// On a thread for handshakes, which has the socket meanwhile.
void ClientPort::Impl::shake_hands(tcp::socket socket) {
  error_code ignored;  // it has gone: the handshake fails
  const std::string remote = net::endpoint_text(socket.remote_endpoint(ignored));
  const int native = net::Stream(std::move(socket)).release();
  if (native < 0) return;
  auto done = [weak = weak_from_this(), remote](tls::Outcome outcome) {
    auto shaken = std::make_shared<net::Shaken>(std::move(outcome));
    const auto self = weak.lock();
    if (!self) return;
    boost::asio::post(self->io_, [self, remote, shaken] {
      if (self->acceptor_.is_open()) self->shook_hands(*shaken, remote);
    });
  };
  tls::AcceptOptions options;
  options.takes = tls_.takes_plain() ? tls::Takes::kBoth : tls::Takes::kTlsOnly;
  options.demand = tls::Demand::kOptional;
  handshakes_->accept(tls::Lane::kOthers, native, tls_.credentials, options, std::move(done));
}

void ClientPort::Impl::shook_hands(net::Shaken& shaken, const std::string& remote) {
  const std::string why = shaken.outcome.failure;
  if (!why.empty()) {
    log_event_of(LogEvent::kClientTlsFailed, kStrangers, "TLS handshake failed address={}: {}",
                 remote, why);
  }
  if (shaken.outcome.fd < 0) return;
  net::Stream stream(io_);
  if (stream.take(shaken)) return;  // it has gone
  if (why.empty()) {
    if (has_room()) return admit(std::move(stream));
    return refuse(std::move(stream), node::reply_code_name(node::ReplyCode::kOverloaded),
                  kTooManyClients);
  }
  refuse(std::move(stream), "TLS", "this port takes TLS only (tls.client.mode)");
}

void ClientPort::Impl::set_tls(const net::PortTls& tls, tls::Handshakes* handshakes) {
  tls_ = tls;
  handshakes_ = handshakes;
  unchecked_.clear();
  for (size_t i = connections_.size(); i-- > 0;) {
    const auto connection = connections_[i];
    const bool is_secure = connection->session() != nullptr;
    if (!(is_secure ? tls_.takes_tls() : tls_.takes_plain())) {
      connection->drain();
    } else if (is_secure) {
      unchecked_.push_back(connection);
    }
  }
  check_sessions_later();
}

void ClientPort::Impl::check_sessions_later() {
  if (unchecked_.empty()) return;
  boost::asio::post(io_, [self = shared_from_this()] {
    if (self->is_stopped_ || !self->tls_.credentials) return;
    for (size_t i = 0; i < kChecksInTurn && !self->unchecked_.empty(); ++i) {
      const auto connection = self->unchecked_.back().lock();
      self->unchecked_.pop_back();
      if (!connection || connection->session() == nullptr) continue;
      if (!self->tls_.credentials->check(*connection->session()).empty()) connection->close();
    }
    self->check_sessions_later();
  });
}

void ClientPort::Impl::accept_later() {
  accept_timer_.expires_after(kAcceptBackOff);
  accept_timer_.async_wait([self = shared_from_this()](error_code aborted) {
    if (!aborted && self->acceptor_.is_open()) self->accept();
  });
}

void ClientPort::Impl::turn_away_one() {
  close_reserve();
  error_code error;
  tcp::socket socket = acceptor_.accept(error);
  if (!error) turn_away(std::move(socket));
  reserve_ = open_reserve();
}

// With an error text, if the socket accepts it at once.
void ClientPort::Impl::turn_away(tcp::socket socket) {
  shared_->counters.rejected++;
  log_event(LogEvent::kClientRejected, "client rejected: too many connections open={} {}={}",
            connections_.size(),
            shared_->options.lacks_descriptors ? "limit_of_open_files (LimitNOFILE) permits"
                                               : "client.max_connections",
            shared_->options.max_connections);
  // Of one who begins TLS they would be bytes without a meaning.
  if (!tls_.takes_plain()) return;
  refuse(net::Stream(std::move(socket)), node::reply_code_name(node::ReplyCode::kOverloaded),
         kTooManyClients);
}

// In the words of the port's framing.
void ClientPort::Impl::refuse(net::Stream stream, std::string_view code, std::string_view why) {
  std::string text;
  make_parser(*shared_)->append_error(text, code, why);
  error_code ignored;  // the client is rejected in any case
  stream.socket().non_blocking(true, ignored);
  stream.write_some(text, ignored);
  stream.shut_down(ignored);
}

// ---- closing

void ClientPort::Impl::on_closed(Connection& connection) {
  size_t place = connection.place;
  CHECK(place < connections_.size() && connections_[place].get() == &connection);
  if (place + 1 < connections_.size()) {
    connections_[place] = std::move(connections_.back());
    connections_[place]->place = place;
  }
  connections_.pop_back();
  forget_unknown(connection);
  on_turn_end();
  if (connections_.empty() && drained_) {
    drain_timer_.cancel();
    boost::asio::post(io_, std::exchange(drained_, nullptr));
  }
}

void ClientPort::Impl::sweep_later() {
  sweep_timer_.expires_after(shared_->options.sweep_interval);
  sweep_timer_.async_wait([self = shared_from_this()](error_code aborted) {
    if (aborted || self->is_stopped_) return;
    SteadyTime now = std::chrono::steady_clock::now();
    const Now clocks = read_clocks();
    const int64_t today = clocks.wall_ns / 1'000'000'000;
    // From the end: a connection that closes is replaced by one that was already checked.
    for (size_t i = self->connections_.size(); i-- > 0;) {
      auto connection = self->connections_[i];
      const tls::Session* session = connection->session();
      const bool has_expired =
          session != nullptr && session->other() != nullptr && session->other()->not_after < today;
      if (has_expired || Access::has_ended(connection->caller, clocks)) {
        connection->close();  // what it has shown has ended
      } else {
        connection->sweep(now);
      }
    }
    self->shared_->measure(now - self->last_sweep_);
    self->last_sweep_ = now;
    self->on_turn_end();
    self->give_back_memory(now);
    self->sweep_later();
  });
}

// The allocator keeps what many clients free at once. Trimming takes some milliseconds, so it is
// done only after a lot was freed.
void ClientPort::Impl::give_back_memory(SteadyTime now) {
  if (now - last_trim_ < kTrimInterval) return;
  if (shared_->most_bytes - shared_->held_bytes() < kTrimBytes) return;
  last_trim_ = now;
  shared_->most_bytes = shared_->held_bytes();
  shared_->counters.trims++;
  return_free_memory();
}

// ---- connections that wait for room

// Posted, so that it comes after the events that are ready now.
void ClientPort::Impl::wake_waiting() {
  if (!shared_->may_wake() || std::exchange(wakes_waiting_, true)) return;
  boost::asio::post(io_, [self = shared_from_this()] {
    if (!self->is_stopped_) self->shared_->wake();
    self->wakes_waiting_ = false;  // not before: their turns would post this again
    if (!self->shared_->begin_waiting.empty()) self->wake_waiting();
  });
}

void ClientPort::Impl::close_all() {
  while (!connections_.empty()) {
    auto connection = connections_.back();
    connection->close();
  }
}

void ClientPort::Impl::drain(std::chrono::milliseconds patience, std::function<void()> done) {
  error_code ignored;  // closing what may not be open
  acceptor_.close(ignored);
  accept_timer_.cancel();
  drained_ = std::move(done);
  if (connections_.empty()) {
    boost::asio::post(io_, std::exchange(drained_, nullptr));
    return;
  }
  drain_timer_.expires_after(patience);
  drain_timer_.async_wait([self = shared_from_this()](error_code aborted) {
    if (!aborted && !self->is_stopped_) self->close_all();
  });
  for (size_t i = connections_.size(); i-- > 0;) {
    auto connection = connections_[i];
    connection->drain();
  }
}

void ClientPort::Impl::stop() {
  if (std::exchange(is_stopped_, true)) return;
  drained_ = nullptr;
  error_code ignored;  // closing what may not be open
  acceptor_.close(ignored);
  accept_timer_.cancel();
  sweep_timer_.cancel();
  drain_timer_.cancel();
  close_all();
}

ClientPort::ClientPort(boost::asio::io_context& io, const ClientPortOptions& options,
                       node::Service& service, std::shared_ptr<auth::TokenChecker> tokens)
    : impl_(std::make_shared<Impl>(io, options, service, std::move(tokens))) {}
ClientPort::~ClientPort() { stop(); }
Result<> ClientPort::listen(const Address& address) { return impl_->listen(address); }
Result<> ClientPort::listen(net::BoundPort port) { return impl_->listen(std::move(port)); }
uint16_t ClientPort::listen_port() const { return impl_->listen_port(); }
void ClientPort::drain(std::chrono::milliseconds patience, std::function<void()> done) {
  impl_->drain(patience, std::move(done));
}
void ClientPort::stop() { impl_->stop(); }
void ClientPort::set_access(std::shared_ptr<const auth::Policy> policy, std::string cluster) {
  impl_->set_access(std::move(policy), std::move(cluster));
}
void ClientPort::set_tls(const net::PortTls& tls, tls::Handshakes* handshakes) {
  impl_->set_tls(tls, handshakes);
}
size_t ClientPort::connections() const { return impl_->connections(); }
const ClientPortCounters& ClientPort::counters() const { return impl_->counters(); }

}  // namespace connectd::client
