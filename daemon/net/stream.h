// A connection of TCP that is plain, or inside TLS: what links, clients and the HTTP port read and
// write. A plain one costs what its socket costs.
//
// Never waits: reads and writes take what is there, and the asynchronous ones wait for the socket.
// On the thread of the socket's executor. Whoever starts an operation keeps the stream until its
// handler has run.
#pragma once

#include <boost/asio/associated_executor.hpp>
#include <boost/asio/buffer.hpp>
#include <boost/asio/error.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/post.hpp>
#include <boost/system/system_error.hpp>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>

#include "tls/handshakes.h"
#include "tls/session.h"

namespace connectd::net {

// What came of a handshake, on its way from that thread to the one of the connection.
struct Shaken {
  explicit Shaken(tls::Outcome made) : outcome(std::move(made)) {}
  ~Shaken();
  Shaken(const Shaken&) = delete;
  Shaken& operator=(const Shaken&) = delete;

  tls::Outcome outcome;
};

class Stream {  // not final: Asio derives from it to see what it is
 public:
  using tcp = boost::asio::ip::tcp;
  using error_code = boost::system::error_code;
  using executor_type = tcp::socket::executor_type;

  explicit Stream(tcp::socket socket) : socket_(std::move(socket)) {}
  explicit Stream(boost::asio::io_context& io) : socket_(io) {}

  tcp::socket& socket() { return socket_; }
  executor_type get_executor() { return socket_.get_executor(); }

  // Takes the socket away from its executor, for a handshake on another thread; -1 if that fails.
  // It is non-blocking then.
  int release();
  // The socket that was released, with its session if it has one. It had not failed.
  error_code take(Shaken& shaken);
  // Null: it is plain.
  const tls::Session* session() const { return session_.get(); }

  // What is there now, at most `space`; 0 with would_block, or with eof at the end. An end that
  // cuts TLS off is truncated().
  size_t read_some(std::span<uint8_t> space, error_code& error);
  size_t write_some(std::string_view bytes, error_code& error);

  // handler(error_code), when more may be there or fit in. Behind a read_some() or write_some()
  // that would block.
  template <class Handler>
  void async_wait_readable(Handler&& handler);
  template <class Handler>
  void async_wait_writable(Handler&& handler);

  // handler(error_code, size_t), never from inside this call. One read at a time.
  template <class Handler>
  void async_read_some(std::span<uint8_t> space, Handler&& handler);

  // ---- as Asio and Beast know streams. Inside TLS, the first buffer that is not empty counts.
  template <class Buffers, class Handler>
  requires boost::asio::is_mutable_buffer_sequence<Buffers>::value void async_read_some(
      const Buffers& buffers, Handler&& handler);
  template <class Buffers, class Handler>
  requires boost::asio::is_const_buffer_sequence<Buffers>::value void async_write_some(
      const Buffers& buffers, Handler&& handler);
  template <class Buffers>
  requires boost::asio::is_const_buffer_sequence<Buffers>::value size_t
  write_some(const Buffers& buffers, error_code& error);
  template <class Buffers>
  requires boost::asio::is_const_buffer_sequence<Buffers>::value size_t
  write_some(const Buffers& buffers);  // throws boost::system::system_error

  // ---- of one who dials, when the socket is connected
  // The handshake is done here, on this thread; handler(error_code).
  template <class Handler>
  void async_dial_tls(std::shared_ptr<const tls::Credentials> credentials, tls::Expected expected,
                      Handler&& handler);

  // Bytes that the other side sent may be there.
  bool has_unread();
  // The other side sees the end behind the last byte.
  void shut_down(error_code& error);
  // Ends what waits.
  void cancel(error_code& error) { socket_.cancel(error); }
  void close();

  // Why the last operation failed with tls_failed(): a sentence. Else what the error says.
  std::string why(error_code error) const;
  static error_code truncated();
  static error_code tls_failed();

 private:
  template <class Buffers>
  static auto first_of(const Buffers& buffers);
  template <class Handler>
  void async_shake(Handler&& handler);
  // Runs the handler later, where it wants to run.
  template <class Handler>
  void post(Handler&& handler, error_code error, size_t bytes);
  // kDone: `bytes` counts. Else `error` says what to wait for, or what went wrong.
  static size_t outcome(const tls::Io& io, error_code& error);

  tcp::socket socket_;
  std::unique_ptr<tls::Session> session_;
  // What the session waits for: TLS may have to write before it can read, and the other way.
  tcp::socket::wait_type read_waits_for_ = tcp::socket::wait_read;
  tcp::socket::wait_type write_waits_for_ = tcp::socket::wait_write;
};

template <class Handler>
void Stream::async_wait_readable(Handler&& handler) {
  if (session_ && session_->has_pending()) {
    boost::asio::post(get_executor(), [handler = std::forward<Handler>(handler)]() mutable {
      handler(error_code());
    });
    return;
  }
  socket_.async_wait(session_ ? read_waits_for_ : tcp::socket::wait_read,
                     std::forward<Handler>(handler));
}

template <class Handler>
void Stream::async_wait_writable(Handler&& handler) {
  socket_.async_wait(session_ ? write_waits_for_ : tcp::socket::wait_write,
                     std::forward<Handler>(handler));
}

template <class Handler>
void Stream::async_read_some(std::span<uint8_t> space, Handler&& handler) {
  if (!session_) {
    socket_.async_read_some(boost::asio::buffer(space.data(), space.size()),
                            std::forward<Handler>(handler));
    return;
  }
  async_wait_readable(
      [this, space, handler = std::forward<Handler>(handler)](error_code error) mutable {
        const size_t bytes = error ? 0 : read_some(space, error);
        if (error == boost::asio::error::would_block) {
          return async_read_some(space, std::move(handler));
        }
        handler(error, bytes);
      });
}

template <class Buffers>
auto Stream::first_of(const Buffers& buffers) {
  auto at = boost::asio::buffer_sequence_begin(buffers);
  const auto end = boost::asio::buffer_sequence_end(buffers);
  using Buffer = std::decay_t<decltype(*at)>;
  for (; at != end; ++at) {
    if (const Buffer buffer(*at); buffer.size() > 0) return buffer;
  }
  return Buffer();
}

template <class Handler>
void Stream::post(Handler&& handler, error_code error, size_t bytes) {
  auto executor = boost::asio::get_associated_executor(handler, get_executor());
  boost::asio::post(executor, [handler = std::forward<Handler>(handler), error, bytes]() mutable {
    handler(error, bytes);
  });
}

template <class Buffers, class Handler>
requires boost::asio::is_mutable_buffer_sequence<Buffers>::value void Stream::async_read_some(
    const Buffers& buffers, Handler&& handler) {
  if (!session_) {
    socket_.async_read_some(buffers, std::forward<Handler>(handler));
    return;
  }
  const boost::asio::mutable_buffer first = first_of(buffers);
  async_read_some(std::span(static_cast<uint8_t*>(first.data()), first.size()),
                  std::forward<Handler>(handler));
}

template <class Buffers>
requires boost::asio::is_const_buffer_sequence<Buffers>::value size_t
Stream::write_some(const Buffers& buffers, error_code& error) {
  if (!session_) return socket_.write_some(buffers, error);
  const boost::asio::const_buffer first = first_of(buffers);
  return write_some(std::string_view(static_cast<const char*>(first.data()), first.size()), error);
}

template <class Buffers>
requires boost::asio::is_const_buffer_sequence<Buffers>::value size_t
Stream::write_some(const Buffers& buffers) {
  error_code error;
  const size_t bytes = write_some(buffers, error);
  if (error) throw boost::system::system_error(error);
  return bytes;
}

template <class Buffers, class Handler>
requires boost::asio::is_const_buffer_sequence<Buffers>::value void Stream::async_write_some(
    const Buffers& buffers, Handler&& handler) {
  if (!session_) {
    socket_.async_write_some(buffers, std::forward<Handler>(handler));
    return;
  }
  error_code error;
  const size_t bytes = write_some(buffers, error);
  if (error != boost::asio::error::would_block) {
    return post(std::forward<Handler>(handler), error, bytes);
  }
  async_wait_writable(
      [this, buffers, handler = std::forward<Handler>(handler)](error_code failed) mutable {
        if (failed) return handler(failed, 0);
        async_write_some(buffers, std::move(handler));
      });
}

template <class Handler>
void Stream::async_dial_tls(std::shared_ptr<const tls::Credentials> credentials,
                            tls::Expected expected, Handler&& handler) {
  error_code error;
  socket_.native_non_blocking(true, error);
  session_ =
      tls::Session::dial(std::move(credentials), socket_.native_handle(), std::move(expected));
  async_shake(std::forward<Handler>(handler));
}

template <class Handler>
void Stream::async_shake(Handler&& handler) {
  const tls::Status status = session_->shake();
  if (status == tls::Status::kDone || status == tls::Status::kFailed) {
    const error_code error = status == tls::Status::kDone ? error_code() : tls_failed();
    boost::asio::post(get_executor(), [handler = std::forward<Handler>(handler), error]() mutable {
      handler(error);
    });
    return;
  }
  socket_.async_wait(
      status == tls::Status::kWantsWrite ? tcp::socket::wait_write : tcp::socket::wait_read,
      [this, handler = std::forward<Handler>(handler)](error_code error) mutable {
        if (error) return handler(error);
        async_shake(std::move(handler));
      });
}

}  // namespace connectd::net
