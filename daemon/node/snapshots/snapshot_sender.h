// The leader's side of snapshots on their way to followers: which file goes to whom, how far it is,
// how fast it may go, and how much of the log is kept for those who get one.
//
// A stream offers a file; the follower says how much of it is on its disk, and the stream continues
// there. So a stream that broke, because a connection or a process ended, costs what was in flight
// and no more. The file stays open for a while after a break, though the store may have dropped it,
// and so does the log after it: without that log a follower would have to take another snapshot as
// soon as it has installed this one, and again (docs/adr/0020-resumable-transfer.md).
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

// Chunks to one follower that are not acknowledged yet.
inline constexpr uint64_t kStreamWindowChunks = 4;
// What is not answered for this long is asked for again: it, or its answer, may be lost. A follower
// answers also while it restores, so a stream that hears nothing for longer expires, and the core
// asks again.
inline constexpr Duration kStreamRetry = std::chrono::seconds(1);
inline constexpr Duration kStreamTimeout = std::chrono::seconds(10);
// A follower that makes no progress for this long has its file and its log kept no longer.
inline constexpr Duration kResumePatience = std::chrono::seconds(60);
// After a refusal, doubled with each: a follower without space, or whose plugin fails, is not sent
// a file in a loop.
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
  // Who leads no more must not continue: its chunks would speak for a leader that it is not.
  void lead(bool leads, Term term, Time now);

  // Now and then, and at next_deadline().
  void advance(Time now, Effects& out);
  Time next_deadline() const { return throttled_ ? rate_.next() : Time::max(); }

  struct LogView {
    std::vector<raft::PeerStatus> peers;
    Index snapshot;               // the newest of this node
    uint64_t held_bytes_max = 0;  // of log that is kept for followers alone
    bool no_space = false;        // of the disk: nothing is kept
    std::function<uint64_t(Index)> bytes_from;
  };
  bool holds_log() const { return !holds_.empty(); }
  // Lets go of what is not needed any more; true: of something.
  bool release(const LogView& log, Time now);
  // The log is kept from here on; none: nobody needs it.
  std::optional<Index> keep_from() const;

  uint64_t resumed() const { return resumed_; }        // streams that went on where one broke
  uint64_t bytes_sent() const { return bytes_sent_; }  // in chunks

 private:
  struct Stream {
    Term term;
    std::shared_ptr<storage::SnapshotSource> source;  // null: being opened, or not begun
    std::optional<Time> begin_at;                     // it was refused lately, and waits
    bool asked = false;                               // an offer is out, and the place not known
    bool placed = false;                              // the place was known once
    uint64_t read = 0;                                // asked of the disk so far
    uint64_t acked = 0;
    uint64_t sent = 0;
    Time heard;  // of the follower, about this stream
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
  uint64_t bytes_sent_ = 0;
};

}  // namespace connectd::node
