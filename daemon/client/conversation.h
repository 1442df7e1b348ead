// The protocol of one client's connection: bytes -> requests -> the node's stream -> replies ->
// bytes. It owns everything about the connection but the socket: the buffers and their limits, the
// framing, the order of replies, and how the connection ends. It has no socket and no clock.
//
// A driver (client/connection.h, and the simulator) reports what happened to its socket:
// received(), end_of_input(), sent(), cannot_send(), and calls next() after each of them. next()
// parses what it may and returns what the socket must do now. All replies that are ready are one
// piece of output, so they leave with one system call.
//
// Bounds: no request begins while too many are unanswered, or too many replies unread by the
// client, or by all clients together. Requests that cannot begin are received and kept up to a
// bound; then nothing more is read (client/shared.h). So clients cost bounded memory whatever they
// do. Replies that the framing makes itself (QUIT, a request over the limit) wait for their place
// among the node's replies.
//
// The end: after QUIT, a broken frame or the client's half-close, the replies that are owed are
// sent. Then the driver shuts down the sending side and reads on for a moment, so that the kernel
// does not reset the connection while the last reply is on its way.
//
// Loop thread.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/bytes.h"
#include "client/client_port_options.h"
#include "client/shared.h"
#include "node/service.h"
#include "wire/framing.h"

namespace connectd::client {

// The input buffer of a connection that is new or idle, and of a busy one. A larger request grows
// it further, up to the size of that request.
inline constexpr size_t kIdleInputBytes = size_t{2} << 10;
inline constexpr size_t kBusyInputBytes = size_t{64} << 10;
// An output buffer over this is freed once it has been sent.
inline constexpr size_t kKeepOutputBytes = size_t{64} << 10;
// Of answers, to a client that is not known: more that it does not take, and its connection closes.
inline constexpr size_t kUnknownOutputBytes = 1024;
// A client that takes less in short_stall_timeout makes no progress.
inline constexpr size_t kProgressBytes = size_t{64} << 10;

std::unique_ptr<wire::FrameParser> make_parser(const Shared& shared);

// How a conversation reaches its driver when the node replies between the driver's own calls.
// Why credentials are refused: the code and the text of the answer.
struct CredentialsError {
  std::string_view code;  // static
  std::string text;
};

class ConversationDriver {
 public:
  // The replies of this turn are complete: call next() and carry it out, unless a call of next() is
  // in progress already. May destroy the conversation.
  virtual void on_replies_end() = 0;
  // The output is over its limit, and more replies follow: send what the socket takes at once, and
  // report it by sent(). Must not call next().
  virtual void relieve_output() = 0;
  // The conversation was taken from this queue of Shared: call stopped_waiting(room), then next().
  virtual void on_room(Room room) = 0;
  // The client says who it is. None: these credentials are good, and set_caller() was called.
  virtual std::optional<CredentialsError> on_credentials(std::string_view user,
                                                         std::string_view secret) = 0;
  // The client has reset the connection: call set_caller() if it was known by its credentials.
  virtual void on_reset() = 0;
  // A request was refused because of who asks.
  virtual void on_no_permission() = 0;

 protected:
  ~ConversationDriver() = default;
};

class Conversation final : public node::ReplyHandler {
 public:
  // `shared` and `driver` must outlive it.
  Conversation(Shared& shared, ConversationDriver& driver, SteadyTime now);
  ~Conversation();
  Conversation(const Conversation&) = delete;
  Conversation& operator=(const Conversation&) = delete;

  // What the driver must do now.
  struct Wants {
    bool close = false;      // at once: nothing else counts then
    bool shut_down = false;  // the sending side, then call was_shut_down(); all output is sent
    bool send = false;       // output()
    bool read = false;       // into begin_read(); false while a read is in progress
    bool again = false;      // more requests are there than one turn takes: have another one soon
  };
  // The driver begins to call next(), until that wants nothing more, or only another turn.
  void begin_turn() { turn_requests_ = turn_bytes_ = 0; }
  // Submits the requests that are there, as far as the limits allow, and says what comes next. Not
  // reentrant.
  Wants next();

  // ---- input
  // A read begins. The space stays valid until received(), read_cancelled() or end_of_input().
  std::span<uint8_t> begin_read();
  void received(size_t bytes, SteadyTime now);
  // The client sends no more.
  void end_of_input();
  // The read that Sweep::kShrink asked for ended without a byte.
  void read_cancelled();

  // ---- output
  // Valid until the next call of any function but this one.
  std::string_view output() const { return std::string_view(output_).substr(sent_); }
  void sent(size_t bytes);
  // The socket takes no more for now.
  void cannot_send(SteadyTime now);
  void was_shut_down(SteadyTime now);

  // ---- the end
  // Ends when no reply is owed.
  void drain() { is_draining_ = true; }
  // The socket failed: next() returns `close` from now on.
  void fail() { is_failed_ = true; }
  // The socket is closed: gives up the stream. Nothing is called any more.
  void close();
  // What the client may do, from the next request on; and whether it is known (wire/framing.h).
  // Until it is called, it is, and may do everything. One that is not known has limits of its own,
  // and unknown_timeout.
  void set_caller(node::Rights rights, bool is_known, SteadyTime now);
  enum class Sweep : uint8_t {
    kNothing,
    kClose,
    kShrink,  // the buffer is larger than it needs to be: cancel the read
    kTurn,    // call next()
  };
  // Checks the times: stall_timeout, half_sent_timeout, idle_time, linger_time.
  Sweep sweep(SteadyTime now);

  // The node's further replies wait until the client has taken some of those that are here.
  bool is_held_back() const { return owes_resume_ && unsent() > 0; }

  // It was taken from that queue of shared_; it may still be in others.
  void stopped_waiting(Room room) {
    switch (room) {
      case Room::kReplies:
        is_waiting_ = false;
        break;
      case Room::kInput:
        // The client has its whole time again.
        if (std::exchange(waits_for_input_, false)) input_bytes_ = kProgressBytes;
        break;
      case Room::kTurn:
        waits_to_begin_ = false;
        break;
    }
  }

  // node::ReplyHandler
  void on_reply(const node::Reply& reply) override;
  void on_replies_end() override { driver_.on_replies_end(); }
  bool is_congested() const override;

 private:
  // A reply of the framing itself, sent after so many replies of the node.
  struct OwnReply {
    uint64_t after = 0;
    std::string bytes;
  };

  void parse();
  void take(const wire::Parsed& parsed);
  void authenticate(const wire::Parsed& shown);
  void resume_stream();
  bool has_room() const { return shared_.has_room(unsent()); }
  bool is_over_limit() const;
  void bound_output();
  void bound_unknown(size_t bytes);
  void wait_for_room() const;
  void count_output();
  bool is_native(ByteView start);
  void append_own(std::string bytes);
  void append_broken(std::string_view text);
  void append_own_error(node::ReplyCode code, std::string_view text);
  void append_due_own_replies();
  void end_requests();
  bool is_blocked() const;
  bool is_blocked_itself() const;
  bool may_begin() const;
  void begin();
  void wait_to_begin();
  void count_begun();
  bool may_parse() const {
    return held() >= wanted_ && !has_ended_ && !is_failed_ && !is_blocked();
  }
  bool owes_nothing() const;
  bool prepare_read();
  size_t wanted_capacity(bool keeps) const;
  bool may_grow(size_t capacity, bool keeps);
  void resize_input(size_t capacity);
  void move_to_front();
  void release_input();
  void count_input();
  Sweep sweep_output(SteadyTime now);
  Sweep sweep_input(SteadyTime now);
  Sweep give_up_request(node::ReplyCode code, std::string_view text);
  void stop_waiting();
  size_t held() const { return end_ - begin_; }
  size_t unsent() const { return output_.size() - sent_; }

  Shared& shared_;
  ConversationDriver& driver_;
  const std::unique_ptr<wire::FrameParser> parser_;
  std::unique_ptr<node::RequestStream> stream_;  // none: closed or lingering

  std::unique_ptr<uint8_t[]> input_;
  size_t capacity_ = 0;
  size_t begin_ = 0;
  size_t end_ = 0;
  size_t wanted_ = 1;         // bytes the parser needs before it can go on
  size_t reserved_ = 0;       // large part of the buffer that the incomplete request may need
  size_t counted_input_ = 0;  // of the buffer, in shared_.large_input_bytes

  std::string output_;
  size_t sent_ = 0;
  size_t counted_ = 0;  // of the output, in shared_.unsent_bytes
  std::vector<OwnReply> own_replies_;
  size_t turn_requests_ = 0;  // taken in this turn
  size_t turn_bytes_ = 0;     // of them
  size_t counted_begun_ = 0;  // of the requests in progress, in shared_
  size_t counted_begun_bytes_ = 0;
  uint64_t submitted_ = 0;
  uint64_t replied_ = 0;

  std::optional<SteadyTime> unknown_since_;  // none: the client is known
  size_t unknown_bytes_ = 0;                 // of answers since then, until all output is taken
  SteadyTime last_read_;
  SteadyTime last_send_;       // when the socket last filled up; while lingering: since when
  SteadyTime progress_since_;  // since then it has taken ...
  size_t progress_bytes_ = 0;  // ... these bytes of replies
  SteadyTime input_since_;     // since then, while a large request is incomplete ...
  size_t input_bytes_ = 0;     // ... it has sent these bytes
  bool may_be_native_ = true;  // the magic of the native protocol can still come
  bool is_reading_ = false;
  bool was_full_ = false;  // the last read filled the buffer
  // is_congested() was true; the stream waits for resume().
  mutable bool owes_resume_ = false;
  mutable bool is_waiting_ = false;  // in shared_.waiting
  bool waits_for_input_ = false;     // in shared_.input_waiting
  bool waits_to_begin_ = false;      // in shared_.begin_waiting
  bool is_draining_ = false;
  bool has_ended_ = false;  // no more requests are taken
  bool is_eof_ = false;     // the client has closed its side
  bool is_lingering_ = false;
  bool is_failed_ = false;  // to be closed
};

}  // namespace connectd::client
