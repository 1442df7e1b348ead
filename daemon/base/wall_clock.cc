#include "base/wall_clock.h"

#include <algorithm>

#include "base/utc_text.h"

namespace connectd {
namespace {
constexpr int64_t kSecond = 1'000'000'000;
}  // namespace

int64_t bounded_wall_ns(int64_t seconds, int64_t nanoseconds) {
  constexpr int64_t kMaxSeconds = kMaxWallNs / kSecond + 2;
  const int64_t ns = std::clamp(seconds, -kMaxSeconds, kMaxSeconds) * kSecond + nanoseconds;
  return std::clamp(ns, -kMaxWallNs, kMaxWallNs);
}

std::string time_text(int64_t wall_ns) { return std::string(UtcText(wall_ns).view()); }

}  // namespace connectd
