#include "raft/lease.h"

#include <algorithm>

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
  const Reading reading{wall_ns, sent, received};
  if (!since_) {
    since_ = reading;
    return !wild_;
  }
  // The most that can have passed here between the two readings of the other clock.
  const int64_t here = (received - since_->sent).count();
  const int64_t there = wall_ns - since_->wall_ns;
  const bool fast = there / (100 + static_cast<int64_t>(percent)) >
                    here / (100 - static_cast<int64_t>(percent)) + 1;
  if (fast) {
    wild_ = true;
    since_ = reading;
  } else if (sent - since_->received >= window) {
    wild_ = false;  // one whole window within the bound
    since_ = reading;
  }
  return !wild_;
}

}  // namespace connectd::raft
