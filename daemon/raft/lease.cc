#include "raft/lease.h"

#include <algorithm>

#include "base/wall_clock.h"

namespace connectd::raft {

void SendTimes::sent(uint64_t round, Time now, Duration grain) {
  if (moments_.empty() || now - moments_.back().at >= grain) {
    moments_.push_back({round, round, now});
    if (moments_.size() > kMaxMoments) moments_.pop_front();
  }
  moments_.back().last_round = round;
}

std::optional<Time> SendTimes::of(uint64_t round) const {
  auto behind = std::upper_bound(
      moments_.begin(), moments_.end(), round,
      [](uint64_t wanted, const Moment& moment) { return wanted < moment.first_round; });
  if (behind == moments_.begin()) return std::nullopt;
  const Moment& moment = *std::prev(behind);
  if (round > moment.last_round) return std::nullopt;
  return moment.at;
}

bool ClockWatch::observe(int64_t wall_ns, Time sent, Time received, unsigned percent,
                         Duration window) {
  if (wall_ns == 0) return !wild_;  // it does not say
  // Stands still at the bound, or is out of its mind: its rate cannot be known.
  if (!is_readable(wall_ns)) return false;
  const Reading reading{wall_ns, sent};
  if (!base_) {
    base_ = reading;
    within_bound_since_ = received;
    return !wild_;
  }
  // Both in the time that an exact clock shows while the other is as fast, and this one as slow, as
  // may be. Rounded down, so that only what is certain counts.
  const int64_t there = (wall_ns - base_->wall_ns) / (100 + static_cast<int64_t>(percent));
  auto here = [&](Time until) {
    return (until - base_->sent).count() / (100 - static_cast<int64_t>(percent));
  };
  if (there > here(received) + 1) {  // more than the most that can have passed here
    wild_ = true;
    base_ = reading;
    within_bound_since_ = received;
    return false;
  }
  // Whatever comes later, compared with this reading it shows more.
  if (there < here(sent)) base_ = reading;
  if (sent - within_bound_since_ >= window) wild_ = false;
  return !wild_;
}

}  // namespace connectd::raft
