// One TCP connection between two nodes, of either direction: reads bytes into blocks, cuts them
// into frames, and hands these to its owner; writes what its owner queues.
//
// Input: large reads into a shared block. A large frame's payloads stay in the block (the message
// keeps it alive); small ones are copied out, so that a few bytes do not keep a large block. A
// frame that does not fit behind what is there moves to a new block. Output: one growing buffer.
// write_now() sends directly, without waiting; what the socket does not take goes when the socket
// becomes writable. Bounded.
//
// Loop thread. Held by shared pointers: the owner's, and one in each outstanding Asio handler.
// After close() the owner hears nothing more.
#pragma once

#include <array>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/steady_timer.hpp>
#include <memory>
#include <string>
#include <string_view>

#include "base/bytes.h"
#include "wire/peer_codec.h"

namespace connectd::transport {

// Bytes of one read, and of a block once the handshake is done.
inline constexpr size_t kBlockBytes = size_t{256} << 10;
// Before that, and on connections that only send.
inline constexpr size_t kSmallBlockBytes = size_t{8} << 10;
// A body of at least this part of its block stays in it.
inline constexpr size_t kShareDivisor = 2;
// An output buffer larger than this is given back when it has been written.
inline constexpr size_t kKeepOutputBytes = size_t{2} << 20;

class Link;

class LinkOwner {
 public:
  // A whole, valid frame of the handshake, and any other one. `body` is valid during the call.
  virtual void on_handshake(Link& link, wire::Handshake handshake) = 0;
  virtual void on_message(Link& link, wire::PeerMessage message, size_t frame_bytes) = 0;
  // Broken, closed by the peer, or the bytes were not understood. The link is closed.
  virtual void on_broken(Link& link, std::string why) = 0;

 protected:
  ~LinkOwner() = default;
};

class Link final : public std::enable_shared_from_this<Link> {
 public:
  using Socket = boost::asio::ip::tcp::socket;

  // `owner` must live until close().
  Link(Socket socket, LinkOwner& owner);

  // The other end, for logs.
  const std::string& remote() const { return remote_; }
  bool is_open() const { return owner_ != nullptr; }

  // Sets the socket's options, starts reading, and breaks the link after `handshake_timeout` unless
  // handshake_done() was called before.
  void start(std::chrono::milliseconds handshake_timeout);
  // From here on: messages, if `reads_messages`; else anything but a refusal breaks the link.
  void handshake_done(bool reads_messages);

  // Append to this, then write_now().
  std::string& output() { return output_; }
  size_t output_bytes() const { return output_.size() - sent_; }
  // Sends what the socket takes at once; the rest follows by itself. Never calls the owner: a
  // failure is told later, from the loop.
  void write_now();
  // Writes no more, and breaks the link from the loop.
  void break_later(std::string why);
  bool is_writable() const { return !is_failed_; }
  // Closes as soon as the output is written, and hears nothing any more. The handshake's timeout
  // bounds the time.
  void close_after_output();
  void close();

 private:
  enum class Phase : uint8_t { kMagic, kHandshake, kMessages, kRefusalOnly };

  void read();
  void on_read(size_t bytes);
  // False: the link is closed, or needs more bytes.
  bool take_one();
  bool take_magic();
  bool take_frame();
  void dispatch(const wire::FrameHeader& header, size_t at);
  void make_room(size_t wanted);
  void wait_writable();
  void break_link(std::string why);
  size_t held() const { return end_ - begin_; }

  Socket socket_;
  boost::asio::steady_timer timer_;
  LinkOwner* owner_;  // null: closed
  std::string remote_;
  Phase phase_ = Phase::kMagic;
  std::chrono::milliseconds handshake_timeout_{};

  std::shared_ptr<uint8_t[]> block_;
  size_t capacity_ = 0;
  size_t begin_ = 0;        // the first byte not yet understood
  size_t end_ = 0;          // of what was read
  bool is_shared_ = false;  // parts of the block were handed out: its bytes must not change
  wire::FrameHeader header_;
  bool has_header_ = false;  // header_ was read; begin_ is at its body

  std::string output_;
  size_t sent_ = 0;
  bool is_waiting_writable_ = false;
  bool is_closing_ = false;
  bool is_failed_ = false;  // break_later() was called
};

}  // namespace connectd::transport
