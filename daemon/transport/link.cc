#include "transport/link.h"

#include <fmt/format.h>

#include <boost/asio/connect.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/post.hpp>
#include <span>
#include <utility>

#include "net/tcp.h"

namespace connectd::transport {
namespace {

using boost::system::error_code;

// A peer whose machine died without a word is noticed by these; a process that died is noticed by
// the kernel's reset at once.
constexpr net::KeepAlive kKeepAlive{
    .idle_seconds = 3, .interval_seconds = 1, .probes = 3, .user_timeout_ms = 5000};

}  // namespace

std::string endpoint_text(const Link::tcp::endpoint& endpoint) {
  return fmt::format("{}:{}", endpoint.address().to_string(), endpoint.port());
}

Link::Link(std::shared_ptr<Channel> channel, boost::asio::io_context& io, LinkOwner& owner)
    : channel_(std::move(channel)), socket_(io), resolver_(io), owner_(&owner) {}

Link::Link(std::shared_ptr<Channel> channel, tcp::socket socket, LinkOwner& owner)
    : channel_(std::move(channel)),
      socket_(std::move(socket)),
      resolver_(socket_.get_executor()),
      owner_(&owner) {}

void Link::close() {
  owner_ = nullptr;
  resolver_.cancel();
  error_code ignored;  // closing what may not be open
  socket_.close(ignored);
}

void Link::fail_later(std::string why) {
  if (std::exchange(is_failed_, true)) return;
  boost::asio::post(socket_.get_executor(), [self = shared_from_this(), why = std::move(why)] {
    if (self->owner_ != nullptr) self->owner_->on_failed(*self, why);
  });
}

// ---- dialling

void Link::dial(const Address& address) {
  error_code error;
  auto number = boost::asio::ip::make_address(address.host, error);
  if (!error) return connect({tcp::endpoint(number, address.port)});
  resolver_.async_resolve(
      address.host, std::to_string(address.port), tcp::resolver::numeric_service,
      [self = shared_from_this()](error_code failed, const tcp::resolver::results_type& results) {
        if (self->owner_ == nullptr) return;
        if (failed) {
          return self->owner_->on_dial_failed(
              *self, fmt::format("cannot resolve the name: {}", failed.message()));
        }
        self->connect({results.begin(), results.end()});
      });
}

void Link::connect(const std::vector<tcp::endpoint>& endpoints) {
  boost::asio::async_connect(
      socket_, endpoints,
      [self = shared_from_this()](error_code error, const tcp::endpoint& remote) {
        if (self->owner_ == nullptr) return;
        if (error) return self->owner_->on_dial_failed(*self, error.message());
        self->start();
        self->owner_->on_connected(*self, remote);
      });
}

// ---- bytes

void Link::start() {
  error_code error;
  socket_.non_blocking(true, error);
  if (error) return fail_later(error.message());
  net::set_options(socket_, kKeepAlive);
  read();
}

void Link::read() {
  const std::span<uint8_t> space = channel_->read_space();
  socket_.async_read_some(boost::asio::buffer(space.data(), space.size()),
                          [self = shared_from_this()](error_code error, size_t bytes) {
                            if (self->owner_ == nullptr) return;
                            if (error) {
                              const bool has_ended = error == boost::asio::error::eof;
                              return self->owner_->on_failed(
                                  *self, has_ended ? "closed by the peer" : error.message());
                            }
                            self->owner_->on_read(*self, bytes);
                            if (self->owner_ != nullptr) self->read();
                          });
}

void Link::write() {
  if (is_waiting_writable_ || is_failed_ || owner_ == nullptr) return;
  for (std::string_view bytes = channel_->unsent(); !bytes.empty(); bytes = channel_->unsent()) {
    error_code error;
    const size_t sent = socket_.write_some(boost::asio::buffer(bytes.data(), bytes.size()), error);
    channel_->sent(sent);
    if (error == boost::asio::error::would_block) return wait_writable();
    if (error) return fail_later(fmt::format("cannot send: {}", error.message()));
  }
  if (channel_->is_closing()) {
    // The peer sees the end behind the last byte; it closes, and so does this side's read.
    error_code ignored;
    socket_.shutdown(tcp::socket::shutdown_send, ignored);
  }
}

void Link::wait_writable() {
  is_waiting_writable_ = true;
  socket_.async_wait(tcp::socket::wait_write, [self = shared_from_this()](error_code error) {
    self->is_waiting_writable_ = false;
    if (!error) self->write();
  });
}

}  // namespace connectd::transport
