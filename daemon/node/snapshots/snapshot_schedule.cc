#include "node/snapshots/snapshot_schedule.h"

#include <algorithm>
#include <utility>

#include "base/log.h"
#include "base/log_event.h"

namespace connectd::node {

bool SnapshotSchedule::is_due(Time now) const {
  if (in_progress_) return false;
  if (retry_) return true;
  if (now < not_before_) return false;
  if (needed_) return true;
  double wanted = std::max(static_cast<double>(policy_.log_min_bytes),
                           policy_.log_ratio * static_cast<double>(file_bytes_));
  return static_cast<double>(log_bytes_) > wanted * spread_;
}

uint64_t SnapshotSchedule::due_bytes() const {
  return static_cast<uint64_t>(policy_.log_ratio * static_cast<double>(file_bytes_));
}

SnapshotHow SnapshotSchedule::begin(Time now) {
  CHECK(!in_progress_) << "one snapshot at a time";
  in_progress_ = true;
  needed_ = retry_ = false;
  began_ = now;
  next_notice_ = now + kNotice;
  log_bytes_at_begin_ = std::exchange(log_bytes_, 0);
  if (!falls_back()) return SnapshotHow::kCapture;
  log_event(LogEvent::kSnapshotInline,
            "capture failed times={}; this snapshot is written on the apply thread; nothing is "
            "applied or read until it is done",
            capture_failures_);
  return SnapshotHow::kInline;
}

// Unlike a forked child, a hanging view cannot be killed, so the operator must be told.
void SnapshotSchedule::watch(Time now) {
  if (!in_progress_ || now < next_notice_) return;
  next_notice_ = now + kNotice;
  log_event(LogEvent::kSnapshotSlow,
            "still running seconds={}; the next one waits, and the log is kept. The "
            "plugin may hang in it, or the disk may be slow",
            since_begin(now) / std::chrono::seconds(1));
}

void SnapshotSchedule::taken(uint64_t file_bytes) {
  in_progress_ = false;
  last_failure_.clear();
  failures_in_a_row_ = capture_failures_ = 0;
  file_bytes_ = file_bytes;
}

bool SnapshotSchedule::take_asked(Index newest) { return std::exchange(asked_, Index()) > newest; }

void SnapshotSchedule::failed(const SnapshotFailed& failed, Time now) {
  using Why = SnapshotFailed::Why;
  in_progress_ = false;
  log_bytes_ += log_bytes_at_begin_;
  retry_ = failed.why == Why::kBusy;
  if (failed.why == Why::kBusy || failed.why == Why::kOvertaken) return;
  ++failures_;
  last_failure_ = failed.text;
  asked_ = Index();
  needed_ = true;  // a retry does not depend on the log's size: an operator may have asked
  const Duration wait = std::min(kRetryMax, kRetryMin * (1 << std::min(failures_in_a_row_, 6)));
  ++failures_in_a_row_;
  if (failed.why == Why::kMeans) ++capture_failures_;
  not_before_ = now + wait;
  log_event(LogEvent::kSnapshotFailed,
            "failed index={0} failures={4} retry_s={2}{3}: {1}. The log is kept until a "
            "snapshot succeeds",
            failed.mark.index, failed.text, wait / std::chrono::seconds(1),
            falls_back() ? ", on the apply thread" : "", failures_in_a_row_);
}

}  // namespace connectd::node
