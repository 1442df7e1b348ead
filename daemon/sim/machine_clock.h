#pragma once

#include <algorithm>

#include "base/clock.h"
#include "base/limits.h"
#include "sim/timeline.h"

namespace connectd::sim {

inline constexpr int64_t kWallStart = 1'700'000'000'000'000'000;
// What a right clock shows.
inline int64_t wall_of(Time world_now) {
  return kWallStart + (world_now - Timeline::start()).count();
}

// A machine's clocks: monotonic time at a rate of its own, and a wall clock that jumps.
class MachineClock {
 public:
  void set_rate(Time now, uint64_t permille) {
    local_at_ = local(now);
    since_ = now;
    permille_ = permille;
  }
  void jump(int64_t ns) { skew_ns_ += ns; }
  // The wall clock runs as fast as time, whatever the rate.
  void follow_time() { follows_time_ = true; }
  void set_wrong_by(int64_t ns) { wrong_by_ns_ = ns; }
  uint64_t permille() const { return permille_; }
  Time local(Time now) const {
    return local_at_ + Duration((now - since_).count() * static_cast<int64_t>(permille_) / 1000);
  }
  // When local() has reached `time`.
  Time world(Time time) const {
    if (time == Time::max()) return time;
    if (time <= local_at_) return since_;
    int64_t p = static_cast<int64_t>(permille_);
    return since_ + Duration(((time - local_at_).count() * 1000 + p - 1) / p);
  }
  Now now(Time world_now) const {
    const Time l = local(world_now);
    const int64_t wall = wall_of(follows_time_ ? world_now : l) + skew_ns_ + wrong_by_ns_;
    return {l, std::clamp(wall, -kMaxWallNs, kMaxWallNs)};
  }

 private:
  Time since_ = Timeline::start();
  Time local_at_ = Timeline::start();
  uint64_t permille_ = 1000;
  int64_t skew_ns_ = 0;
  int64_t wrong_by_ns_ = 0;
  bool follows_time_ = false;
};

}  // namespace connectd::sim
