// The protocol of one connection between two nodes, without a socket: bytes in become handshakes
// and messages, and what goes out gathers as bytes.
//
// Input: the driver reads into read_space(), in large pieces, says how much came, and takes what
// next() makes of it. The bytes lie in a block that messages share. A large frame's payloads stay
// in the block (the message keeps it alive); small ones are copied out, so that a few bytes do not
// keep a large block. A frame that does not fit behind what is there moves to a new block.
//
// Output: one growing buffer. The driver writes unsent() as far as the socket takes it.
//
// The channel passes from kMagic to kHandshake; Peers, which owns it, decides every other phase.
// The driver holds it as long as it reads or writes. One thread.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <variant>

#include "base/bytes.h"
#include "base/clock.h"
#include "base/types.h"
#include "wire/peer_codec.h"

namespace connectd::transport {

// Bytes of one read, and of a block once the handshake is done.
inline constexpr size_t kBlockBytes = size_t{256} << 10;
// Before that, and on connections that only send.
inline constexpr size_t kSmallBlockBytes = size_t{8} << 10;
// A body of at least this part of its block stays in it.
inline constexpr size_t kShareDivisor = 2;
// A frame that was begun has so long to come. Bytes of it add the time that they take at the
// slowest rate, up to as much again from now: a trickle behind many bytes buys no time.
inline constexpr Duration kFrameTimeout = std::chrono::seconds(5);
inline constexpr size_t kFrameBytesPerSecond = size_t{64} << 10;
// An output buffer larger than this is given back when it has been written.
inline constexpr size_t kKeepOutputBytes = size_t{2} << 20;

class Channel final {
 public:
  enum class Phase : uint8_t {
    kDialling,     // there is no connection yet
    kMagic,        // nothing was understood yet
    kHandshake,    // a hello or a refusal comes next
    kHeld,         // its hello is good; another process of this node is probed first
    kMessages,     // accepted, the handshake is done
    kRefusalOnly,  // dialled, the handshake is done: messages go out; a refusal or probe may come
    kClosing,      // closes when the output is written; what still comes is dropped
    kClosed,
  };
  // What next() makes of the bytes: nothing whole yet; a frame; or why the connection must end.
  struct Message {
    wire::PeerMessage message;
    size_t frame_bytes = 0;
  };
  struct Broken {
    std::string why;
  };
  using Input = std::variant<std::monostate, wire::Handshake, Message, Broken>;

  // `peer`: who is dialled; none: the connection was accepted. `remote`: the other end, for logs.
  Channel(uint64_t id, NodeId peer, std::string remote)
      : id_(id), peer_(peer), remote_(std::move(remote)) {}

  // Unique among the channels of one Peers.
  uint64_t id() const { return id_; }
  // Who is at the other end; none: it has not said it.
  NodeId peer() const { return peer_; }
  void set_peer(NodeId peer) { peer_ = peer; }
  const std::string& remote() const { return remote_; }
  void set_remote(std::string remote) { remote_ = std::move(remote); }
  // Whose certificate the other side has shown; none: the connection is plain.
  NodeId certified() const { return certified_; }
  void set_certified(NodeId node) { certified_ = node; }
  // The host of remote(), or all of it where it is no address.
  std::string host() const;

  Phase phase() const { return phase_; }
  void set_phase(Phase phase) { phase_ = phase; }
  bool is_shaking_hands() const { return phase_ == Phase::kMagic || phase_ == Phase::kHandshake; }
  bool is_closing() const { return phase_ == Phase::kClosing; }
  bool is_closed() const { return phase_ == Phase::kClosed; }
  // By then the phase must have changed, or the connection ends. Time::max(): never.
  Time deadline() const { return deadline_; }
  void set_deadline(Time deadline) { deadline_ = deadline; }

  // When this side's hello was written.
  Time hello_at() const { return hello_at_; }
  void set_hello_at(Time at) { hello_at_ = at; }
  // Of the messages, both ways: the hellos decide it.
  wire::FrameVersion frame_version() const { return frame_version_; }
  void set_frame_version(wire::FrameVersion version) { frame_version_ = version; }

  // ---- input
  // Where the next bytes go; never empty. Valid until the next call of anything below.
  std::span<uint8_t> read_space();
  void received(size_t bytes);
  // To be called until it gives nothing, the channel is closed, or it is broken.
  Input next();
  // Whether a message has begun and is not whole.
  bool has_partial_message() const {
    return (phase_ == Phase::kMessages || phase_ == Phase::kRefusalOnly) &&
           (has_header_ || held() > 0);
  }
  // Bytes kept of a message that is not whole.
  size_t partial_bytes() const { return has_partial_message() ? held() : 0; }
  // To be called when next() has given nothing more: sets the deadline of the partial message.
  void expect_rest(Time now);

  // ---- output
  // Append whole frames to this.
  std::string& output() { return output_; }
  std::string_view unsent() const { return std::string_view(output_).substr(sent_); }
  void sent(size_t bytes);

 private:
  Input take_magic();
  Input take_frame();
  Input decode(const wire::FrameHeader& header, size_t at);
  void make_room(size_t wanted);
  size_t held() const { return end_ - begin_; }

  const uint64_t id_;
  NodeId peer_;
  std::string remote_;
  NodeId certified_;
  Phase phase_ = Phase::kDialling;
  Time deadline_ = Time::max();
  Time hello_at_{};
  wire::FrameVersion frame_version_ = wire::FrameVersion::kFirst;

  std::shared_ptr<uint8_t[]> block_;
  size_t capacity_ = 0;
  size_t begin_ = 0;        // the first byte not yet understood
  size_t end_ = 0;          // of what was read
  bool is_shared_ = false;  // parts of the block were handed out: its bytes must not change
  wire::FrameHeader header_;
  bool has_header_ = false;  // header_ was read; begin_ is at its body
  uint64_t frames_ = 0;      // whole ones so far
  uint64_t partial_ = 0;     // frames_ when the partial message was last seen
  size_t fresh_ = 0;         // bytes that came after that

  std::string output_;
  size_t sent_ = 0;
};

}  // namespace connectd::transport
