#include "admin/connection.h"

#include <algorithm>
#include <array>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/write.hpp>
#include <boost/beast/core/error.hpp>
#include <boost/beast/http/message.hpp>
#include <boost/beast/http/string_body.hpp>
#include <boost/beast/http/write.hpp>
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "admin/limits.h"
#include "admin/request_parser.h"
#include "base/address.h"
#include "config/config.h"

namespace connectd::admin {
namespace {

namespace asio = boost::asio;
namespace beast = boost::beast;
namespace http = boost::beast::http;
using tcp = asio::ip::tcp;
using beast::error_code;

constexpr size_t kMaxDrained = 64 << 20;
constexpr Duration kDrainTimeout = std::chrono::seconds(5);

class HttpConnection final : public Reply::Connection,
                             public OpenConnection,
                             public std::enable_shared_from_this<HttpConnection> {
 public:
  HttpConnection(ConnectionHost& host, net::Stream stream, bool beyond_limit)
      : host_(host),
        beyond_limit_(beyond_limit),
        stream_(std::move(stream)),
        timer_(stream_.get_executor()),
        io_timer_(stream_.get_executor()),
        parser_(host.max_request()) {
    host_.opened(*this);
  }
  ~HttpConnection() {
    release();
    host_.closed(*this);
  }
  HttpConnection(const HttpConnection&) = delete;
  HttpConnection& operator=(const HttpConnection&) = delete;

  void start() {
    error_code ec;
    stream_.socket().non_blocking(true, ec);
    if (ec) return;
    read_request(kRequestTimeout);
  }

  // ---- OpenConnection

  std::optional<Waiting> waiting() const override {
    if (!waiting_since_) return std::nullopt;
    return Waiting{state_ != State::kIdle && state_ != State::kDraining, *waiting_since_};
  }
  size_t body_bytes() const override { return reserved_; }
  bool has_unread() override {
    if (!stream_.has_unread()) return false;
    waiting_since_ = read_clocks().time;
    return true;
  }
  void close_for_another() override {
    if (state_ == State::kReading) {
      close_after_ = true;
      make_response(problem(503, "Service unavailable",
                            "the request took over a second to arrive, and others need its place; "
                            "try again"));
      error_code ignored;  // there is room for it in the socket, or nobody listens
      http::write(stream_, response_, ignored);
      stream_.shut_down(ignored);
    }
    end();
  }

  const tls::Session* session() const override { return stream_.session(); }
  void close_when_idle() override {
    close_after_ = true;
    if (state_ == State::kIdle) end();
  }

  // ---- Reply::Connection

  void answer(uint64_t request, Response response) override {
    if (request != request_number_ || state_ == State::kEnded) return;
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
  enum class State : uint8_t {
    kIdle,      // nothing of a request is here
    kReading,   // a part of one
    kHandling,  // all of it; its answer is being made
    kWriting,   // the answer
    kDraining,  // after the last answer
    kEnded,     // the operations that were begun end in a moment, and do nothing
  };

  // ---- one request in

  void read_request(Duration timeout) {
    release();
    state_ = State::kIdle;
    waiting_since_ = read_clocks().time;
    parser_.begin();
    limit_time(timeout);
    // A pipelined request may be here.
    if (parser_.has_begun()) return parse();
    wait_for_bytes();
  }

  // Nothing is read before the handler runs: what is not in the parser is in the socket, where
  // close_for_another() can see it.
  void wait_for_bytes() {
    stream_.async_wait_readable([self = shared_from_this()](error_code ec) {
      if (self->state_ == State::kDraining) return self->drain();
      if (self->state_ != State::kIdle && self->state_ != State::kReading) return;
      if (ec) return self->end();
      self->read_some();
    });
  }

  void read_some() {
    error_code ec;
    const asio::mutable_buffer room = parser_.prepare();
    const size_t bytes = stream_.read_some({static_cast<uint8_t*>(room.data()), room.size()}, ec);
    if (ec == asio::error::would_block) return wait_for_bytes();
    if (ec) return end();
    parser_.commit(bytes);
    parse();
  }

  void parse() {
    if (state_ == State::kIdle) {
      state_ = State::kReading;
      waiting_since_ = read_clocks().time;
      hold_bytes(kHeadBytes);
      limit_time(kRequestTimeout);
    }
    switch (parser_.next()) {
      case RequestParser::Step::kNeedMore:
        return wait_for_bytes();
      case RequestParser::Step::kRefused:
        return refuse(parser_.refusal());
      case RequestParser::Step::kHead:
        return on_head();
      case RequestParser::Step::kWhole:
        return hand_on();
    }
  }

  void on_head() {
    keep_alive_ = parser_.keep_alive();
    is_http_1_0_ = parser_.is_http_1_0();
    is_head_ = parser_.is_head();
    if (!host_.reserve_body(parser_.announced_body())) {
      return refuse(problem(503, "Service unavailable",
                            "the bodies of other requests use the memory for them; try again"));
    }
    reserved_ = parser_.announced_body();
    limit_time(kRequestTimeout);
    if (!parser_.expects_continue()) return parse();
    static const std::string kContinue = "HTTP/1.1 100 Continue\r\n\r\n";
    asio::async_write(stream_, asio::buffer(kContinue),
                      [self = shared_from_this()](error_code ec, std::size_t) {
                        if (self->state_ != State::kReading) return;
                        if (ec) return self->end();
                        self->parse();
                      });
  }

  void hand_on() {
    Request request = parser_.take();
    error_code ec;
    error_code local_error;
    const tcp::endpoint remote = stream_.socket().remote_endpoint(ec);
    const tcp::endpoint local = stream_.socket().local_endpoint(local_error);
    if (!local_error) {
      request.arrived_at = {net::without_mapping(local.address()).to_string(), local.port()};
      if (!ec) request.origin = net::origin_of(remote.address(), local.address());
    }
    if (const tls::Session* session = stream_.session(); session != nullptr) {
      request.is_encrypted = true;
      if (session->other() != nullptr) request.certificate = host_.owner_of(*session->other());
    }
    if (!ec) {
      request.remote = net::without_mapping(remote.address()).to_string();
      request.remote_network = net::network_of(remote.address());
    }
    beyond_limit_ = beyond_limit_ && host_.is_full();
    request.beyond_limit = close_after_ = beyond_limit_;
    state_ = State::kHandling;
    waiting_since_.reset();
    io_timer_.cancel();  // the answer may take as long as its handler says
    host_.handle(std::move(request), Reply(shared_from_this(), request_number_));
  }

  void too_slow() {
    error_code ignored;
    stream_.cancel(ignored);  // what was begun ends, and does nothing
    refuse(problem(408, "Request timeout", "the request did not arrive in time"));
  }

  // What the request was given ends with it.
  void release() {
    place_ = Shares::Place();
    answer_held_.reset();
    host_.give_back_body(std::exchange(reserved_, 0));
    host_.give_back(std::exchange(held_, 0));
  }

  void hold_bytes(size_t bytes) {
    host_.hold(bytes);
    held_ += bytes;
  }

  // What was not read to its end ends the connection.
  void refuse(Response response) {
    parser_.drop();
    close_after_ = true;
    is_whole_ = false;
    write(std::move(response));
  }

  // ---- one answer out

  void write(Response response) {
    state_ = State::kWriting;
    // Who reads slowly keeps nobody out, unless the answer was made with a place in the shares.
    if (!place_) waiting_since_ = read_clocks().time;
    hold_bytes(response.body.size());
    answer_held_ = std::move(response.held);
    const bool keep = make_response(std::move(response));
    limit_time(kRequestTimeout);
    http::async_write(stream_, response_,
                      [self = shared_from_this(), keep](error_code ec, std::size_t) {
                        if (self->state_ != State::kWriting) return;
                        self->response_ = {};
                        self->is_head_ = false;
                        if (ec) return self->end();
                        if (!keep) return self->close();
                        self->read_request(kIdleTimeout);
                      });
  }

  // False: the connection ends with it.
  bool make_response(Response response) {
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
    return keep;
  }

  void close() {
    error_code ignored;
    stream_.shut_down(ignored);
    release();
    parser_.drop();
    state_ = State::kDraining;
    // The first to make room for another. A client that is still sending would not see the answer.
    waiting_since_ = is_whole_ ? Time() : read_clocks().time;
    limit_time(kDrainTimeout);
    wait_for_bytes();
  }

  // What the client still sends after the last answer is thrown away, for a moment: closing with
  // unread bytes would reset the connection, and the client might never see the answer.
  void drain() {
    std::array<uint8_t, kReadBytes> thrown_away;  // NOLINT(*-member-init)
    error_code ec;
    const size_t bytes = stream_.read_some(thrown_away, ec);
    drained_ += bytes;
    if ((ec && ec != asio::error::would_block) || drained_ > kMaxDrained) return end();
    wait_for_bytes();
  }

  void end() {
    state_ = State::kEnded;
    waiting_since_.reset();
    release();
    io_timer_.cancel();
    stream_.close();
  }

  // For all that is read or written until it is set anew.
  void limit_time(Duration limit) {
    io_timer_.expires_after(std::chrono::duration_cast<std::chrono::steady_clock::duration>(limit));
    io_timer_.async_wait([weak = weak_from_this()](error_code aborted) {
      auto self = weak.lock();
      if (aborted || !self) return;
      // It may have been set anew when this was on its way.
      if (self->io_timer_.expiry() > std::chrono::steady_clock::now()) return;
      if (self->state_ == State::kReading) return self->too_slow();
      if (self->state_ != State::kHandling) self->end();
    });
  }

  ConnectionHost& host_;
  bool beyond_limit_;
  net::Stream stream_;
  asio::steady_timer timer_;     // of the answer
  asio::steady_timer io_timer_;  // of reading and writing
  RequestParser parser_;
  http::response<http::string_body> response_;
  State state_ = State::kIdle;
  uint64_t request_number_ = 1;  // of the request that waits for its answer
  Shares::Place place_;
  std::shared_ptr<const void> answer_held_;  // ends when the answer is sent
  size_t reserved_ = 0;                      // for the body
  size_t held_ = 0;                          // for the head, and the answer
  std::optional<Time> waiting_since_;        // for a request, or the rest of one
  bool is_http_1_0_ = false;
  bool keep_alive_ = false;  // the client wants it
  bool is_head_ = false;
  bool close_after_ = false;
  bool is_whole_ = true;  // all of the last request was read
  size_t drained_ = 0;
};

}  // namespace

void start_connection(ConnectionHost& host, net::Stream stream, bool beyond_limit) {
  std::make_shared<HttpConnection>(host, std::move(stream), beyond_limit)->start();
}

}  // namespace connectd::admin
