// A leader's knowledge of one follower's log, and how fast it may send to it.
//
//   probe      the follower's log is unknown from `next` on: one small append at a time, until
//              one is accepted (thesis §3.5)
//   replicate  appends leave without waiting for answers (pipelining, thesis §10.2.1), as long
//              as the unacknowledged bytes are fewer than the window; `next` is optimistic
//   snapshot   the entries it needs are compacted: nothing is sent until the snapshot stream ends
//
// match < next always. match only increases: a follower never loses what it reported as durable, as
// long as it answers from the same disk (events.h, ChangeConf::other_disk).
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
  // Limit on the entries of a probe, which are wasted if it is rejected.
  static constexpr size_t kProbeBytes = 64 << 10;
  static constexpr size_t kMaxInflightMessages = 4096;

  Progress(Index next, Time now) : next_(next), progressed_at_(now) {}

  State state() const { return state_; }
  Index match() const { return match_; }
  Index next() const { return next_; }
  size_t inflight_bytes() const { return inflight_bytes_; }
  size_t inflight_messages() const { return inflight_.size(); }

  // An append may be sent now.
  bool may_send(size_t window_bytes) const;
  void sent_probe() { probe_is_out_ = true; }
  // An append of entries up to `last` was sent in replicate state.
  void sent_entries(Index last, size_t bytes, Time now);

  // The follower's log matches up to `index`, durably. `first_index`: of the leader's log.
  void accepted(Index index, Index first_index, Time now);
  // It does not match at `rejected`; it may match at `hint`. False: an outdated response, ignored.
  bool rejected(Index rejected, Index hint);
  // The follower answered a heartbeat. This detects lost appends and responses: a follower that
  // lags is probed if nothing is in flight, or if nothing was acknowledged for `stall`.
  void answered_heartbeat(Index last_index, Time now, Duration stall);

  // Probe at once; what was in flight may be lost. `next` stays: if the follower has everything,
  // nothing is sent twice, and if not, its rejection says where to continue. The window stays too,
  // until a rejection: a follower with a stalled disk holds in memory what it received, and must
  // not be sent one window after another.
  void become_probe();
  void become_snapshot();
  void snapshot_ended(bool ok, Index mark);

  // Kept here for the core.
  uint64_t answered_round = 0;     // highest round that it has responded to
  std::optional<Time> renewed_at;  // send time of the last answered round that renews the lease
  ClockWatch clock;
  bool active = false;        // heard from in the current check-quorum period
  bool was_active = false;    // in the previous one
  Index sent_commit;          // commit index of the last append in replicate state
  Index loading;              // entries from here on are being loaded for it; none: no load
  std::vector<Entry> loaded;  // loaded; sent if they still begin at next()

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
