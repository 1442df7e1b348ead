// A token bucket: so many bytes a second, and no more at once than what a short while brings.
// Time comes from outside, so that a simulated node is limited in simulated time. Loop thread.
#pragma once

#include <algorithm>
#include <cstdint>

#include "base/clock.h"

namespace connectd::node {

class RateLimit final {
 public:
  // Bytes a second; 0: no limit.
  void set(uint64_t rate, Time now) {
    fill(now);
    rate_ = rate;
    tokens_ = std::min(tokens_, depth());
  }
  uint64_t rate() const { return rate_; }

  // No piece may be larger, or it would never pass.
  uint64_t largest(uint64_t wanted) const {
    return rate_ == 0 ? wanted : std::min(wanted, std::max(kSmallest, rate_ / kPiecesPerSecond));
  }

  // Takes so much, or says no: then it can be had at next().
  bool take(uint64_t bytes, Time now) {
    if (rate_ == 0) return true;
    fill(now);
    const auto wanted = static_cast<double>(bytes);
    if (tokens_ < wanted) {
      next_ = now +
              std::chrono::duration_cast<Duration>(
                  std::chrono::duration<double>((wanted - tokens_) / static_cast<double>(rate_))) +
              std::chrono::microseconds(1);
      return false;
    }
    tokens_ -= wanted;
    return true;
  }
  Time next() const { return next_; }

 private:
  static constexpr uint64_t kPiecesPerSecond = 8;
  static constexpr uint64_t kSmallest = 64;

  // Two of the largest pieces.
  double depth() const { return 2 * static_cast<double>(largest(UINT64_MAX)); }
  void fill(Time now) {
    if (rate_ != 0 && now > filled_) {
      const double seconds = std::chrono::duration<double>(now - filled_).count();
      tokens_ = std::min(depth(), tokens_ + seconds * static_cast<double>(rate_));
    }
    filled_ = std::max(filled_, now);
  }

  uint64_t rate_ = 0;
  double tokens_ = 0;
  Time filled_{};
  Time next_{};
};

}  // namespace connectd::node
