#include "transport/channel.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <utility>

#include "base/address.h"
#include "base/log.h"

namespace connectd::transport {
namespace {

// Less room than this in a block, and the rest of it is left unused.
constexpr size_t kLeastReadBytes = 4096;

}  // namespace

std::string Channel::host() const {
  const auto address = parse_address(remote_);
  return address ? address->host : remote_;
}

// ---- input

std::span<uint8_t> Channel::read_space() {
  if (is_closing()) {
    begin_ = end_ = 0;
    make_room(1);
  } else {
    make_room(phase_ == Phase::kMagic ? wire::kPeerMagic.size()
              : has_header_           ? header_.length
                                      : wire::kFrameHeaderBytes);
  }
  return {block_.get() + end_, capacity_ - end_};
}

void Channel::received(size_t bytes) {
  CHECK(bytes <= capacity_ - end_) << "more bytes than there was room for";
  if (!is_closing()) end_ += bytes;
  fresh_ += bytes;
}

Channel::Input Channel::next() {
  switch (phase_) {
    case Phase::kMagic:
      return take_magic();
    case Phase::kHandshake:
    case Phase::kMessages:
    case Phase::kRefusalOnly:
      return take_frame();
    case Phase::kHeld:
      if (held() > 0) return Broken{"a message before the handshake was answered"};
      break;
    case Phase::kDialling:
    case Phase::kClosing:
    case Phase::kClosed:
      break;
  }
  return {};
}

Channel::Input Channel::take_magic() {
  std::string_view magic = wire::kPeerMagic;
  size_t length = std::min(held(), magic.size());
  if (as_text({block_.get() + begin_, length}) != magic.substr(0, length)) {
    // RFC 8446 §5.1: a handshake record.
    if (block_[begin_] == 0x16) {
      return Broken{"the other side begins TLS, which is off here (tls.peer.mode)"};
    }
    return Broken{"not connectd's peer protocol; is a client using the peer port?"};
  }
  if (length < magic.size()) return {};
  begin_ += length;
  phase_ = Phase::kHandshake;
  return take_frame();
}

Channel::Input Channel::take_frame() {
  if (!has_header_) {
    if (held() < wire::kFrameHeaderBytes) return {};
    auto header = wire::decode_frame_header({block_.get() + begin_, held()});
    if (!header) return Broken{std::move(header.error().text)};
    // Before a body of any size is made room for.
    if (!wire::is_handshake(header->type) && phase_ != Phase::kMessages) {
      return Broken{fmt::format("unexpected frame of type {}", static_cast<int>(header->type))};
    }
    const auto expected = is_handshake(header->type) ? wire::FrameVersion::kFirst : frame_version_;
    if (header->version != expected) {
      return Broken{fmt::format("a frame of version {}; this connection uses version {}",
                                static_cast<int>(header->version), static_cast<int>(expected))};
    }
    header_ = *header;
    has_header_ = true;
    begin_ += wire::kFrameHeaderBytes;
  }
  if (held() < header_.length) return {};
  size_t at = begin_;
  begin_ += header_.length;
  has_header_ = false;
  ++frames_;
  return decode(header_, at);
}

void Channel::expect_rest(Time now) {
  if (phase_ != Phase::kMessages && phase_ != Phase::kRefusalOnly) return;
  const size_t came = std::exchange(fresh_, 0);
  if (!has_partial_message()) {
    deadline_ = Time::max();
    return;
  }
  const Time latest = now + kFrameTimeout;
  if (deadline_ == Time::max() || partial_ != frames_) {
    deadline_ = latest;
  } else {
    const auto worth = std::chrono::nanoseconds(came * 1'000'000'000 / kFrameBytesPerSecond);
    deadline_ = std::min(latest, deadline_ + worth);
  }
  partial_ = frames_;
}

Channel::Input Channel::decode(const wire::FrameHeader& header, size_t at) {
  ByteView view(block_.get() + at, header.length);
  if (wire::is_handshake(header.type)) {
    if (header.type == wire::FrameType::kHello && phase_ != Phase::kHandshake) {
      return Broken{"duplicate hello"};
    }
    auto handshake = wire::decode_handshake(header, view);
    if (!handshake) return Broken{std::move(handshake.error().text)};
    if (std::holds_alternative<wire::Probe>(*handshake) && phase_ == Phase::kHandshake) {
      return Broken{"a probe before the hello"};
    }
    return std::move(*handshake);
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
  if (!message) return Broken{std::move(message.error().text)};
  return Message{std::move(*message), wire::kFrameHeaderBytes + header.length};
}

// Makes the block such that `wanted` bytes from begin_ fit, and the next read is a large one, or
// the last one of a frame.
void Channel::make_room(size_t wanted) {
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

// ---- output

void Channel::sent(size_t bytes) {
  sent_ += bytes;
  CHECK(sent_ <= output_.size()) << "more bytes than there were";
  if (sent_ == output_.size()) {
    sent_ = 0;
    output_.clear();
    if (output_.capacity() > kKeepOutputBytes) output_.shrink_to_fit();
  } else if (sent_ > kKeepOutputBytes && sent_ > output_.size() / 2) {
    output_.erase(0, sent_);
    sent_ = 0;
  }
}

}  // namespace connectd::transport
