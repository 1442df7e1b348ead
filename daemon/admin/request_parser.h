// The bytes of one connection to the HTTP port -> requests, one after the other. It holds a bounded
// number of bytes, whatever is sent: the buffer is small, and headers, chunk headers and trailers
// count against one limit. No sockets. On the server's thread.
#pragma once

#include <boost/asio/buffer.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/http/parser.hpp>
#include <boost/beast/http/string_body.hpp>
#include <cstddef>
#include <cstdint>
#include <optional>

#include "admin/http_message.h"
#include "admin/limits.h"

namespace connectd::admin {

class RequestParser final {
 public:
  enum class Step : uint8_t {
    kNeedMore,
    kHead,     // the headers are here, and the body may be: once for each request
    kWhole,    // take() gives the request
    kRefused,  // refusal() is the answer; where the next request begins is unknown
  };

  explicit RequestParser(size_t max_body) : max_body_(max_body) { begin(); }
  RequestParser(const RequestParser&) = delete;
  RequestParser& operator=(const RequestParser&) = delete;

  // The next request. Its first bytes may be here already.
  void begin();
  // Bytes of the request are here.
  bool has_begun() const { return buffer_.size() > 0 || head_bytes_ > 0; }

  // Room for bytes; commit() says how many came. There is always some after kNeedMore.
  boost::asio::mutable_buffer prepare();
  void commit(size_t bytes) { buffer_.commit(bytes); }

  Step next();
  const Response& refusal() const { return *refusal_; }

  // ---- from kHead on

  size_t announced_body() const { return announced_body_; }  // all that it may get, if unknown
  bool expects_continue() const { return expects_continue_; }
  bool keep_alive() const { return keep_alive_; }
  bool is_http_1_0() const { return is_http_1_0_; }
  bool is_head() const { return is_head_; }  // the method HEAD

  // Its memory is the caller's then.
  Request take();
  // The bytes that came are not wanted any more.
  void drop();

 private:
  Step next_of_head();
  Step next_of_body();
  Step accept_head();
  void take_head();
  void make_room_in_body();
  size_t fields() const;
  Step refuse(Response response);
  Step refuse(const boost::beast::error_code& ec);
  Step too_large();
  std::optional<Response> unclear_end() const;

  const size_t max_body_;
  boost::beast::flat_buffer buffer_{kMaxReadBuffer};
  std::optional<boost::beast::http::request_parser<boost::beast::http::string_body>> parser_;
  Request request_;        // its head, while the body is read
  size_t head_bytes_ = 0;  // parsed, with those of the request line
  size_t body_bytes_ = 0;  // parsed, with those that frame the chunks
  size_t announced_body_ = 0;
  bool in_body_ = false;
  bool is_chunked_ = false;
  bool expects_continue_ = false;
  bool keep_alive_ = false;
  bool is_http_1_0_ = false;
  bool is_head_ = false;
  std::optional<Response> refusal_;
};

}  // namespace connectd::admin
