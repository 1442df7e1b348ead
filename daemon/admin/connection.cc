#include "admin/connection.h"

#include <fmt/format.h>

#include <boost/asio/steady_timer.hpp>
#include <boost/asio/write.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/core/tcp_stream.hpp>
#include <boost/beast/http.hpp>
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "admin/call_outcome.h"
#include "admin/limits.h"
#include "base/address.h"
#include "config/config.h"

namespace connectd::admin {
namespace {

namespace asio = boost::asio;
namespace beast = boost::beast;
namespace http = boost::beast::http;
using tcp = asio::ip::tcp;
using beast::error_code;

constexpr size_t kDrainBytes = 8 << 10;
constexpr size_t kMaxDrained = 64 << 20;
constexpr Duration kDrainTimeout = std::chrono::seconds(2);

// An IPv4 address that a socket for both families shows as ::ffff:10.0.0.1.
asio::ip::address without_mapping(const asio::ip::address& address) {
  if (!address.is_v6() || !address.to_v6().is_v4_mapped()) return address;
  return asio::ip::make_address_v4(asio::ip::v4_mapped, address.to_v6());
}

class HttpConnection final : public Reply::Connection,
                             public std::enable_shared_from_this<HttpConnection> {
 public:
  HttpConnection(ConnectionHost& host, tcp::socket socket)
      : host_(host), stream_(std::move(socket)), timer_(stream_.get_executor()) {
    host_.opened();
  }
  ~HttpConnection() { host_.closed(); }
  HttpConnection(const HttpConnection&) = delete;
  HttpConnection& operator=(const HttpConnection&) = delete;

  void start() { read_header(kRequestTimeout); }

  // ---- Reply::Connection

  void answer(uint64_t request, Response response) override {
    if (request != request_number_) return;
    ++request_number_;
    timer_.cancel();
    write(std::move(response));
  }

  void set_deadline(uint64_t request, Duration limit, std::function<Response()> late) override {
    if (request != request_number_) return;
    timer_.expires_after(std::chrono::duration_cast<std::chrono::steady_clock::duration>(limit));
    timer_.async_wait(
        [self = shared_from_this(), request, late = std::move(late)](error_code aborted) {
          if (!aborted && request == self->request_number_) self->answer(request, late());
        });
  }

  std::function<void(std::function<void()>)> poster() override { return host_.poster(); }

 private:
  // ---- one request in

  void read_header(Duration timeout) {
    parser_.emplace();
    parser_->header_limit(kMaxHeaderBytes);
    parser_->body_limit(host_.max_request());
    stream_.expires_after(timeout);
    http::async_read_header(
        stream_, buffer_, *parser_,
        [self = shared_from_this()](error_code ec, std::size_t) { self->on_header(ec); });
  }

  void on_header(error_code ec) {
    if (ec) return on_read_error(ec);
    const auto& message = parser_->get();
    keep_alive_ = message.keep_alive();
    if (message.version() != 10 && message.version() != 11) {
      return refuse(problem(505, "HTTP version not supported", "write HTTP/1.1"));
    }
    if (parser_->content_length().value_or(0) > host_.max_request()) return too_large();
    if (lower_case(message[http::field::expect]) == "100-continue") {
      static const std::string kContinue = "HTTP/1.1 100 Continue\r\n\r\n";
      stream_.expires_after(kRequestTimeout);
      asio::async_write(stream_, asio::buffer(kContinue),
                        [self = shared_from_this()](error_code write_error, std::size_t) {
                          if (!write_error) self->read_body();
                        });
      return;
    }
    read_body();
  }

  void read_body() {
    stream_.expires_after(kRequestTimeout);
    http::async_read(stream_, buffer_, *parser_,
                     [self = shared_from_this()](error_code ec, std::size_t) {
                       if (ec) return self->on_read_error(ec);
                       self->hand_on();
                     });
  }

  void hand_on() {
    auto message = parser_->release();
    Request request;
    request.method = std::string(message.method_string());
    request.target = std::string(message.target());
    request.is_http_1_0 = message.version() == 10;
    request.host_headers = message.count(http::field::host);
    for (const auto& field : message) {
      request.headers.emplace(lower_case(field.name_string()), field.value());
    }
    request.body = std::move(message.body());
    error_code ec;
    error_code local_error;
    const tcp::endpoint remote = stream_.socket().remote_endpoint(ec);
    const tcp::endpoint local = stream_.socket().local_endpoint(local_error);
    if (!local_error) {
      request.arrived_at = {without_mapping(local.address()).to_string(), local.port()};
      if (!ec) request.origin = origin_of(remote.address(), local.address());
    }
    is_head_ = request.method == "HEAD";
    stream_.expires_never();  // the answer may take as long as its handler says
    host_.handle(std::move(request), Reply(shared_from_this(), request_number_));
  }

  void on_read_error(error_code ec) {
    if (ec == http::error::body_limit) return too_large();
    if (ec == http::error::header_limit) {
      return refuse(problem(431, "Request header fields too large",
                            fmt::format("headers must have at most {} bytes", kMaxHeaderBytes)));
    }
    if (ec.category() == http::make_error_code(http::error::bad_method).category() &&
        ec != http::error::end_of_stream && ec != http::error::partial_message) {
      return refuse(problem(400, "Bad request", fmt::format("invalid HTTP: {}", ec.message())));
    }
    close();
  }

  void too_large() {
    const CallOutcome outcome = call_outcome(node::ReplyCode::kTooLarge);
    refuse(problem(outcome.http_status, outcome.title,
                   fmt::format("a request must have at most client.max_request = {} bytes",
                               host_.max_request()),
                   outcome.code));
  }

  // What was not read to its end ends the connection.
  void refuse(Response response) {
    close_after_ = true;
    write(std::move(response));
  }

  // ---- one answer out

  void write(Response response) {
    response_ = {};
    response_.version(11);
    response_.result(static_cast<unsigned>(response.status));
    response_.set(http::field::server, "connectd");
    response_.set(http::field::content_type, response.content_type);
    response_.set(http::field::cache_control, "no-store");
    response_.set("X-Content-Type-Options", "nosniff");
    for (const auto& [name, value] : response.headers) response_.set(name, value);
    response_.body() = std::move(response.body);
    const bool keep = !close_after_ && keep_alive_;
    response_.keep_alive(keep);
    response_.prepare_payload();
    if (is_head_) response_.body().clear();  // Content-Length stays
    stream_.expires_after(kRequestTimeout);
    http::async_write(stream_, response_,
                      [self = shared_from_this(), keep](error_code ec, std::size_t) {
                        if (ec || !keep) return self->close();
                        self->response_ = {};
                        self->is_head_ = false;
                        self->read_header(kIdleTimeout);
                      });
  }

  void close() {
    error_code ignored;
    stream_.socket().shutdown(tcp::socket::shutdown_send, ignored);
    if (close_after_) drain();
  }

  // What the client still sends of a refused request is thrown away, for a moment: closing with
  // unread bytes would reset the connection, and the client might never see the answer.
  void drain() {
    if (drained_ > kMaxDrained) return;
    stream_.expires_after(kDrainTimeout);
    buffer_.clear();
    stream_.async_read_some(buffer_.prepare(kDrainBytes),
                            [self = shared_from_this()](error_code ec, std::size_t bytes) {
                              if (ec) return;
                              self->drained_ += bytes;
                              self->drain();
                            });
  }

  ConnectionHost& host_;
  beast::tcp_stream stream_;
  asio::steady_timer timer_;
  beast::flat_buffer buffer_;
  std::optional<http::request_parser<http::string_body>> parser_;
  http::response<http::string_body> response_;
  uint64_t request_number_ = 1;  // of the request that waits for its answer
  bool keep_alive_ = false;      // the client wants it
  bool is_head_ = false;
  bool close_after_ = false;
  size_t drained_ = 0;
};

}  // namespace

void start_connection(ConnectionHost& host, tcp::socket socket) {
  std::make_shared<HttpConnection>(host, std::move(socket))->start();
}

Origin origin_of(const asio::ip::address& remote, const asio::ip::address& local) {
  const asio::ip::address caller = without_mapping(remote);
  if (caller.is_loopback()) return Origin::kLoopback;
  return caller == without_mapping(local) ? Origin::kThisMachine : Origin::kOtherMachine;
}

}  // namespace connectd::admin
