#include "raft/log_time.h"

#include <algorithm>

#include "base/limits.h"

namespace connectd::raft {

namespace {
int64_t monotonic_ns(const Now& now) { return now.time.time_since_epoch().count(); }
}  // namespace

void LogTime::start(NodeId self, const Now& now) {
  offsets_.clear();
  offsets_[self] = std::clamp<int64_t>(now.wall_ns, 0, kMaxWallNs) - monotonic_ns(now);
}

void LogTime::observe(NodeId node, int64_t wall_ns, const Now& now) {
  if (wall_ns == 0 || wall_ns < -kMaxWallNs || wall_ns > kMaxWallNs) return;
  offsets_[node] = wall_ns - monotonic_ns(now);
}

void LogTime::begin(int64_t last_stamp_ns, const Now& now) {
  last_stamp_ns_ = last_stamp_ns;
  offset_ = std::max(median_offset(), last_stamp_ns + 1 - monotonic_ns(now));
  advanced_at_ = now.time;
}

int64_t LogTime::stamp(const Now& now) {
  advance(now);
  last_stamp_ns_ = std::max(last_stamp_ns_ + 1, monotonic_ns(now) + offset_);
  return last_stamp_ns_;
}

int64_t LogTime::median_offset() const {
  std::vector<int64_t> sorted;
  sorted.reserve(offsets_.size());
  for (const auto& [node, offset] : offsets_) sorted.push_back(offset);
  std::sort(sorted.begin(), sorted.end());
  // The lower of two in the middle: time that is late can be made up, time that is ahead cannot.
  return sorted[(sorted.size() - 1) / 2];
}

void LogTime::advance(const Now& now) {
  int64_t elapsed = (now.time - advanced_at_).count();
  if (elapsed < kSlewDivisor) return;  // less than a nanosecond of slew: accumulate
  int64_t slew = elapsed / kSlewDivisor;
  offset_ += std::clamp(median_offset() - offset_, -slew, slew);
  advanced_at_ = now.time;
}

}  // namespace connectd::raft
