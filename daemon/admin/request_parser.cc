#include "admin/request_parser.h"

#include <fmt/format.h>

#include <algorithm>
#include <iterator>
#include <string>
#include <string_view>
#include <utility>

#include "admin/call_outcome.h"

namespace connectd::admin {

namespace http = boost::beast::http;
using boost::beast::error_code;

void RequestParser::begin() {
  // Most connections wait for a request with nothing here: they need no memory for it.
  if (buffer_.size() == 0) buffer_.shrink_to_fit();
  parser_.emplace();
  parser_->header_limit(kMaxHeaderBytes);
  parser_->body_limit(max_body_);
  request_ = {};
  head_bytes_ = body_bytes_ = announced_body_ = 0;
  in_body_ = is_chunked_ = expects_continue_ = false;
  keep_alive_ = is_http_1_0_ = is_head_ = false;
}

boost::asio::mutable_buffer RequestParser::prepare() {
  return buffer_.prepare(std::min(kReadBytes, kMaxReadBuffer - buffer_.size()));
}

RequestParser::Step RequestParser::next() {
  if (buffer_.size() == 0 && !(in_body_ && parser_->is_done())) return Step::kNeedMore;
  return in_body_ ? next_of_body() : next_of_head();
}

RequestParser::Step RequestParser::next_of_head() {
  error_code ec;
  const size_t parsed = parser_->put(buffer_.data(), ec);
  buffer_.consume(parsed);
  head_bytes_ += parsed;
  if (ec && ec != http::error::need_more) return refuse(ec);
  // Beast has a limit for a piece that it parses, not for all of them.
  const size_t bytes = head_bytes_ + (ec ? buffer_.size() : 0);
  if (bytes > kMaxHeaderBytes || fields() > kMaxHeaders) return refuse(http::error::header_limit);
  return ec ? Step::kNeedMore : accept_head();
}

RequestParser::Step RequestParser::accept_head() {
  const auto& message = parser_->get();
  keep_alive_ = message.keep_alive();
  is_http_1_0_ = message.version() == 10;
  is_head_ = message.method() == http::verb::head;
  if (message.version() != 10 && message.version() != 11) {
    return refuse(problem(505, "HTTP version not supported", "write HTTP/1.1"));
  }
  if (auto unclear = unclear_end()) return refuse(std::move(*unclear));
  const uint64_t length = parser_->content_length().value_or(0);
  if (length > max_body_) return too_large();
  is_chunked_ = message.count(http::field::transfer_encoding) > 0;
  announced_body_ = is_chunked_ ? max_body_ : static_cast<size_t>(length);
  expects_continue_ = !is_http_1_0_ && lower_case(message[http::field::expect]) == "100-continue";
  take_head();
  parser_->eager(true);
  in_body_ = true;
  return Step::kHead;
}

// Where one request ends and the next begins must be beyond doubt: a proxy that thinks otherwise
// takes a part of one client's body for a request (RFC 9112 §6.1, §6.3, §11.2).
std::optional<Response> RequestParser::unclear_end() const {
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

// Before the body: trailer fields, which Beast adds to the headers, count for nothing.
void RequestParser::take_head() {
  auto& message = parser_->get();
  request_.method = std::string(message.method_string());
  request_.target = std::string(message.target());
  request_.is_http_1_0 = is_http_1_0_;
  request_.host_headers = message.count(http::field::host);
  for (const auto& field : message) {
    request_.headers.emplace(lower_case(field.name_string()), field.value());
  }
  message.base().clear();
}

RequestParser::Step RequestParser::next_of_body() {
  if (parser_->is_done()) return Step::kWhole;
  make_room_in_body();
  error_code ec;
  const size_t parsed = parser_->put(buffer_.data(), ec);
  buffer_.consume(parsed);
  body_bytes_ += parsed;
  if (ec && ec != http::error::need_more) return refuse(ec);
  if (is_chunked_) {
    // What is left is the part of a chunk header, or of the trailer; the next request's if all of
    // this one was parsed.
    const size_t unparsed = parser_->is_done() ? 0 : buffer_.size();
    const size_t body = parser_->get().body().size();
    const size_t framing = body_bytes_ + unparsed - body;
    if (unparsed > kMaxHeaderBytes || framing > kMaxHeaderBytes + body * kChunkFramingPerByte) {
      return refuse(problem(
          400, "Bad request",
          fmt::format("chunk headers and trailers must have at most {} bytes, beside what chunks "
                      "need",
                      kMaxHeaderBytes)));
    }
  }
  return parser_->is_done() ? Step::kWhole : Step::kNeedMore;
}

// A string that grows doubles, at least: it grows to half of what was reserved for it, then to all.
void RequestParser::make_room_in_body() {
  if (!is_chunked_) return;  // Beast reserves what Content-Length says
  std::string& body = parser_->get().body();
  const size_t needed = std::min(body.size() + buffer_.size(), announced_body_);
  if (needed <= body.capacity()) return;
  const size_t more = std::max(needed, 2 * body.capacity());
  body.reserve(more > announced_body_ / 2 ? announced_body_ : more);
}

size_t RequestParser::fields() const {
  const auto& message = parser_->get();
  return static_cast<size_t>(std::distance(message.begin(), message.end()));
}

Request RequestParser::take() {
  Request request = std::exchange(request_, {});
  request.body = std::move(parser_->get().body());
  parser_.reset();  // the trailer
  return request;
}

void RequestParser::drop() {
  buffer_.clear();
  buffer_.shrink_to_fit();
  request_ = {};
  parser_.reset();
}

RequestParser::Step RequestParser::refuse(Response response) {
  refusal_ = std::move(response);
  return Step::kRefused;
}

RequestParser::Step RequestParser::refuse(const error_code& ec) {
  if (ec == http::error::body_limit) return too_large();
  if (ec == http::error::header_limit) {
    return refuse(problem(431, "Request header fields too large",
                          fmt::format("there may be at most {} headers, of {} bytes together",
                                      kMaxHeaders, kMaxHeaderBytes)));
  }
  return refuse(problem(400, "Bad request", fmt::format("invalid HTTP: {}", ec.message())));
}

RequestParser::Step RequestParser::too_large() {
  const CallOutcome outcome = call_outcome(node::ReplyCode::kTooLarge);
  return refuse(
      problem(outcome.http_status, outcome.title,
              fmt::format("a request must have at most client.max_request = {} bytes", max_body_),
              outcome.code));
}

}  // namespace connectd::admin
