#include "raft/log_time.h"

#include <algorithm>
#include <cstdlib>
#include <utility>

#include "base/wall_clock.h"

namespace connectd::raft {

namespace {
int64_t monotonic_ns(const Now& now) { return now.time.time_since_epoch().count(); }

// A minority of them.
size_t wrong_at_most(size_t voters) { return (voters - 1) / 2; }
}  // namespace

void LogTime::start(NodeId self, std::vector<NodeId> voters, const Now& now) {
  self_ = self;
  readings_.clear();
  set_voters(std::move(voters));
  read(self, now.wall_ns, now);
}

void LogTime::set_voters(std::vector<NodeId> voters) {
  if (voters == voters_) return;
  voters_ = std::move(voters);
  is_settled_ = false;
}

void LogTime::observe(NodeId node, int64_t wall_ns, const Now& now) {
  read(node, wall_ns, now);
  if (has_begun_) advance(now);
}

void LogTime::read(NodeId node, int64_t wall_ns, const Now& now) {
  if (wall_ns == 0) return;
  auto known = readings_.find(node);
  if (!is_plausible(wall_ns)) {
    if (known != readings_.end()) readings_.erase(known);
    return;
  }
  const bool is_news =
      known == readings_.end() || (node != self_ && now.time - known->second.at > kFresh);
  // One more clock decides nothing where those known agreed.
  if (is_news && std::ranges::find(voters_, node) != voters_.end()) {
    const auto clocks = bounds(now);
    if (!clocks || !clocks->agree()) is_settled_ = false;
  }
  readings_[node] = {wall_ns - monotonic_ns(now), now.time};
}

void LogTime::begin(int64_t last_stamp_ns, int64_t offset, const Now& now) {
  has_begun_ = true;
  last_stamp_ns_ = last_stamp_ns;
  const auto clocks = bounds(now);
  if (clocks) offset = std::clamp(offset, clocks->low, clocks->high);
  offset_ = std::max(offset, last_stamp_ns + 1 - monotonic_ns(now));
  advanced_at_ = now.time;
  is_settled_ = clocks && clocks->agree();
}

int64_t LogTime::stamp(const Now& now) {
  // Clocks that became known since have been looked at.
  if ((now.time - advanced_at_).count() >= kSlewDivisor) advance(now);
  last_stamp_ns_ = at(now);
  return last_stamp_ns_;
}

int64_t LogTime::at(const Now& now) const {
  return std::max(last_stamp_ns_ + 1, monotonic_ns(now) + offset_);
}

std::optional<LogTime::Bounds> LogTime::bounds(const Now& now) const {
  if (voters_.empty()) return std::nullopt;
  std::vector<int64_t> sorted;
  sorted.reserve(voters_.size());
  for (NodeId voter : voters_) {
    auto known = readings_.find(voter);
    if (known == readings_.end() || now.time - known->second.at > kFresh) continue;
    sorted.push_back(known->second.offset);
  }
  const size_t wrong = wrong_at_most(voters_.size());
  if (sorted.size() <= wrong) return std::nullopt;
  std::ranges::sort(sorted);
  // With an even number of voters, all of them known, these are the two in the middle, the wrong
  // way round.
  const auto [low, high] = std::minmax(sorted[sorted.size() - 1 - wrong], sorted[wrong]);
  return Bounds{low, high};
}

void LogTime::advance(const Now& now) {
  const int64_t elapsed = (now.time - advanced_at_).count();
  const bool has_slew = elapsed >= kSlewDivisor;  // a nanosecond of slew; less: accumulate
  if (!has_slew && is_settled_) return;
  if (has_slew) advanced_at_ = now.time;
  read(self_, now.wall_ns, now);
  const auto clocks = bounds(now);
  if (!clocks) {
    late_since_.reset();
    return;
  }
  const int64_t slew = has_slew ? elapsed / kSlewDivisor : 0;
  if (offset_ < clocks->low) {
    catch_up(clocks->low - offset_, slew, now);
  } else {
    late_since_.reset();
    const int64_t ahead = std::max<int64_t>(offset_ - clocks->high, 0);
    const bool is_slow = ahead > kAgree.count() && ahead <= kSlowUpTo.count();
    offset_ -= std::min(ahead, is_slow && has_slew ? elapsed / kSlowDivisor : slew);
  }
  if (clocks->agree()) is_settled_ = true;
}

void LogTime::catch_up(int64_t lack, int64_t slew, const Now& now) {
  if (lack <= kAgree.count()) {
    late_since_.reset();
  } else if (!late_since_) {
    late_since_ = now.time;
  }
  const bool jumps = !is_settled_ || (late_since_ && now.time - *late_since_ >= kLateFor);
  offset_ += jumps ? lack : std::min(lack, slew);
}

LogTime::View LogTime::view(const Now& now) const {
  View view;
  view.voters = voters_.size();
  for (NodeId voter : voters_) {
    auto known = readings_.find(voter);
    if (known == readings_.end() || now.time - known->second.at > kFresh) continue;
    ++view.known;
    const Duration by(known->second.offset - offset_);
    if (view.furthest && std::abs(by.count()) <= std::abs(view.furthest_by.count())) continue;
    view.furthest = voter;
    view.furthest_by = by;
  }
  const auto clocks = bounds(now);
  if (!clocks) return view;
  view.is_certain = true;
  view.between = Duration(clocks->high - clocks->low);
  if (offset_ > clocks->high) view.ahead = Duration(offset_ - clocks->high);
  if (offset_ < clocks->low) view.ahead = -Duration(clocks->low - offset_);
  return view;
}

}  // namespace connectd::raft
