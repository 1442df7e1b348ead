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
constexpr Duration kDrainTimeout = std::chrono::seconds(5);

// An IPv4 address that a socket for both families shows as ::ffff:10.0.0.1.
asio::ip::address without_mapping(const asio::ip::address& address) {
  if (!address.is_v6() || !address.to_v6().is_v4_mapped()) return address;
  return asio::ip::make_address_v4(asio::ip::v4_mapped, address.to_v6());
}

class HttpConnection final : public Reply::Connection,
                             public OpenConnection,
                             public std::enable_shared_from_this<HttpConnection> {
 public:
  HttpConnection(ConnectionHost& host, tcp::socket socket)
      : host_(host), stream_(std::move(socket)), timer_(stream_.get_executor()) {
    host_.opened(*this);
  }
  ~HttpConnection() {
    release();
    host_.closed(*this);
  }
  HttpConnection(const HttpConnection&) = delete;
  HttpConnection& operator=(const HttpConnection&) = delete;

  void start() { read_header(kRequestTimeout); }

  // ---- OpenConnection

  std::optional<Waiting> waiting() const override {
    if (!waiting_since_) return std::nullopt;
    return Waiting{header_ends_ || buffer_.size() > 0 || (parser_ && parser_->got_some()),
                   *waiting_since_};
  }
  size_t body_bytes() const override { return reserved_; }
  void close_for_another() override {
    release();
    stream_.close();
  }

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

  void hold(uint64_t request, Shares::Place place) override {
    if (request == request_number_) place_ = std::move(place);
  }

 private:
  // ---- one request in

  void read_header(Duration timeout) {
    release();
    has_answered_ = false;
    waiting_since_ = read_clocks().time;
    header_ends_ = false;
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
    header_ends_ = true;
    const auto& message = parser_->get();
    keep_alive_ = message.keep_alive();
    is_http_1_0_ = message.version() == 10;
    is_head_ = message.method() == http::verb::head;
    if (message.version() != 10 && message.version() != 11) {
      return refuse(problem(505, "HTTP version not supported", "write HTTP/1.1"));
    }
    if (auto refused = refuse_framing()) return refuse(std::move(*refused));
    if (parser_->content_length().value_or(0) > host_.max_request()) return too_large();
    if (!reserve_body()) {
      return refuse(problem(503, "Service unavailable",
                            "the bodies of other requests use the memory for them; try again"));
    }
    take_head();
    if (!is_http_1_0_ && lower_case(message[http::field::expect]) == "100-continue") {
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

  // Where one request ends and the next begins must be beyond doubt: a proxy that thinks otherwise
  // takes a part of one client's body for a request (RFC 9112 §6.1, §6.3, §11.2).
  std::optional<Response> refuse_framing() const {
    const auto& message = parser_->get();
    const size_t codings = message.count(http::field::transfer_encoding);
    const size_t lengths = message.count(http::field::content_length);
    const std::string_view length = message[http::field::content_length];
    if (lengths > 1 || length.find_first_not_of("0123456789") != std::string_view::npos) {
      return problem(400, "Bad request", "send one Content-Length, of digits");
    }
    if (codings == 0) return std::nullopt;
    if (lengths > 0) {
      return problem(400, "Bad request", "send Content-Length or Transfer-Encoding, not both");
    }
    if (is_http_1_0_) {
      return problem(400, "Bad request", "HTTP/1.0 has no Transfer-Encoding");
    }
    const std::string coding = lower_case(message[http::field::transfer_encoding]);
    if (codings > 1 || coding.empty()) {
      return problem(400, "Bad request", "send one Transfer-Encoding, with a value");
    }
    if (coding == "chunked") return std::nullopt;
    return problem(501, "Not implemented", "the only Transfer-Encoding is: chunked");
  }

  bool reserve_body() {
    const auto& message = parser_->get();
    const bool is_chunked = message.count(http::field::transfer_encoding) > 0;
    const size_t bytes = is_chunked ? host_.max_request() : parser_->content_length().value_or(0);
    if (!host_.reserve_body(bytes)) return false;
    reserved_ = bytes;
    return true;
  }

  // Before the body: trailer fields, which Beast adds to the headers, count for nothing.
  void take_head() {
    const auto& message = parser_->get();
    request_ = {};
    request_.method = std::string(message.method_string());
    request_.target = std::string(message.target());
    request_.is_http_1_0 = is_http_1_0_;
    request_.host_headers = message.count(http::field::host);
    for (const auto& field : message) {
      request_.headers.emplace(lower_case(field.name_string()), field.value());
    }
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
    Request request = std::exchange(request_, {});
    request.body = std::move(parser_->get().body());
    error_code ec;
    error_code local_error;
    const tcp::endpoint remote = stream_.socket().remote_endpoint(ec);
    const tcp::endpoint local = stream_.socket().local_endpoint(local_error);
    if (!local_error) {
      request.arrived_at = {without_mapping(local.address()).to_string(), local.port()};
      if (!ec) request.origin = origin_of(remote.address(), local.address());
    }
    waiting_since_.reset();
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

  // What the request was given ends with it.
  void release() {
    place_ = Shares::Place();
    host_.give_back_body(std::exchange(reserved_, 0));
  }

  // What was not read to its end ends the connection.
  void refuse(Response response) {
    close_after_ = true;
    write(std::move(response));
  }

  // ---- one answer out

  void write(Response response) {
    has_answered_ = true;
    // Who reads slowly keeps nobody out, unless the answer was made with a place in the shares.
    if (!place_) waiting_since_ = read_clocks().time;
    response_ = {};
    response_.version(11);
    response_.result(static_cast<unsigned>(response.status));
    response_.set(http::field::server, "connectd");
    if (!response.content_type.empty()) {
      response_.set(http::field::content_type, response.content_type);
    }
    response_.set(http::field::cache_control, "no-store");
    response_.set("X-Content-Type-Options", "nosniff");
    for (const auto& [name, value] : response.headers) response_.set(name, value);
    response_.body() = std::move(response.body);
    const bool keep = !close_after_ && keep_alive_;
    response_.keep_alive(keep);
    // The default of HTTP/1.0 is to close.
    if (keep && is_http_1_0_) response_.set(http::field::connection, "keep-alive");
    response_.prepare_payload();
    // RFC 9110 §8.6.
    if (response.status == 204) response_.erase(http::field::content_length);
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
    release();
    if (!has_answered_) return;
    waiting_since_ = Time();  // the first to make room for another
    stream_.expires_after(kDrainTimeout);
    drain();
  }

  // What the client still sends after the last answer is thrown away, for a moment: closing with
  // unread bytes would reset the connection, and the client might never see the answer.
  void drain() {
    if (drained_ > kMaxDrained) return;
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
  Request request_;  // its head, while the body is read
  http::response<http::string_body> response_;
  uint64_t request_number_ = 1;  // of the request that waits for its answer
  Shares::Place place_;
  size_t reserved_ = 0;                // for the body
  std::optional<Time> waiting_since_;  // for a request, or the rest of one
  bool header_ends_ = false;           // the body is being read
  bool has_answered_ = false;          // the request that was read last
  bool is_http_1_0_ = false;
  bool keep_alive_ = false;  // the client wants it
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
