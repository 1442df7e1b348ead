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

// Peers gives an attempt as much, with what comes before.
constexpr auto kLinkHandshakeTimeout = std::chrono::seconds(3);
constexpr auto kNameTimeout = std::chrono::seconds(1);

}  // namespace

Link::Link(std::shared_ptr<Channel> channel, boost::asio::io_context& io, LinkOwner& owner)
    : channel_(std::move(channel)), stream_(io), owner_(&owner) {}

Link::Link(std::shared_ptr<Channel> channel, net::Stream stream, LinkOwner& owner)
    : channel_(std::move(channel)), stream_(std::move(stream)), owner_(&owner) {}

void Link::close() {
  owner_ = nullptr;
  // It took too long: the next attempt begins with another address.
  if (names_ != nullptr) std::exchange(names_, nullptr)->failed(address_.host);
  stream_.close();
}

void Link::fail_later(std::string why) {
  if (std::exchange(is_failed_, true)) return;
  boost::asio::post(stream_.get_executor(), [self = shared_from_this(), why = std::move(why)] {
    if (self->owner_ != nullptr) self->owner_->on_failed(*self, why);
  });
}

// ---- dialling

void Link::dial(const Address& address, net::Names& names, std::optional<SecureDial> tls) {
  address_ = address;
  tls_ = std::move(tls);
  names_ = &names;
  const auto number = net::Names::read_number(address.host);
  if (number && *number) return connect(**number);
  // Who waits for an attempt to end must not wait for a name server that is dead.
  auto timer = std::make_shared<boost::asio::steady_timer>(stream_.get_executor(), kNameTimeout);
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
      stream_.socket(), endpoints,
      [self = shared_from_this()](error_code error, const tcp::endpoint& remote) {
        if (self->owner_ == nullptr) return;
        if (error) return self->dial_failed(error.message());
        if (self->tls_) return self->shake_hands(remote);
        self->connected(remote);
      });
}

// On a thread for handshakes, which has the socket meanwhile.
void Link::shake_hands(const tcp::endpoint& remote) {
  const SecureDial tls = *std::exchange(tls_, std::nullopt);
  const int socket = stream_.release();
  if (socket < 0) return dial_failed("the socket cannot be handed over");
  auto done = [self = shared_from_this(), remote](tls::Outcome outcome) {
    auto shaken = std::make_shared<net::Shaken>(std::move(outcome));
    boost::asio::post(self->stream_.get_executor(), [self, remote, shaken] {
      if (self->owner_ == nullptr) return;
      if (!shaken->outcome.session) return self->dial_failed(shaken->outcome.failure);
      if (const error_code error = self->stream_.take(*shaken)) {
        return self->dial_failed(error.message());
      }
      self->connected(remote);
    });
  };
  tls.handshakes->dial(tls::Lane::kPeers, socket, tls.credentials, {.uri = tls.uri, .host = {}},
                       kLinkHandshakeTimeout, std::move(done));
}

void Link::connected(const tcp::endpoint& remote) {
  std::exchange(names_, nullptr)->worked(address_.host, remote.address());
  start();
  owner_->on_connected(*this, remote);
}

// ---- bytes

void Link::start() {
  error_code error;
  stream_.socket().non_blocking(true, error);
  if (error) return fail_later(error.message());
  net::set_options(stream_.socket(), kKeepAlive);
  read();
}

void Link::read() {
  const std::span<uint8_t> space = channel_->read_space();
  stream_.async_read_some(space, [self = shared_from_this()](error_code error, size_t bytes) {
    if (self->owner_ == nullptr) return;
    if (error == boost::asio::error::eof) return self->owner_->on_ended(*self);
    if (error) return self->owner_->on_failed(*self, self->stream_.why(error));
    self->owner_->on_read(*self, bytes);
    if (self->owner_ != nullptr) self->read();
  });
}

void Link::write() {
  if (is_waiting_writable_ || is_failed_ || owner_ == nullptr) return;
  for (std::string_view bytes = channel_->unsent(); !bytes.empty(); bytes = channel_->unsent()) {
    error_code error;
    const size_t sent = stream_.write_some(bytes, error);
    channel_->sent(sent);
    if (error == boost::asio::error::would_block) return wait_writable();
    if (error) return fail_later(fmt::format("cannot send: {}", stream_.why(error)));
  }
  if (channel_->is_closing()) {
    // The peer sees the end behind the last byte; it closes, and so does this side's read.
    error_code ignored;
    stream_.shut_down(ignored);
  }
}

void Link::wait_writable() {
  is_waiting_writable_ = true;
  stream_.async_wait_writable([self = shared_from_this()](error_code error) {
    self->is_waiting_writable_ = false;
    if (!error) self->write();
  });
}

}  // namespace connectd::transport
