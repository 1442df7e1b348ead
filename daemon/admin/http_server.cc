#include "admin/http_server.h"

#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/steady_timer.hpp>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "admin/connection.h"
#include "admin/limits.h"
#include "admin/routes.h"
#include "base/address.h"
#include "base/log.h"
#include "base/thread.h"
#include "net/tcp.h"

namespace connectd::admin {
namespace {

namespace asio = boost::asio;
using tcp = asio::ip::tcp;
using boost::system::error_code;

constexpr Duration kAcceptPause = std::chrono::milliseconds(100);

// What all connections share. It outlives the server while another thread still holds a function
// of a Reply, so that a late answer meets an io_context that is stopped, not one that is gone.
class Shared final : public ConnectionHost, public std::enable_shared_from_this<Shared> {
 public:
  Shared(ServerOptions options, const node::StatusBoard& board, ServerHooks hooks)
      : options_(std::move(options)),
        hooks_(std::move(hooks)),
        context_{options_, board, hooks_, cluster_, {}} {}

  // ---- ConnectionHost
  void handle(Request&& request, const Reply& reply) override {
    dispatch(context_, std::move(request), reply);
  }
  size_t max_request() const override { return options_.max_request; }
  std::function<void(std::function<void()>)> poster() override {
    return [keep = shared_from_this()](std::function<void()> work) {
      asio::post(keep->io_, std::move(work));
    };
  }
  void opened() override { ++connections_; }
  void closed() override { --connections_; }

  size_t connections() const { return connections_; }
  const ServerOptions& options() const { return options_; }
  Context& context() { return context_; }
  asio::io_context& io() { return io_; }

 private:
  ServerOptions options_;
  ServerHooks hooks_;
  size_t connections_ = 0;
  asio::io_context io_{1};  // connections die with it, and tell closed()
  ClusterQueries cluster_{io_};
  Context context_;
};

class Server final : public HttpServer {
 public:
  explicit Server(std::shared_ptr<Shared> shared)
      : shared_(std::move(shared)), acceptor_(shared_->io()), pause_(shared_->io()) {}

  Result<void> listen() {
    const Address& address = shared_->options().listen;
    auto listening = net::listen(acceptor_, address, net::kHttpPort);
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
    acceptor_.async_accept([this](error_code ec, tcp::socket socket) {
      if (ec == asio::error::operation_aborted) return;
      if (ec) {  // out of descriptors, mostly: give others time to close some
        LOG_WARNING("admin", "cannot accept an HTTP connection: {}", ec.message());
        pause_.expires_after(kAcceptPause);
        pause_.async_wait([this](error_code stopped) {
          if (!stopped) accept();
        });
        return;
      }
      if (shared_->connections() < kMaxConnections) {
        socket.set_option(tcp::no_delay(true), ec);
        start_connection(*shared_, std::move(socket));
      }
      accept();
    });
  }

  std::shared_ptr<Shared> shared_;
  tcp::acceptor acceptor_;
  asio::steady_timer pause_;
  std::thread thread_;
};

}  // namespace

Result<std::unique_ptr<HttpServer>> HttpServer::open(ServerOptions options,
                                                     const node::StatusBoard& board,
                                                     ServerHooks hooks) {
  auto server = std::make_unique<Server>(
      std::make_shared<Shared>(std::move(options), board, std::move(hooks)));
  Result<void> listening = server->listen();
  if (!listening) return failure(listening.error());
  return server;
}

}  // namespace connectd::admin
