// Decides when this node takes a snapshot: after enough log was applied since the last one, on an
// operator's request, and again after a failure. One is in progress at a time.
//
// A failed snapshot is retried after a pause that doubles; its log is kept until then. After
// kCaptureAttempts consecutive failures of the capture itself, the next one is written on the apply
// thread.
//
// Pure: events in, "due" out. Owner: the loop thread.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

#include "base/clock.h"
#include "base/types.h"
#include "node/jobs.h"
#include "storage/snapshot_store.h"

namespace connectd::node {

struct SnapshotPolicy {
  // A snapshot is due when the log after the last one is larger than max(log_min, ratio * its
  // size), times a random spread, so that the members do not all take one at once.
  uint64_t log_min_bytes = 64 << 20;
  double log_ratio = 4;
  size_t keep = 2;
  int compression_level = 1;
  size_t block_bytes = storage::kSnapshotChunkBytes;
  // After two failed captures in a row, write the next snapshot on the apply thread.
  bool falls_back = true;
  // Entries kept before the older snapshot for followers that are slightly behind: so many, and no
  // more than so many bytes.
  uint64_t trailing_entries = 10'000;
  uint64_t trailing_bytes = 16 << 20;
  // Additional log kept for followers that are receiving a snapshot: this much, or twice log_ratio
  // times the newest snapshot, whichever is more.
  uint64_t held_log_bytes = 256 << 20;
};

class SnapshotSchedule final {
 public:
  static constexpr int kCaptureAttempts = 2;
  static constexpr Duration kRetryMin = std::chrono::seconds(1);
  static constexpr Duration kRetryMax = std::chrono::minutes(1);
  // A snapshot that takes longer than this is logged, repeatedly.
  static constexpr Duration kNotice = std::chrono::minutes(1);

  // `spread`: 1 or slightly more, drawn once for this node. `file_bytes`: size of the newest
  // snapshot at the start; 0: there is none.
  SnapshotSchedule(const SnapshotPolicy& policy, double spread, uint64_t file_bytes)
      : policy_(policy), spread_(spread), file_bytes_(file_bytes) {}

  // ---- events
  // Entries of this total weight were handed to the apply thread.
  void handed(uint64_t bytes) { log_bytes_ += bytes; }
  // The one in progress is durable.
  void taken(uint64_t file_bytes);
  void failed(const SnapshotFailed& failed, Time now);
  // A snapshot from the leader replaced the state.
  void installed(uint64_t file_bytes) { file_bytes_ = file_bytes; }
  // An operator requests a snapshot of at least this index; remembered while another one is in
  // progress.
  void ask(Index index) { asked_ = index; }
  // A follower needs a newer one than there is: due as soon as a failure before allows it.
  void need() { needed_ = true; }

  // ---- actions
  bool is_due(Time now) const;
  // The caller starts a snapshot now, the way this returns. Requires !in_progress().
  SnapshotHow begin(Time now);
  // Periodically while one is in progress: logs it when it takes long.
  void watch(Time now);
  // True: an operator's request came while the finished one was in progress, and that one does not
  // cover it. Clears the request.
  bool take_asked(Index newest);

  // ---- state
  bool in_progress() const { return in_progress_; }
  bool is_wanted() const { return in_progress_ || retry_; }
  Duration since_begin(Time now) const { return now - began_; }
  // The log size that makes a snapshot due, before the minimum and the spread.
  uint64_t due_bytes() const;
  uint64_t failures() const { return failures_; }                    // since the start
  const std::string& last_failure() const { return last_failure_; }  // empty: last one succeeded

 private:
  bool falls_back() const { return policy_.falls_back && capture_failures_ >= kCaptureAttempts; }

  const SnapshotPolicy policy_;
  const double spread_;
  uint64_t file_bytes_;     // of the newest one
  uint64_t log_bytes_ = 0;  // handed to the apply thread since the last one began

  bool in_progress_ = false;
  Time began_;
  Time next_notice_;
  uint64_t log_bytes_at_begin_ = 0;
  Index asked_;

  bool needed_ = false;
  bool retry_ = false;  // could not begin, another capture was running
  Time not_before_;
  int failures_in_a_row_ = 0;
  int capture_failures_ = 0;  // of those, the ones that the capture caused, not the plugin
  uint64_t failures_ = 0;
  std::string last_failure_;
};

}  // namespace connectd::node
