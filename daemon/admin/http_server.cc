#include "admin/http_server.h"

#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/steady_timer.hpp>
#include <optional>
#include <set>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "admin/connection.h"
#include "admin/limits.h"
#include "admin/routes.h"
#include "base/address.h"
#include "base/log_event.h"
#include "base/thread.h"
#include "net/certificate_owner.h"
#include "net/tcp.h"

namespace connectd::admin {
namespace {

namespace asio = boost::asio;
using tcp = asio::ip::tcp;
using boost::system::error_code;

constexpr Duration kAcceptPause = std::chrono::milliseconds(100);
constexpr Duration kRoomPause = std::chrono::milliseconds(20);

// What all connections share. It outlives the server while another thread still holds a function
// of a Reply, so that a late answer meets an io_context that is stopped, not one that is gone.
class Shared final : public ConnectionHost, public std::enable_shared_from_this<Shared> {
 public:
  Shared(ServerOptions options, const node::StatusBoard& board, ServerHooks hooks)
      : options_(std::move(options)),
        hooks_(std::move(hooks)),
        context_{options_, board, hooks_, cluster_, shares_} {}

  // ---- ConnectionHost
  void handle(Request&& request, const Reply& reply) override {
    dispatch(context_, std::move(request), reply);
  }
  size_t max_request() const override { return options_.max_request; }
  auth::Principal owner_of(const tls::Certificate& certificate) const override {
    return net::owner_of(certificate, options_.cluster_name, options_.policy->get()->certificates);
  }
  std::function<void(std::function<void()>)> poster() override {
    return [keep = shared_from_this()](std::function<void()> work) {
      asio::post(keep->io_, std::move(work));
    };
  }
  bool is_full() const override {
    return connections_.size() + reserved_connections(options_.max_connections) >
           options_.max_connections;
  }
  bool reserve_body(size_t bytes) override {
    if (bytes == 0) return true;  // as health has it
    while (body_bytes_ > 0 && body_bytes_ + other_bytes_ + bytes > kMaxHeldBytes) {
      const bool made_room = close_longest_waiting(
          kPatience, [](const OpenConnection& c) { return c.body_bytes() > 0; });
      if (!made_room) return false;
    }
    body_bytes_ += bytes;
    return true;
  }
  void give_back_body(size_t bytes) override { body_bytes_ -= bytes; }
  void hold(size_t bytes) override { other_bytes_ += bytes; }
  void give_back(size_t bytes) override { other_bytes_ -= bytes; }
  void opened(OpenConnection& connection) override { connections_.insert(&connection); }
  void closed(OpenConnection& connection) override { connections_.erase(&connection); }

  // Those that would be refused now.
  void set_tls(const net::PortTls& tls, tls::Handshakes* handshakes) {
    tls_ = tls;
    handshakes_ = handshakes;
    cluster_.set_tls(tls.dial_credentials);
    // A copy: one that closes leaves the set.
    const std::vector<OpenConnection*> all(connections_.begin(), connections_.end());
    for (OpenConnection* connection : all) {
      const tls::Session* session = connection->session();
      const bool is_taken = session == nullptr ? tls_.takes_plain() : tls_.takes_tls();
      const bool is_good =
          session == nullptr || !tls_.credentials || tls_.credentials->check(*session).empty();
      if (!is_good) {
        connection->close_for_another();
      } else if (!is_taken) {
        connection->close_when_idle();
      }
    }
  }
  const net::PortTls& tls() const { return tls_; }
  // Hands an accepted connection to a thread for handshakes; then `admit` gets it.
  void shake_hands(tcp::socket socket, std::function<void(net::Stream)> admit);

  // Before one more connection is accepted. False: it has to wait in the backlog for a moment.
  bool has_room() {
    if (connections_.size() < options_.max_connections) {
      full_since_.reset();
      return true;
    }
    if (close_idle()) return true;
    const Time now = read_clocks().time;
    if (!full_since_) full_since_ = now;
    return now - *full_since_ >= kFullPatience && close_any();
  }
  // The next connection is one too many, unless an idle one can be closed for it.
  bool next_is_beyond_limit() {
    const size_t limit = options_.max_connections - reserved_connections(options_.max_connections);
    if (connections_.size() < limit) return false;
    log_event(LogEvent::kHttpFull,
              "{} HTTP connections are open: idle ones are closed for new ones, or calls get 503",
              limit);
    return !close_idle() || connections_.size() >= limit;
  }
  // Its descriptor may be the one that the next connection needs.
  void accept_failed(const std::string& why) {
    log_event(LogEvent::kHttpNotAccepted,
              "cannot accept an HTTP connection: {}; the one that has been idle longest is closed",
              why);
    if (!close_idle()) (void)close_any();
  }
  const ServerOptions& options() const { return options_; }
  Context& context() { return context_; }
  asio::io_context& io() { return io_; }

 private:
  bool close_idle() {
    return close_longest_waiting(options_.idle_patience,
                                 [](const OpenConnection& c) { return !c.waiting()->has_begun; });
  }
  bool close_any() {
    return close_longest_waiting(kPatience, [](const OpenConnection&) { return true; });
  }
  // Of those that have waited for so long and may be closed; false: there is none.
  template <class MayClose>
  bool close_longest_waiting(Duration patience, MayClose may_close) {
    const Time before = read_clocks().time - patience;
    while (true) {
      OpenConnection* idlest = nullptr;
      std::optional<OpenConnection::Waiting> longest;
      for (OpenConnection* connection : connections_) {
        const auto waiting = connection->waiting();
        if (!waiting || waiting->since > before || (longest && !(*waiting < *longest))) continue;
        if (!may_close(*connection)) continue;
        idlest = connection;
        longest = waiting;
      }
      if (idlest == nullptr) return false;
      if (idlest->has_unread()) continue;  // it does not wait any longer
      connections_.erase(idlest);          // its operations end in a moment
      idlest->close_for_another();
      return true;
    }
  }
  ServerOptions options_;
  ServerHooks hooks_;
  void shook_hands(net::Shaken& shaken, const std::string& remote,
                   const std::function<void(net::Stream)>& admit);
  static void refuse_plain(net::Stream stream);

  net::PortTls tls_;
  tls::Handshakes* handshakes_ = nullptr;  // null: TLS is off
  std::set<OpenConnection*> connections_;
  Shares shares_;
  size_t body_bytes_ = 0;           // of requests in progress
  size_t other_bytes_ = 0;          // their heads, and answers
  std::optional<Time> full_since_;  // nothing could connect
  asio::io_context io_{1};          // connections die with it, and tell closed()
  ClusterQueries cluster_{io_};
  Context context_;
};

void Shared::shake_hands(tcp::socket socket, std::function<void(net::Stream)> admit) {
  error_code ec;
  const std::string remote = net::endpoint_text(socket.remote_endpoint(ec));
  const int native = net::Stream(std::move(socket)).release();
  if (native < 0) return;
  auto done = [self = shared_from_this(), remote, admit = std::move(admit)](tls::Outcome outcome) {
    auto shaken = std::make_shared<net::Shaken>(std::move(outcome));
    asio::post(self->io_,
               [self, remote, admit, shaken] { self->shook_hands(*shaken, remote, admit); });
  };
  tls::AcceptOptions options;
  options.takes = tls_.takes_plain() ? tls::Takes::kBoth : tls::Takes::kTlsOnly;
  options.demand = tls::Demand::kOptional;
  handshakes_->accept(tls::Lane::kOthers, native, tls_.credentials, options, std::move(done));
}

void Shared::shook_hands(net::Shaken& shaken, const std::string& remote,
                         const std::function<void(net::Stream)>& admit) {
  const std::string why = shaken.outcome.failure;
  if (!why.empty()) {
    log_event_of(LogEvent::kHttpTlsFailed, kStrangers, "TLS handshake failed address={}: {}",
                 remote, why);
  }
  if (shaken.outcome.fd < 0) return;
  net::Stream stream(io_);
  if (stream.take(shaken)) return;  // it has gone
  if (!why.empty()) return refuse_plain(std::move(stream));
  admit(std::move(stream));
}

// In the words of HTTP, if the socket takes them at once.
void Shared::refuse_plain(net::Stream stream) {
  const Response refused = problem(400, "Bad request",
                                   "this port takes TLS only (tls.http.mode): use https, or "
                                   "connectctl --cacert FILE");
  const std::string answer = fmt::format(
      "HTTP/1.1 400 Bad Request\r\nContent-Type: {}\r\nContent-Length: {}\r\n"
      "Connection: close\r\n\r\n{}",
      refused.content_type, refused.body.size(), refused.body);
  error_code ignored;
  stream.write_some(answer, ignored);
  stream.shut_down(ignored);
}

class Server final : public HttpServer {
 public:
  explicit Server(std::shared_ptr<Shared> shared)
      : shared_(std::move(shared)), acceptor_(shared_->io()), pause_(shared_->io()) {}

  Result<void> listen(std::optional<net::BoundPort> own) {
    const Address& address = shared_->options().listen;
    auto listening = own ? own->listen(acceptor_) : net::listen(acceptor_, address, net::kHttpPort);
    if (!listening) return listening;
    const uint16_t bound = port();
    Access& access = shared_->context().access;
    access.admin = shared_->options().admin;
    for (const Address& good :
         {Address{address.host, bound}, shared_->options().advertised, Address{"localhost", bound},
          Address{"127.0.0.1", bound}, Address{"::1", bound}}) {
      if (!good || good.is_wildcard()) continue;
      access.hosts.add_own(good);
    }
    for (const std::string& host : shared_->options().hosts) access.hosts.add_further(host);
    return {};
  }

  Result<void> start() override {
    accept();
    auto thread = start_thread("HTTP", [this] { shared_->io().run(); });
    if (!thread) return failure(thread.error());
    thread_ = std::move(*thread);
    return {};
  }

  void set_tls(const net::PortTls& tls, tls::Handshakes* handshakes) override {
    asio::post(shared_->io(),
               [shared = shared_, tls, handshakes] { shared->set_tls(tls, handshakes); });
  }

  uint16_t port() const override {
    error_code ignored;
    return acceptor_.local_endpoint(ignored).port();
  }

  ~Server() override {
    if (!thread_.joinable()) return;
    shared_->io().stop();
    thread_.join();
  }

 private:
  void accept() {
    if (!shared_->has_room()) return accept_after(kRoomPause);
    acceptor_.async_accept([this](error_code ec, tcp::socket socket) {
      if (ec == asio::error::operation_aborted) return;
      if (ec) {  // out of descriptors, mostly: give others time to close some
        shared_->accept_failed(ec.message());
        return accept_after(kAcceptPause);
      }
      socket.set_option(tcp::no_delay(true), ec);
      if (shared_->tls().takes_tls()) {
        shared_->shake_hands(std::move(socket), [shared = shared_.get()](net::Stream stream) {
          start_connection(*shared, std::move(stream), shared->next_is_beyond_limit());
        });
      } else {
        const bool beyond_limit = shared_->next_is_beyond_limit();
        start_connection(*shared_, net::Stream(std::move(socket)), beyond_limit);
      }
      accept();
    });
  }

  void accept_after(Duration pause) {
    pause_.expires_after(std::chrono::duration_cast<std::chrono::steady_clock::duration>(pause));
    pause_.async_wait([this](error_code stopped) {
      if (!stopped) accept();
    });
  }

  std::shared_ptr<Shared> shared_;
  tcp::acceptor acceptor_;
  asio::steady_timer pause_;
  std::thread thread_;
};

}  // namespace

namespace {
Result<std::unique_ptr<HttpServer>> open_server(ServerOptions options,
                                                const node::StatusBoard& board, ServerHooks hooks,
                                                std::optional<net::BoundPort> port) {
  auto server = std::make_unique<Server>(
      std::make_shared<Shared>(std::move(options), board, std::move(hooks)));
  Result<void> listening = server->listen(std::move(port));
  if (!listening) return failure(listening.error());
  return server;
}
}  // namespace

Result<std::unique_ptr<HttpServer>> HttpServer::open(ServerOptions options,
                                                     const node::StatusBoard& board,
                                                     ServerHooks hooks) {
  return open_server(std::move(options), board, std::move(hooks), std::nullopt);
}

Result<std::unique_ptr<HttpServer>> HttpServer::open(ServerOptions options,
                                                     const node::StatusBoard& board,
                                                     ServerHooks hooks, net::BoundPort port) {
  return open_server(std::move(options), board, std::move(hooks), std::move(port));
}

}  // namespace connectd::admin
