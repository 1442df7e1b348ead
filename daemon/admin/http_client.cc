#include "admin/http_client.h"

#include <boost/asio/connect.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/http.hpp>
#include <optional>
#include <utility>

#include "admin/limits.h"
#include "base/address.h"

namespace connectd::admin {
namespace {

namespace asio = boost::asio;
namespace beast = boost::beast;
namespace http = boost::beast::http;
using tcp = asio::ip::tcp;

// Beast reads as much at once as the buffer has room for.
constexpr size_t kReadBytes = 64 << 10;

// Lives as long as one of its operations is in progress. One timer covers all of them.
class Exchange : public std::enable_shared_from_this<Exchange> {
 public:
  Exchange(asio::io_context& io, size_t max_answer, std::function<void(HttpOutcome)> done)
      : resolver_(io), socket_(io), timer_(io), done_(std::move(done)) {
    parser_.body_limit(max_answer);
    parser_.header_limit(kMaxHeaderBytes);
    buffer_.reserve(kReadBytes);
  }

  void start(const Address& address, HttpRequest request, Duration timeout) {
    request_.method_string(request.method);
    request_.target(request.target);
    request_.version(11);
    request_.set(http::field::host, address.to_string());
    request_.set(http::field::user_agent, "connectd");
    request_.set(http::field::connection, "close");
    for (const auto& [name, value] : request.headers) request_.set(name, value);
    request_.body() = std::move(request.body);
    if (request.method != "GET") request_.prepare_payload();

    timer_.expires_after(std::chrono::duration_cast<std::chrono::steady_clock::duration>(timeout));
    timer_.async_wait([self = shared_from_this()](beast::error_code ec) {
      if (ec) return;
      self->finish(tl::unexpected(HttpFailure{"no answer in time", self->sent_}));
    });
    resolver_.async_resolve(address.host, std::to_string(address.port),
                            [self = shared_from_this()](
                                beast::error_code ec, const tcp::resolver::results_type& results) {
                              if (ec) return self->fail("cannot resolve the name", ec);
                              self->connect(results);
                            });
  }

 private:
  void connect(const tcp::resolver::results_type& results) {
    asio::async_connect(socket_, results,
                        [self = shared_from_this()](beast::error_code ec, const tcp::endpoint&) {
                          if (ec) return self->fail("", ec);
                          self->write();
                        });
  }
  void write() {
    sent_ = true;
    http::async_write(
        socket_, request_, [self = shared_from_this()](beast::error_code ec, std::size_t) {
          // The server may have refused early and closed: its answer is there.
          if (ec && ec != asio::error::broken_pipe && ec != asio::error::connection_reset) {
            return self->fail("", ec);
          }
          self->read();
        });
  }
  void read() {
    http::async_read(socket_, buffer_, parser_,
                     [self = shared_from_this()](beast::error_code ec, std::size_t) {
                       if (ec) return self->fail("", ec);
                       HttpAnswer answer;
                       answer.status = static_cast<int>(self->parser_.get().result_int());
                       for (const auto& field : self->parser_.get()) {
                         std::string name(field.name_string());
                         for (char& c : name)
                           c = (c >= 'A' && c <= 'Z') ? static_cast<char>(c - 'A' + 'a') : c;
                         answer.headers[name] = std::string(field.value());
                       }
                       answer.body = std::move(self->parser_.get().body());
                       self->finish(std::move(answer));
                     });
  }
  void fail(const std::string& what, beast::error_code ec) {
    if (ec == http::error::end_of_stream) {
      finish(tl::unexpected(HttpFailure{"connection closed without an answer", sent_}));
      return;
    }
    std::string reason = ec.message();
    if (!reason.empty() && reason[0] >= 'A' && reason[0] <= 'Z') {
      reason[0] = static_cast<char>(reason[0] - 'A' + 'a');
    }
    finish(tl::unexpected(HttpFailure{what.empty() ? reason : what + ": " + reason, sent_}));
  }
  void finish(HttpOutcome outcome) {
    if (!done_) return;
    auto done = std::exchange(done_, nullptr);
    beast::error_code ignored;
    timer_.cancel();
    resolver_.cancel();
    socket_.close(ignored);
    done(std::move(outcome));
  }

  tcp::resolver resolver_;
  tcp::socket socket_;
  asio::steady_timer timer_;
  beast::flat_buffer buffer_;
  http::request<http::string_body> request_;
  http::response_parser<http::string_body> parser_;
  std::function<void(HttpOutcome)> done_;  // empty: done
  bool sent_ = false;
};

}  // namespace

void fetch(asio::io_context& io, const Address& address, HttpRequest request, Duration timeout,
           size_t max_answer, std::function<void(HttpOutcome)> done) {
  std::make_shared<Exchange>(io, max_answer, std::move(done))
      ->start(address, std::move(request), timeout);
}

HttpOutcome fetch(const Address& address, HttpRequest request, Duration timeout,
                  size_t max_answer) {
  asio::io_context io;
  std::optional<HttpOutcome> outcome;
  fetch(io, address, std::move(request), timeout, max_answer,
        [&](HttpOutcome o) { outcome = std::move(o); });
  // Name resolution cannot be interrupted: do not wait for its end.
  while (!outcome && io.run_one() > 0) {
  }
  if (!outcome) return tl::unexpected(HttpFailure{"request ended without an outcome", true});
  return std::move(*outcome);
}

}  // namespace connectd::admin
