// One client's connection: bytes -> requests -> the node's stream -> replies -> bytes.
//
// A turn takes what one read brought, hands every whole request to the stream, and writes all
// replies that are there with one send. Reading stops while too much is unanswered or unread by the
// client, so a client costs bounded memory whatever it does. What the framing answers itself (QUIT,
// a request over the limit) waits for its place among the node's replies.
//
// The end: after QUIT, a broken frame or the client's half-close, the replies that are owed are
// written; then the connection closes, reading on for a moment so that the kernel does not reset it
// under the last reply.
//
// Loop thread. Held by shared pointers: the port's, and one in each outstanding Asio handler.
#pragma once

#include <boost/asio/ip/tcp.hpp>
#include <chrono>
#include <memory>
#include <string>
#include <vector>

#include "client/client_port.h"
#include "node/service.h"
#include "wire/framing.h"

namespace connectd::client {

using SteadyTime = std::chrono::steady_clock::time_point;

// The buffer of a connection that is new or idle; what a busy one grows to; and with a large
// request, up to that request's size.
inline constexpr size_t kIdleInputBytes = size_t{2} << 10;
inline constexpr size_t kBusyInputBytes = size_t{64} << 10;
// An output buffer over this is given back when it has been written.
inline constexpr size_t kKeepOutputBytes = size_t{64} << 10;

// What the connections of one port have in common.
struct Shared {
  const ClientPortOptions options;
  node::Service& service;
  ClientPortCounters counters{};
  size_t large_input_bytes = 0;  // in buffers over kBusyInputBytes
};

std::unique_ptr<wire::FrameParser> make_parser(const Shared& shared);

class Connection;

class ConnectionOwner {
 public:
  // The connection is closed; called once.
  virtual void on_closed(Connection& connection) = 0;

 protected:
  ~ConnectionOwner() = default;
};

class Connection final : public node::ReplyHandler,
                         public std::enable_shared_from_this<Connection> {
 public:
  using Socket = boost::asio::ip::tcp::socket;

  Connection(Socket socket, std::shared_ptr<Shared> shared, ConnectionOwner& owner, SteadyTime now);

  void start();
  // Closes when no reply is owed.
  void drain();
  void close();
  // Timeouts, and the buffers of the idle.
  void sweep(SteadyTime now);

  // node::ReplyHandler
  void on_reply(const node::Reply& reply) override;
  void on_replies_end() override;
  bool is_congested() const override;

  size_t place = 0;  // in the owner's list

 private:
  // What the framing answers itself, when the node's replies before it have come.
  struct OwnReply {
    uint64_t after = 0;  // replies of the node
    std::string bytes;
  };

  void turn();
  void parse();
  bool is_native(ByteView start);
  void append_own(std::string bytes);
  void append_own_error(node::ReplyCode code, std::string_view text);
  void end_requests();
  bool is_blocked() const;
  bool owes_nothing() const;
  void write();
  void wait_writable();
  void read();
  void on_read(boost::system::error_code error, size_t bytes);
  bool make_room();
  void resize_input(size_t capacity);
  void linger();
  size_t held() const { return end_ - begin_; }
  size_t unsent() const { return output_.size() - sent_; }

  Socket socket_;
  const std::shared_ptr<Shared> shared_;
  ConnectionOwner& owner_;
  std::unique_ptr<wire::FrameParser> parser_;
  std::unique_ptr<node::RequestStream> stream_;  // none: closed or lingering

  std::unique_ptr<uint8_t[]> input_;
  size_t capacity_ = 0;
  size_t begin_ = 0;
  size_t end_ = 0;
  size_t wanted_ = 1;  // bytes the parser needs before it can go on

  std::string output_;
  size_t sent_ = 0;
  std::vector<OwnReply> own_replies_;
  uint64_t submitted_ = 0;
  uint64_t replied_ = 0;

  SteadyTime last_read_;
  SteadyTime last_write_;  // of a byte, or since there is something to write
  bool is_first_ = true;   // the native protocol's magic may still come
  bool is_in_turn_ = false;
  bool is_reading_ = false;
  bool was_full_ = false;      // the last read filled the buffer
  bool is_shrinking_ = false;  // the read was cancelled for a smaller buffer
  bool is_waiting_writable_ = false;
  bool is_draining_ = false;
  bool has_ended_ = false;  // no more requests are taken
  bool is_eof_ = false;     // the client has closed its side
  bool is_lingering_ = false;
  bool is_failed_ = false;  // to be closed at the turn's end
  bool is_closed_ = false;
};

}  // namespace connectd::client
