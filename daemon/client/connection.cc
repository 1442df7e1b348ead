#include "client/connection.h"

#include <boost/asio/post.hpp>
#include <chrono>
#include <utility>

#include "net/tcp.h"

namespace connectd::client {
namespace {

using boost::system::error_code;

// A client that vanished without closing frees its place after two minutes.
constexpr net::KeepAlive kKeepAlive{.idle_seconds = 60, .interval_seconds = 10, .probes = 6};

SteadyTime now() { return std::chrono::steady_clock::now(); }

}  // namespace

Connection::Connection(net::Stream stream, std::shared_ptr<Shared> shared, ConnectionOwner& owner,
                       SteadyTime time)
    : stream_(std::move(stream)),
      shared_(std::move(shared)),
      owner_(owner),
      conversation_(*shared_, *this, time) {}

void Connection::start() {
  error_code error;
  stream_.socket().non_blocking(true, error);
  if (error) return close();
  net::set_options(stream_.socket(), kKeepAlive);
  turn();
}

void Connection::close() {
  if (std::exchange(is_closed_, true)) return;
  auto keep = shared_from_this();
  stream_.close();
  conversation_.close();
  owner_.on_closed(*this);
}

void Connection::drain() {
  conversation_.drain();
  turn();
}

// Does everything that the conversation wants, and ensures that this is called again. Replies may
// arrive while requests are submitted; they are sent at the end of this turn.
void Connection::turn() {
  if (is_in_turn_ || is_closed_) return;
  auto keep = shared_from_this();
  is_in_turn_ = true;
  conversation_.begin_turn();
  Conversation::Wants wants = conversation_.next();
  while (wants.send && !is_waiting_writable_) {
    send();
    // After a send, the conversation may be able to continue.
    wants = conversation_.next();
  }
  is_in_turn_ = false;
  owner_.on_turn_end();
  if (wants.close) return close();
  if (wants.shut_down) return shut_down();
  if (wants.read) read();
  if (wants.again) turn_later();
}

void Connection::on_room(Room room) {
  conversation_.stopped_waiting(room);
  turn();
}

// After all other connections that have work to do.
void Connection::turn_later() {
  if (std::exchange(has_turn_later_, true)) return;
  boost::asio::post(stream_.get_executor(), [self = shared_from_this()] {
    self->has_turn_later_ = false;
    self->turn();
  });
}

void Connection::send() {
  while (!is_waiting_writable_ && !conversation_.output().empty()) {
    std::string_view output = conversation_.output();
    error_code error;
    size_t bytes = stream_.write_some(output, error);
    conversation_.sent(bytes);
    if (error == boost::asio::error::would_block) return wait_writable();
    if (error) return conversation_.fail();
  }
}

void Connection::wait_writable() {
  conversation_.cannot_send(now());
  is_waiting_writable_ = true;
  stream_.async_wait_writable([self = shared_from_this()](error_code error) {
    self->is_waiting_writable_ = false;
    if (!error) self->turn();
  });
}

void Connection::shut_down() {
  error_code error;
  stream_.shut_down(error);
  if (error) return close();
  conversation_.was_shut_down(now());
  turn();
}

void Connection::read() {
  std::span<uint8_t> space = conversation_.begin_read();
  stream_.async_read_some(space, [self = shared_from_this()](error_code error, size_t bytes) {
    self->on_read(error, bytes);
  });
}

void Connection::on_read(error_code error, size_t bytes) {
  if (is_closed_) return;
  if (std::exchange(is_shrinking_, false) && error == boost::asio::error::operation_aborted) {
    conversation_.read_cancelled();
  } else if (error == boost::asio::error::eof) {
    conversation_.end_of_input();
  } else if (error) {
    return close();
  } else {
    conversation_.received(bytes, now());
  }
  turn();
}

void Connection::sweep(SteadyTime time) {
  switch (conversation_.sweep(time)) {
    case Conversation::Sweep::kNothing:
      return;
    case Conversation::Sweep::kClose:
      return close();
    case Conversation::Sweep::kShrink: {
      error_code error;
      stream_.cancel(error);
      is_shrinking_ = !error;
      return;
    }
    case Conversation::Sweep::kTurn:
      return turn();
  }
}

}  // namespace connectd::client
