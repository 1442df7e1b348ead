#include "transport/link.h"

#include <fmt/format.h>

#include <boost/asio/connect.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/steady_timer.hpp>
#include <chrono>
#include <memory>
#include <span>
#include <utility>
#include <vector>

#include "net/tcp.h"

namespace connectd::transport {
namespace {

using boost::system::error_code;

// A peer whose machine died without a word is noticed by these; a process that died is noticed by
// the kernel's reset at once.
constexpr net::KeepAlive kKeepAlive{
    .idle_seconds = 3, .interval_seconds = 1, .probes = 3, .user_timeout_ms = 5000};

constexpr auto kNameTimeout = std::chrono::seconds(1);

}  // namespace

Link::Link(std::shared_ptr<Channel> channel, boost::asio::io_context& io, LinkOwner& owner)
    : channel_(std::move(channel)), socket_(io), owner_(&owner) {}

Link::Link(std::shared_ptr<Channel> channel, tcp::socket socket, LinkOwner& owner)
    : channel_(std::move(channel)), socket_(std::move(socket)), owner_(&owner) {}

void Link::close() {
  owner_ = nullptr;
  // It took too long: the next attempt begins with another address.
  if (names_ != nullptr) std::exchange(names_, nullptr)->failed(address_.host);
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

void Link::dial(const Address& address, net::Names& names) {
  address_ = address;
  names_ = &names;
  const auto number = net::Names::read_number(address.host);
  if (number && *number) return connect(**number);
  // Who waits for an attempt to end must not wait for a name server that is dead.
  auto timer = std::make_shared<boost::asio::steady_timer>(socket_.get_executor(), kNameTimeout);
  timer->async_wait([self = shared_from_this()](error_code cancelled) {
    if (cancelled || self->owner_ == nullptr) return;
    self->dial_failed("the name is not resolved yet");
  });
  names.find(address.host, [self = shared_from_this(), timer](const net::Names::Found& found) {
    if (self->owner_ == nullptr || timer->cancel() == 0) return;
    if (found) return self->connect(*found);
    self->dial_failed(fmt::format("cannot resolve the name: {}", found.error()));
  });
}

void Link::dial_failed(const std::string& why) {
  std::exchange(names_, nullptr)->failed(address_.host);
  owner_->on_dial_failed(*this, why);
}

void Link::connect(const net::Names::Addresses& addresses) {
  std::vector<tcp::endpoint> endpoints;
  endpoints.reserve(addresses.size());
  for (const auto& address : addresses) endpoints.emplace_back(address, address_.port);
  boost::asio::async_connect(
      socket_, endpoints,
      [self = shared_from_this()](error_code error, const tcp::endpoint& remote) {
        if (self->owner_ == nullptr) return;
        if (error) return self->dial_failed(error.message());
        std::exchange(self->names_, nullptr)->worked(self->address_.host, remote.address());
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
