// A token bucket, in bytes a second, with a small burst. The caller passes the time, so the
// simulator can limit a node in virtual time. Loop thread.
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

  // The largest piece that take() can grant.
  uint64_t largest(uint64_t wanted) const {
    return rate_ == 0 ? wanted : std::min(wanted, std::max(kSmallest, rate_ / kPiecesPerSecond));
  }

  // False: not enough tokens yet; try again at next().
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

  // The burst: two of the largest pieces.
  double depth() const { return 2 * static_cast<double>(largest(UINT64_MAX)); }
  void fill(Time now) {
    if (rate_ != 0 && now > filled_) {
      const double passed = std::chrono::duration<double>(now - filled_).count();
      tokens_ = std::min(depth(), tokens_ + passed * static_cast<double>(rate_));
    }
    filled_ = std::max(filled_, now);
  }

  uint64_t rate_ = 0;
  double tokens_ = 0;
  Time filled_{};
  Time next_{};
};

}  // namespace connectd::node
