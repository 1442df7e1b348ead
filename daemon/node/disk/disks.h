// Reacts to full and stalled disks, which DiskWatch tracks: informs the core, transfers leadership,
// and rejects requests and entries. Also requests the free space and the log's next segment from
// the worker periodically.
//
// Pure: events in, effects out. Owner: the loop thread.
#pragma once

#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/clock.h"
#include "node/disk/disk_watch.h"
#include "raft/core.h"
#include "wire/peer_messages.h"

namespace connectd::node {

class Disks final {
 public:
  static constexpr Duration kSpaceCheckInterval = std::chrono::seconds(1);
  // Minimum interval between two transfers because of the disk.
  static constexpr Duration kHandOverInterval = std::chrono::seconds(2);

  explicit Disks(const DiskWatch::Options& options)
      : min_free_bytes_(options.min_free_bytes), watch_(options) {}

  // ---- what happened
  void measured(uint64_t free_bytes);
  void segment_prepared(const jobs::SegmentPrepared& prepared, Time now);
  void on_report(NodeId from, const wire::DiskReport& report, Time now);
  void peer_reached(NodeId peer);
  // A transfer that advance() requested is in progress.
  void hand_over_began() {
    if (stall_asked_) stalled_hand_over_ = stall_asked_;
  }

  // ---- the turn
  // Of the log, at the moment.
  struct LogView {
    bool has_reserve = true;
    bool wants_segment = false;
    bool is_behind = false;  // something was submitted and is not durable
    uint64_t done = 0;       // rises with each batch that becomes durable
  };
  // If something changed since the last call: judges and reports again. In each round.
  void react(const raft::Core& core, bool log_has_reserve, Time now, Effects& out);
  // Always judges, requests the free space from the worker, transfers leadership. At least every
  // 50 ms. `stopping`: this node transfers leadership anyway.
  void advance(const raft::Core& core, const LogView& log, bool stopping, Time now, Effects& out);

  // ---- what it decides
  // The reason for DISKFULL; empty: none.
  std::string_view refusal() const { return refusal_; }
  // The log has no space: removes the entries that it cannot accept. False: it accepts none, and
  // there is no answer, because the leader would resend at once.
  bool take_what_fits(raft::AppendRequest& append, const raft::Core& core, Time now);
  // This node leads, and these must not be appended.
  bool refuses(const wire::ForwardProposals& forward) const;

  // Which members' disks are full or stalled, each as the end of a sentence about its node.
  std::map<NodeId, std::string> problems(const raft::ConfState& conf) const;

  const DiskWatch& watch() const { return watch_; }

 private:
  DiskWatch::View view_of(const raft::Core& core) const;
  void judge(const raft::Core& core, bool log_has_reserve, Time now, Effects& out);
  void tell_core(const raft::Core& core, Time now, Effects& out);
  void log_changes(bool log_is_full);
  void hand_over(const raft::Core& core, Time now, Effects& out);

  const uint64_t min_free_bytes_;
  DiskWatch watch_;
  bool led_ = false;      // as of the last react()
  bool changed_ = false;  // something changed since the last judgement
  std::string_view refusal_;

  // The state that was last logged, or reported to the core.
  bool was_full_ = false;
  bool was_stalled_ = false;
  bool writes_were_stopped_ = false;
  bool log_was_full_ = false;
  std::vector<NodeId> unfit_;

  Time next_hand_over_;
  Term stall_asked_;        // advance() asked for one in this term, because the disk stalls
  Term stalled_hand_over_;  // ... and it began
  Time next_gap_answer_;    // while the log is full

  bool preparing_segment_ = false;
  bool no_descriptors_ = false;  // the last segment failed for the lack of one
  Time next_preparation_;
  Time next_space_check_;
};

}  // namespace connectd::node
