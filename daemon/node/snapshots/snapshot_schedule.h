// When this node takes a snapshot of its own: by how much was applied since the last one, when an
// operator asks for one, and after a failure. One is in progress at a time.
//
// A failed snapshot is retried after a pause that doubles; the log after it stays. After
// kCaptureAttempts failures of the way of capturing in a row, the next one is written on the apply
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
  // Taken when the log after the last one is larger than max(log_min, ratio * its size), times a
  // random spread, so that members do not all take theirs at once.
  uint64_t log_min_bytes = 64 << 20;
  double log_ratio = 4;
  size_t keep = 2;
  int compression_level = 1;
  size_t block_bytes = storage::kSnapshotChunkBytes;
  // A snapshot that could not be captured twice in a row is written on the apply thread.
  bool falls_back = true;
  // Entries kept in front of the older snapshot for followers that are a little behind.
  uint64_t trailing_entries = 10'000;
  // Log that is kept beyond that for followers that are sent a snapshot: this much, or twice the
  // log that makes a snapshot due, if that is more.
  uint64_t held_log_bytes = 256 << 20;
};

class SnapshotSchedule final {
 public:
  static constexpr int kCaptureAttempts = 2;
  static constexpr Duration kRetryMin = std::chrono::seconds(1);
  static constexpr Duration kRetryMax = std::chrono::minutes(1);
  // A snapshot that takes longer than this is reported, repeatedly.
  static constexpr Duration kNotice = std::chrono::minutes(1);

  // `spread`: 1 or a little more, drawn once for this node. `file_bytes`: of the newest snapshot
  // at the start, 0: none.
  SnapshotSchedule(const SnapshotPolicy& policy, double spread, uint64_t file_bytes)
      : policy_(policy), spread_(spread), file_bytes_(file_bytes) {}

  // ---- what happened
  // Entries of this weight went to the apply thread.
  void handed(uint64_t bytes) { log_bytes_ += bytes; }
  // The one in progress is durable.
  void taken(uint64_t file_bytes);
  void failed(const SnapshotFailed& failed, Time now);
  // One from the leader took the state's place.
  void installed(uint64_t file_bytes) { file_bytes_ = file_bytes; }
  // An operator wants one of at least this index; kept while another one is in progress.
  void ask(Index index) { asked_ = index; }

  // ---- what to do
  bool is_due(Time now) const;
  // The caller starts one now, in the way that is returned. Requires !in_progress().
  SnapshotHow begin(Time now);
  // Now and then while one is in progress: logs it when it takes long.
  void watch(Time now);
  // What was asked for while the one that ended was in progress, if that one does not cover it.
  bool take_asked(Index newest);

  // ---- what it knows
  bool in_progress() const { return in_progress_; }
  bool is_wanted() const { return in_progress_ || retry_; }
  Duration since_begin(Time now) const { return now - began_; }
  // Log of this size makes a snapshot due, without the floor and the spread.
  uint64_t due_bytes() const;
  uint64_t failures() const { return failures_; }                    // since the start
  const std::string& last_failure() const { return last_failure_; }  // empty: it succeeded

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

  bool retry_ = false;  // it was begun while something else was captured
  Time not_before_;
  int failures_in_a_row_ = 0;
  int capture_failures_ = 0;  // of those: not the plugin's fault, but that of the way of capturing
  uint64_t failures_ = 0;
  std::string last_failure_;
};

}  // namespace connectd::node
