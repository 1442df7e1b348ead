// The interface for the frontends (client port, HTTP): ordered streams of requests, and replies.
//
// Everything here is called on the loop thread, both ways.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string_view>

#include "base/bytes.h"
#include "base/clock.h"
#include "base/types.h"

namespace connectd::plugin {
class Plugin;
}

namespace connectd::node {

// The daemon's own answers (docs/protocol.md). Only kUnknown leaves the outcome of a write open.
enum class ReplyCode : uint8_t {
  kOk = 0,  // the plugin answered
  kNoLeader = 1,
  kOverloaded = 2,
  kTooLarge = 3,
  kRejected = 4,
  kDiskFull = 5,
  kShutdown = 6,
  kBadFrame = 7,
  kPlugin = 8,
  kSessionGone = 9,
  kUnknown = 10,
  kStale = 11,   // the bounds of a stale read were not met in time
  kNoPerm = 12,  // the caller may not do what the plugin classifies the request as
};
// "NOLEADER", "OVERLOADED", ...; "OK" for kOk.
std::string_view reply_code_name(ReplyCode code);

// Consistency level of a read (docs/protocol.md). It applies to requests that the plugin classifies
// as reads, not to writes and local reads.
enum class ReadLevel : uint8_t {
  kLinearizable = 0,  // sees every write acknowledged before the request
  kLease = 1,         // the same, as long as clocks keep their bound; no round if this node leads
  kStale = 2,         // this node's state, within the bounds
};
struct ReadOptions {
  ReadLevel level = ReadLevel::kLinearizable;
  // Of kStale. The state has this entry (0: any) ...
  Index min_index{};
  // ... and every write acknowledged this long before the request arrived.
  std::optional<Duration> max_age{};
  bool operator==(const ReadOptions&) const = default;
};

// What the caller of a stream may do, by what the plugin classifies its requests as. A request that
// classify answers needs one of the two: without any, nothing reaches the plugin.
struct Rights {
  bool read = true;
  bool write = true;
};

struct Reply {
  ReplyCode code = ReplyCode::kOk;
  // kOk: the plugin's reply. Else: a text of one line, without the code and line end. Valid during
  // the call only.
  ByteView bytes;
  // classify rejected the request with its own reply: `bytes`, to be sent unchanged.
  bool plugin_refused = false;
  int32_t status = 0;  // the plugin's own status of read or apply
  Index index;         // of the entry applied, or the index the read saw; none where there is none
};

// Gets exactly one reply for each request of its stream, in the order of submission, possibly while
// submit() still runs. After the stream is destroyed: none. on_reply() must neither submit nor
// destroy the stream; on_replies_end() may.
class ReplyHandler {
 public:
  virtual void on_reply(const Reply& reply) = 0;
  // After the last on_reply() of a turn: write to the socket now.
  virtual void on_replies_end() = 0;
  // The client reads its replies too slowly: the stream starts no request and executes no read
  // until RequestStream::resume().
  virtual bool is_congested() const { return false; }

 protected:
  ~ReplyHandler() = default;
};

// The requests of one connection: effects and replies have the order of submission. Destroying it
// drops the replies, not the writes in progress.
class RequestStream {
 public:
  virtual ~RequestStream() = default;
  // Classifies and starts the request. `request` is copied. Bounded: the caller stops reading its
  // socket while pending() or pending_bytes() is over its limits.
  virtual void submit(ByteView request, const ReadOptions& read) = 0;
  void submit(ByteView request) { submit(request, ReadOptions()); }
  // For the requests submitted from now on; all, until it is called.
  virtual void set_rights(Rights rights) = 0;
  // is_congested() changed to false.
  virtual void resume() = 0;
  virtual size_t pending() const = 0;  // submitted and not yet replied to
  virtual size_t pending_bytes() const = 0;
};

enum class Framing : uint8_t { kLine = 0, kResp = 1, kLength = 2 };
// How clients' requests are told apart, as the plugin declares.
Framing framing_of(const plugin::Plugin& plugin);

class Service {
 public:
  virtual ~Service() = default;
  // `handler` must live until the stream is destroyed.
  virtual std::unique_ptr<RequestStream> open_stream(ReplyHandler& handler) = 0;
  virtual Framing framing() const = 0;     // of the plugin
  virtual size_t max_request() const = 0;  // bytes of one request
};

}  // namespace connectd::node
