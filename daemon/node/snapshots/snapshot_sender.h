// The leader's side of snapshot transfers: tracks which file each follower gets and how far it is,
// limits the rate, and decides how much log is kept for the receiving followers.
//
// A stream offers a file; the follower answers how much of it is on its disk, and the stream
// continues there. So a broken connection or a restart costs only what was in flight. After a break
// the file stays open for a while, even if the store has dropped it, and the log after it is kept:
// without that log, a follower would need another snapshot as soon as it has installed this one,
// over and over (docs/adr/0020-resumable-transfer.md).
//
// Pure: events in, effects out. Owner: the loop thread. Files are opened and read by the worker.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <vector>

#include "base/clock.h"
#include "node/effects.h"
#include "node/snapshots/rate_limit.h"
#include "raft/core.h"
#include "wire/peer_messages.h"

namespace connectd::node {

// Unacknowledged chunks to one follower.
inline constexpr uint64_t kStreamWindowChunks = 4;
// A request is repeated after kStreamRetry without an answer: it or the answer may be lost. A
// follower answers even while it restores, so a stream without any answer for kStreamTimeout
// expires, and the core starts another one.
inline constexpr Duration kStreamRetry = std::chrono::seconds(1);
inline constexpr Duration kStreamTimeout = std::chrono::seconds(10);
// The file and the log are no longer kept for a follower that makes no progress for this long.
inline constexpr Duration kResumePatience = std::chrono::seconds(60);
// The pause after a refusal, doubled each time: without it, a follower that has no space, or whose
// plugin fails, would be sent the file in a loop.
inline constexpr Duration kRefusalPauseMin = std::chrono::seconds(1);
inline constexpr Duration kRefusalPauseMax = std::chrono::seconds(30);

class SnapshotSender final {
 public:
  explicit SnapshotSender(size_t chunk_bytes) : chunk_bytes_(chunk_bytes) {}

  // Bytes a second to all followers together; 0: no limit.
  void set_rate(uint64_t rate, Time now) { rate_.set(rate, now); }

  // The core wants `peer` to have a snapshot. `first_index`: of the log that is left.
  void begin(NodeId peer, Term term, Index first_index, Time now, Effects& out);
  void source_opened(jobs::SourceOpened& opened, Time now, Effects& out);
  void chunk_read(jobs::ChunkRead& chunk, Time now, Effects& out);
  void on_ack(NodeId from, const wire::SnapshotAck& ack, Time now, Effects& out);
  void peer_lost(NodeId peer, Time now, Effects& out);
  // A deposed leader must stop sending: its chunks carry the authority of a leader.
  void lead(bool leads, Term term, Time now);

  // Periodically, and at next_deadline().
  void advance(Time now, Effects& out);
  Time next_deadline() const { return throttled_ ? rate_.next() : Time::max(); }

  struct LogView {
    std::vector<raft::PeerStatus> peers;
    Index snapshot;               // the newest of this node
    uint64_t held_bytes_max = 0;  // limit of log kept only for followers
    bool no_space = false;        // the disk is full: keep nothing
    std::function<uint64_t(Index)> bytes_from;
  };
  bool holds_log() const { return !holds_.empty(); }
  // Drops what is no longer needed; true: something was dropped.
  bool release(const LogView& log, Time now);
  // The first index of the log that followers need; none: no follower needs the log.
  std::optional<Index> keep_from() const;

  uint64_t resumed() const { return resumed_; }  // streams that continued a broken one

 private:
  struct Stream {
    Term term;
    std::shared_ptr<storage::SnapshotSource> source;  // null: being opened, or not begun
    std::optional<Time> begin_at;                     // waits after a refusal
    bool asked = false;                               // an offer is in flight, offset unknown
    bool placed = false;                              // the offset was known once
    uint64_t read = 0;                                // requested from the disk so far
    uint64_t acked = 0;
    uint64_t sent = 0;
    Time heard;  // last answer of the follower
    Time asked_at;
  };
  // The log from `from` on is kept for a follower.
  struct Hold {
    Index from;
    Time progressed;
  };
  struct Kept {
    std::shared_ptr<storage::SnapshotSource> source;
    Time since;
  };
  struct Refusals {
    Duration pause{};
    Time until;
  };
  enum class End : uint8_t { kInstalled, kRefused, kBroken };

  void open(NodeId peer, Stream& stream, Time now, Effects& out);
  void offer(NodeId peer, Stream& stream, Time now, Effects& out);
  bool wants_chunk(const Stream& stream) const;
  void pump(Time now, Effects& out);
  void progressed(NodeId peer, Time now);
  void end(NodeId peer, End how, Time now, Effects& out);
  void keep(NodeId peer, Stream& stream, Time now);

  const size_t chunk_bytes_;
  RateLimit rate_;
  bool throttled_ = false;
  NodeId served_last_;
  std::map<NodeId, Stream> streams_;
  std::map<NodeId, Kept> kept_;  // of streams that broke
  std::map<NodeId, Hold> holds_;
  std::map<NodeId, Refusals> refusals_;
  uint64_t resumed_ = 0;
};

}  // namespace connectd::node
