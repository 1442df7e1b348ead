#include "transport/link.h"

#include <fmt/format.h>

#include <algorithm>
#include <boost/asio/post.hpp>
#include <utility>

#include "base/log.h"
#include "net/tcp.h"

namespace connectd::transport {
namespace {

// A peer whose machine died without a word is noticed by these; a process that died is noticed by
// the kernel's reset at once.
constexpr net::KeepAlive kKeepAlive{
    .idle_seconds = 3, .interval_seconds = 1, .probes = 3, .user_timeout_ms = 5000};
// Less room than this in a block, and the rest of it is left unused.
constexpr size_t kLeastReadBytes = 4096;

}  // namespace

Link::Link(Socket socket, LinkOwner& owner)
    : socket_(std::move(socket)), timer_(socket_.get_executor()), owner_(&owner) {
  boost::system::error_code error;
  auto endpoint = socket_.remote_endpoint(error);
  remote_ = error ? "a closed connection"
                  : fmt::format("{}:{}", endpoint.address().to_string(), endpoint.port());
}

void Link::start(std::chrono::milliseconds handshake_timeout) {
  boost::system::error_code error;
  socket_.non_blocking(true, error);
  if (error) return break_later(error.message());
  net::set_options(socket_, kKeepAlive);
  handshake_timeout_ = handshake_timeout;
  timer_.expires_after(handshake_timeout);
  timer_.async_wait([self = shared_from_this()](boost::system::error_code aborted) {
    bool is_done = self->phase_ == Phase::kMessages || self->phase_ == Phase::kRefusalOnly;
    if (!aborted && !is_done) self->break_link("no handshake in time");
  });
  make_room(1);
  read();
}

void Link::handshake_done(bool reads_messages) {
  timer_.cancel();
  phase_ = reads_messages ? Phase::kMessages : Phase::kRefusalOnly;
}

void Link::close() {
  owner_ = nullptr;
  timer_.cancel();
  boost::system::error_code ignored;  // closing what is closed already
  socket_.close(ignored);
}

void Link::break_link(std::string why) {
  if (owner_ == nullptr) {
    close();  // a close_after_output() that took too long
    return;
  }
  LinkOwner* owner = std::exchange(owner_, nullptr);
  close();
  owner->on_broken(*this, std::move(why));
}

void Link::break_later(std::string why) {
  if (std::exchange(is_failed_, true)) return;
  boost::asio::post(socket_.get_executor(),
                    [self = shared_from_this(), why = std::move(why)] { self->break_link(why); });
}

void Link::close_after_output() {
  owner_ = nullptr;
  is_closing_ = true;
  timer_.expires_after(handshake_timeout_);
  timer_.async_wait([self = shared_from_this()](boost::system::error_code aborted) {
    if (!aborted) self->close();
  });
  write_now();
}

// ---- output

void Link::write_now() {
  if (is_waiting_writable_ || is_failed_ || !socket_.is_open()) return;
  while (sent_ < output_.size()) {
    boost::system::error_code error;
    sent_ += socket_.write_some(boost::asio::buffer(output_.data() + sent_, output_.size() - sent_),
                                error);
    if (error == boost::asio::error::would_block) return wait_writable();
    if (error) return break_later(fmt::format("sending failed: {}", error.message()));
  }
  sent_ = 0;
  output_.clear();
  if (output_.capacity() > kKeepOutputBytes) output_.shrink_to_fit();
  if (is_closing_) {
    // The peer sees the end behind the last byte; it closes, and so does this side's read.
    boost::system::error_code ignored;
    socket_.shutdown(Socket::shutdown_send, ignored);
  }
}

void Link::wait_writable() {
  if (sent_ > kKeepOutputBytes && sent_ > output_.size() / 2) {
    output_.erase(0, sent_);
    sent_ = 0;
  }
  is_waiting_writable_ = true;
  socket_.async_wait(Socket::wait_write,
                     [self = shared_from_this()](boost::system::error_code error) {
                       self->is_waiting_writable_ = false;
                       if (!error) self->write_now();
                     });
}

// ---- input

void Link::read() {
  socket_.async_read_some(
      boost::asio::buffer(block_.get() + end_, capacity_ - end_),
      [self = shared_from_this()](boost::system::error_code error, size_t bytes) {
        if (error == boost::asio::error::operation_aborted) return;
        if (error == boost::asio::error::eof) return self->break_link("closed by the other side");
        if (error) return self->break_link(error.message());
        self->on_read(bytes);
      });
}

void Link::on_read(size_t bytes) {
  if (is_closing_) return read();  // what still comes is of no interest, but the end is
  end_ += bytes;
  while (take_one()) {
  }
  if (!socket_.is_open()) return;
  if (is_closing_) {
    begin_ = end_ = 0;
    make_room(1);
  } else {
    make_room(phase_ == Phase::kMagic ? wire::kPeerMagic.size()
              : has_header_           ? header_.length
                                      : wire::kFrameHeaderBytes);
  }
  read();
}

bool Link::take_one() {
  if (owner_ == nullptr) return false;
  return phase_ == Phase::kMagic ? take_magic() : take_frame();
}

bool Link::take_magic() {
  std::string_view magic = wire::kPeerMagic;
  size_t length = std::min(held(), magic.size());
  if (as_text({block_.get() + begin_, length}) != magic.substr(0, length)) {
    break_link("this is not connectd's peer protocol; is a client talking to the peer port?");
    return false;
  }
  if (length < magic.size()) return false;
  begin_ += length;
  phase_ = Phase::kHandshake;
  return true;
}

bool Link::take_frame() {
  if (!has_header_) {
    if (held() < wire::kFrameHeaderBytes) return false;
    auto header = wire::decode_frame_header({block_.get() + begin_, held()});
    if (!header) {
      break_link(std::move(header.error().text));
      return false;
    }
    bool is_handshake =
        header->type == wire::FrameType::kHello || header->type == wire::FrameType::kRefusal;
    // Before a body of any size is made room for.
    if (!is_handshake && phase_ != Phase::kMessages) {
      break_link(
          fmt::format("a frame of type {} where none may come", static_cast<int>(header->type)));
      return false;
    }
    header_ = *header;
    has_header_ = true;
    begin_ += wire::kFrameHeaderBytes;
  }
  if (held() < header_.length) return false;
  size_t at = begin_;
  begin_ += header_.length;
  has_header_ = false;
  dispatch(header_, at);
  return true;
}

void Link::dispatch(const wire::FrameHeader& header, size_t at) {
  ByteView view(block_.get() + at, header.length);
  if (header.type == wire::FrameType::kHello || header.type == wire::FrameType::kRefusal) {
    if (header.type == wire::FrameType::kHello && phase_ != Phase::kHandshake) {
      return break_link("a second hello");
    }
    auto handshake = wire::decode_handshake(header, view);
    if (!handshake) return break_link(std::move(handshake.error().text));
    return owner_->on_handshake(*this, std::move(*handshake));
  }
  Slice body(block_, view);
  if (wire::carries_payload(header.type)) {
    if (header.length >= capacity_ / kShareDivisor) {
      is_shared_ = true;
    } else {
      body = Slice::copy_of(view);
    }
  }
  auto message = wire::decode_frame(header, body);
  if (!message) return break_link(std::move(message.error().text));
  owner_->on_message(*this, std::move(*message), wire::kFrameHeaderBytes + header.length);
}

// Makes the block such that `wanted` bytes from begin_ fit, and the next read is a large one, or
// the last one of a frame.
void Link::make_room(size_t wanted) {
  if (begin_ == end_ && !is_shared_) begin_ = end_ = 0;
  size_t bytes = held();
  size_t least = phase_ == Phase::kMessages ? kBlockBytes : kSmallBlockBytes;
  bool is_usable = capacity_ >= least && (capacity_ <= kBlockBytes || wanted > kBlockBytes);
  bool is_roomy = capacity_ - end_ >= kLeastReadBytes || (has_header_ && end_ < capacity_);
  if (is_usable && is_roomy && begin_ + wanted <= capacity_) return;
  if (is_usable && !is_shared_ && wanted <= capacity_ && bytes < capacity_) {
    std::memmove(block_.get(), block_.get() + begin_, bytes);
  } else {
    size_t capacity = std::max(least, std::max(wanted, bytes + 1));
    auto block = std::make_shared_for_overwrite<uint8_t[]>(capacity);
    if (bytes > 0) std::memcpy(block.get(), block_.get() + begin_, bytes);
    block_ = std::move(block);
    capacity_ = capacity;
    is_shared_ = false;
  }
  begin_ = 0;
  end_ = bytes;
}

}  // namespace connectd::transport
