// The client port's framings: bytes of a connection -> requests, and replies -> bytes. No sockets.
//
//   line    a request is the bytes before "\n"; a "\r" before it is dropped. Replies unchanged.
//   resp    Redis serialization protocol: arrays of bulk strings, and inline commands, which are
//           handed on as arrays. Replies unchanged, but for the nulls of a client that has agreed
//           on version 3 with the plugin.
//   length  u32 little-endian length, then the bytes; both ways.
//
// docs/protocol.md has the rules to the byte. One parser a connection; the loop thread.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "base/bytes.h"

namespace connectd::wire {

// An announced length over this is not a large request but a broken stream.
inline constexpr size_t kMaxAnnouncedBytes = size_t{512} << 20;
// RESP: elements of one array; bytes of one inline command; bytes of "*<n>\r\n" and "$<n>\r\n".
inline constexpr size_t kMaxArrayElements = size_t{1} << 20;
inline constexpr size_t kMaxInlineBytes = size_t{64} << 10;
inline constexpr size_t kMaxCountBytes = 64;
// While the caller is not known: bytes of one request; RESP: of one string, and elements of one
// array.
inline constexpr size_t kUnknownRequestBytes = size_t{16} << 10;
inline constexpr size_t kUnknownArrayElements = 10;

// The first bytes of the native protocol. No framing may take them for a request.
inline constexpr std::string_view kNativeMagic{"CNTD\x01", 5};

// RESP: the user of whoever names none.
inline constexpr std::string_view kDefaultUser = "default";

enum class ParseOutcome : uint8_t {
  kNeedMore,  // nothing whole yet
  kRequest,   // `bytes` is one request
  kReply,     // the framing answers this request itself: `bytes`, unchanged, in its place
  kQuit,      // as kReply; then the connection closes, and nothing after it is a request
  kReset,     // as kReply; and the caller is again who it was when it connected
  // The caller says who it is: `user` and `secret`. If they are good, authenticated() says what
  // comes next; else answer with an error in its place.
  kCredentials,
  kTooLarge,  // one request over the limit has been skipped: answer TOOLARGE in its place
  kBadFrame,  // not understood: answer BADFRAME with `bytes` as text, then close
};

struct Parsed {
  ParseOutcome outcome = ParseOutcome::kNeedMore;
  // Drop this many bytes from the buffer's front. Also with kNeedMore: bytes of a request that is
  // being skipped.
  size_t consumed = 0;
  // In the caller's buffer, in the parser, or static: valid until the buffer or the parser is
  // touched.
  ByteView bytes{};
  // kCredentials; for so long, too. `user`: kDefaultUser if none was named.
  std::string_view user{};
  std::string_view secret{};
  // kNeedMore: after that, the buffer must hold at least this much before anything new can come of
  // it.
  size_t wanted = 0;
};

class FrameParser {
 public:
  virtual ~FrameParser() = default;
  // Whether the node knows who the caller is: it does until this is called. While it does not,
  // requests must be small, and RESP answers all but credentials with NOAUTH.
  void set_known(bool is_known) { is_known_ = is_known; }
  // `buffer` begins at the first byte not yet consumed and holds at least what it held in the call
  // before. Each byte is looked at once, however the bytes trickle in. After kQuit and kBadFrame
  // the parser is done.
  Parsed next(ByteView buffer);
  // The last kCredentials were good, and set_known() was called: a kReply, or the kRequest that
  // came with them. It consumes nothing.
  virtual Parsed authenticated() { return {}; }
  // Appends what the plugin wrote to a request: the first kRequest is 0. In their order.
  virtual void append_reply(std::string& out, ByteView reply, uint64_t request);
  // Appends an error of the daemon itself. Line ends in `text` become spaces.
  virtual void append_error(std::string& out, std::string_view code,
                            std::string_view text) const = 0;
  // The same after kBadFrame, in the words of the framing's own protocol if it has any.
  virtual void append_broken(std::string& out, std::string_view code, std::string_view text) const;

 protected:
  explicit FrameParser(size_t max_request) : max_request_(max_request) {}
  bool is_known() const { return is_known_; }
  size_t max_request() const {
    return is_known_ ? max_request_ : std::min(max_request_, kUnknownRequestBytes);
  }

 private:
  // next(), for all but the beginning of a connection.
  virtual Parsed parse(ByteView buffer) = 0;

  const size_t max_request_;
  bool is_known_ = true;
  bool may_be_proxy_ = true;   // all bytes so far are those of a binary PROXY header
  size_t proxy_consumed_ = 0;  // of these, what the framing took for requests
};

// Requests of more than `max_request` bytes are skipped; a parser never wants a buffer of more than
// kFrameSlackBytes over max_request (RESP: or kMaxInlineBytes, if that is more).
inline constexpr size_t kFrameSlackBytes = 128;
std::unique_ptr<FrameParser> make_line_parser(size_t max_request);
std::unique_ptr<FrameParser> make_resp_parser(size_t max_request);
std::unique_ptr<FrameParser> make_length_parser(size_t max_request);

// The one request that is all of `body`, as line framing has it: without its line end. None: there
// is more than one line.
std::optional<ByteView> one_line(ByteView body);

}  // namespace connectd::wire
