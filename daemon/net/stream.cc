#include "net/stream.h"

#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>

namespace connectd::net {
namespace {

using error_code = Stream::error_code;
namespace asio = boost::asio;

}  // namespace

error_code Stream::truncated() { return {ECONNABORTED, boost::system::generic_category()}; }
error_code Stream::tls_failed() { return {EPROTO, boost::system::generic_category()}; }

std::string Stream::why(error_code error) const {
  if (session_ && (error == tls_failed() || error == truncated())) return session_->error();
  return error.message();
}

int Stream::release() {
  error_code error;
  socket_.native_non_blocking(true, error);
  if (error) return -1;
  const int native = socket_.release(error);
  return error ? -1 : native;
}

Shaken::~Shaken() {
  outcome.session = nullptr;
  if (outcome.fd >= 0) ::close(outcome.fd);
}

error_code Stream::take(Shaken& shaken) {
  tls::Outcome& outcome = shaken.outcome;
  sockaddr_storage address{};
  socklen_t size = sizeof address;
  if (getsockname(outcome.fd, reinterpret_cast<sockaddr*>(&address), &size) != 0) {
    return {errno, boost::system::system_category()};
  }
  error_code error;
  socket_.assign(address.ss_family == AF_INET6 ? tcp::v6() : tcp::v4(), outcome.fd, error);
  if (error) return error;
  outcome.fd = -1;
  session_ = std::move(outcome.session);
  socket_.non_blocking(true, error);
  return error;
}

size_t Stream::outcome(const tls::Io& io, error_code& error) {
  error = {};
  switch (io.status) {
    case tls::Status::kDone:
      break;
    case tls::Status::kWantsRead:
    case tls::Status::kWantsWrite:
      error = asio::error::would_block;
      break;
    case tls::Status::kEnd:
      error = asio::error::eof;
      break;
    case tls::Status::kTruncated:
      error = truncated();
      break;
    case tls::Status::kFailed:
      error = tls_failed();
      break;
  }
  return io.bytes;
}

size_t Stream::read_some(std::span<uint8_t> space, error_code& error) {
  if (!session_) return socket_.read_some(asio::buffer(space.data(), space.size()), error);
  if (!socket_.is_open()) {
    error = asio::error::bad_descriptor;
    return 0;
  }
  const tls::Io io = session_->read(space);
  read_waits_for_ =
      io.status == tls::Status::kWantsWrite ? tcp::socket::wait_write : tcp::socket::wait_read;
  return outcome(io, error);
}

size_t Stream::write_some(std::string_view bytes, error_code& error) {
  if (!session_) return socket_.write_some(asio::buffer(bytes.data(), bytes.size()), error);
  if (!socket_.is_open()) {
    error = asio::error::bad_descriptor;
    return 0;
  }
  const tls::Io io = session_->write(bytes);
  write_waits_for_ =
      io.status == tls::Status::kWantsRead ? tcp::socket::wait_read : tcp::socket::wait_write;
  return outcome(io, error);
}

bool Stream::has_unread() {
  if (session_ && session_->has_pending()) return true;
  error_code ignored;  // closed: nothing is there
  return socket_.available(ignored) > 0;
}

void Stream::shut_down(error_code& error) {
  if (session_ && socket_.is_open()) session_->shut_down();
  socket_.shutdown(tcp::socket::shutdown_send, error);
}

void Stream::close() {
  // So that the other side can tell this end from one that somebody on the way has made.
  if (session_ && socket_.is_open()) session_->shut_down();
  error_code ignored;  // closing what may not be open
  socket_.close(ignored);
}

}  // namespace connectd::net
