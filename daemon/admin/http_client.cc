#include "admin/http_client.h"

#include <boost/asio/connect.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/http.hpp>
#include <optional>
#include <utility>

#include "admin/connection.h"
#include "admin/limits.h"
#include "base/address.h"
#include "net/stream.h"

namespace connectd::admin {
namespace {

namespace asio = boost::asio;
namespace beast = boost::beast;
namespace http = boost::beast::http;
using tcp = asio::ip::tcp;

// Beast reads as much at once as the buffer has room for.
constexpr size_t kAnswerReadBytes = 64 << 10;

std::string lower_first(std::string text) {
  if (!text.empty() && text[0] >= 'A' && text[0] <= 'Z') {
    text[0] = static_cast<char>(text[0] - 'A' + 'a');
  }
  return text;
}

// Lives as long as one of its operations is in progress. One timer covers all of them.
class Exchange : public std::enable_shared_from_this<Exchange> {
 public:
  Exchange(asio::io_context& io, size_t max_answer, std::function<void(HttpOutcome)> done)
      : stream_(io), timer_(io), done_(std::move(done)) {
    parser_.body_limit(max_answer);
    parser_.header_limit(kMaxHeaderBytes);
    buffer_.reserve(kAnswerReadBytes);
  }

  void start(const Address& address, net::Names& names, HttpRequest request, Duration timeout) {
    host_ = address.host;
    tls_ = std::move(request.tls);
    request_.method_string(request.method);
    request_.target(request.target);
    request_.version(11);
    request_.set(http::field::host, address.to_string());
    request_.set(http::field::user_agent, "connectd");
    request_.set(http::field::connection, "close");
    for (const auto& [name, value] : request.headers) request_.set(name, value);
    request_.body() = std::move(request.body);
    token_ = std::move(request.token);
    if (request.method != "GET") request_.prepare_payload();

    timer_.expires_after(std::chrono::duration_cast<std::chrono::steady_clock::duration>(timeout));
    timer_.async_wait([self = shared_from_this()](beast::error_code ec) {
      if (ec) return;
      self->finish(tl::unexpected(HttpFailure{"no answer in time", self->sent_}));
    });
    names.find(address.host,
               [self = shared_from_this(), port = address.port](const net::Names::Found& found) {
                 if (!self->done_) return;
                 if (!found)
                   return self->fail("cannot resolve the name: " + lower_first(found.error()));
                 self->connect(*found, port);
               });
  }

 private:
  void connect(const net::Names::Addresses& addresses, uint16_t port) {
    std::vector<tcp::endpoint> endpoints;
    endpoints.reserve(addresses.size());
    for (const auto& address : addresses) endpoints.emplace_back(address, port);
    asio::async_connect(stream_.socket(), endpoints,
                        [self = shared_from_this()](beast::error_code ec, const tcp::endpoint&) {
                          if (ec) return self->fail(ec);
                          if (self->tls_) return self->shake_hands();
                          self->write();
                        });
  }
  void shake_hands() {
    stream_.async_dial_tls(tls_, {.uri = {}, .host = host_},
                           [self = shared_from_this()](beast::error_code ec) {
                             if (ec) return self->fail(ec);
                             self->write();
                           });
  }
  bool is_within_this_machine() {
    beast::error_code remote_error, local_error;
    const tcp::endpoint remote = stream_.socket().remote_endpoint(remote_error);
    const tcp::endpoint local = stream_.socket().local_endpoint(local_error);
    return !remote_error && !local_error &&
           net::origin_of(remote.address(), local.address()) != Origin::kOtherMachine;
  }
  void write() {
    sent_ = true;
    if (!token_.empty() && (tls_ || is_within_this_machine())) {
      request_.set(http::field::authorization, "Bearer " + token_);
    }
    http::async_write(
        stream_, request_, [self = shared_from_this()](beast::error_code ec, std::size_t) {
          // The server may have refused early and closed: its answer is there.
          if (ec && ec != asio::error::broken_pipe && ec != asio::error::connection_reset) {
            return self->fail(ec);
          }
          self->read();
        });
  }
  void read() {
    http::async_read(stream_, buffer_, parser_,
                     [self = shared_from_this()](beast::error_code ec, std::size_t) {
                       if (ec) return self->fail(ec);
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
  void fail(beast::error_code ec) {
    const bool is_end = ec == http::error::end_of_stream;
    // The first line of another protocol.
    const bool is_no_http = ec == http::error::bad_version || ec == http::error::bad_method ||
                            ec == http::error::bad_status || ec == http::error::bad_line_ending;
    fail(is_end       ? "connection closed without an answer"
         : is_no_http ? "the answer is not HTTP: this may be the client or peer port of a node"
                      : lower_first(stream_.why(ec)));
  }
  void fail(std::string text) { finish(tl::unexpected(HttpFailure{std::move(text), sent_})); }
  void finish(HttpOutcome outcome) {
    if (!done_) return;
    auto done = std::exchange(done_, nullptr);
    timer_.cancel();
    stream_.close();
    done(std::move(outcome));
  }

  std::string host_;
  std::shared_ptr<const tls::Credentials> tls_;  // null: plain
  net::Stream stream_;
  asio::steady_timer timer_;
  beast::flat_buffer buffer_{2 * kAnswerReadBytes};  // bounds chunk headers, too
  http::request<http::string_body> request_;
  http::response_parser<http::string_body> parser_;
  std::string token_;
  std::function<void(HttpOutcome)> done_;  // empty: done
  bool sent_ = false;
};

}  // namespace

void fetch(asio::io_context& io, net::Names& names, const Address& address, HttpRequest request,
           Duration timeout, size_t max_answer, std::function<void(HttpOutcome)> done) {
  std::make_shared<Exchange>(io, max_answer, std::move(done))
      ->start(address, names, std::move(request), timeout);
}

HttpOutcome fetch(const Address& address, HttpRequest request, Duration timeout,
                  size_t max_answer) {
  asio::io_context io;
  net::Names names(io);
  std::optional<HttpOutcome> outcome;
  fetch(io, names, address, std::move(request), timeout, max_answer,
        [&](HttpOutcome o) { outcome = std::move(o); });
  while (!outcome && io.run_one() > 0) {
  }
  if (!outcome) return tl::unexpected(HttpFailure{"request ended without an outcome", true});
  return std::move(*outcome);
}

}  // namespace connectd::admin
