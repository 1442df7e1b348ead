// What a leader knows of one follower's log, and how fast it may send to it.
//
//   probe      the follower's log is unknown from `next` on: one small append at a time, until
//              one is accepted (thesis §3.5)
//   replicate  appends leave without waiting for answers (pipelining, thesis §10.2.1), as long
//              as the unacknowledged bytes are fewer than the window; `next` is optimistic
//   snapshot   what it needs is compacted: nothing leaves until the snapshot stream has ended
//
// match < next always. match only rises: a follower never loses what it said to be durable.
// Owner: the leader's core, for one term.
#pragma once

#include <cstdint>
#include <deque>
#include <optional>
#include <vector>

#include "base/clock.h"
#include "raft/lease.h"
#include "raft/types.h"

namespace connectd::raft {

class Progress final {
 public:
  enum class State : uint8_t { kProbe, kReplicate, kSnapshot };
  // Of entries, a probe carries no more than this: they are sent in vain if it is rejected.
  static constexpr size_t kProbeBytes = 64 << 10;
  static constexpr size_t kMaxInflightMessages = 4096;

  Progress(Index next, Time now) : next_(next), progressed_at_(now) {}

  State state() const { return state_; }
  Index match() const { return match_; }
  Index next() const { return next_; }
  size_t inflight_bytes() const { return inflight_bytes_; }
  size_t inflight_messages() const { return inflight_.size(); }

  // An append may leave now.
  bool may_send(size_t window_bytes) const;
  void sent_probe() { probe_is_out_ = true; }
  // An append of entries up to `last` left in replicate state.
  void sent_entries(Index last, size_t bytes, Time now);

  // The follower's log matches up to `index`, durably. `first_index`: of the leader's log.
  void accepted(Index index, Index first_index, Time now);
  // It does not match at `rejected`; it may match at `hint`. False: an old answer that says nothing
  // any more.
  bool rejected(Index rejected, Index hint);
  // The follower answers heartbeats. If appends or their answers were lost, this is what finds out:
  // whatever is behind and waits for nothing, or for longer than `stall`, is probed.
  void answered_heartbeat(Index last_index, Time now, Duration stall);

  // Probe again at once; what was in flight may be lost. `next` stays: if the follower has it all,
  // nothing is sent twice, and if not, its rejection says where to go on. So does the window, until
  // a rejection: a follower whose disk stalls keeps in memory what it has, and must not be sent one
  // window after the other.
  void become_probe();
  void become_snapshot();
  void snapshot_ended(bool ok, Index mark);

  // Kept here for the core.
  uint64_t answered_round = 0;     // highest round it has responded to
  std::optional<Time> renewed_at;  // when the last round left that it answered and vouches for
  ClockWatch clock;
  bool active = false;        // heard of in the present check-quorum period
  bool was_active = false;    // in the one before
  Index sent_commit;          // commit index of the last append in replicate state
  Index loading;              // entries from here are being loaded for it; none: nothing is
  std::vector<Entry> loaded;  // loaded, to be sent if they still begin at next()

 private:
  friend class Fingerprint;
  void become_replicate(Time now);
  void clear_inflight();

  struct Inflight {
    Index last;
    size_t bytes;
  };

  State state_ = State::kProbe;
  Index match_;
  Index next_;
  bool probe_is_out_ = false;
  std::deque<Inflight> inflight_;
  size_t inflight_bytes_ = 0;
  Time progressed_at_;  // the last acknowledgement, or the first send after a pause
};

}  // namespace connectd::raft
