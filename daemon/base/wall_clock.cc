#include "base/wall_clock.h"

#include <fmt/format.h>

#include <algorithm>
#include <ctime>

namespace connectd {
namespace {
constexpr int64_t kSecond = 1'000'000'000;
}  // namespace

int64_t bounded_wall_ns(int64_t seconds, int64_t nanoseconds) {
  constexpr int64_t kMaxSeconds = kMaxWallNs / kSecond + 2;
  const int64_t ns = std::clamp(seconds, -kMaxSeconds, kMaxSeconds) * kSecond + nanoseconds;
  return std::clamp(ns, -kMaxWallNs, kMaxWallNs);
}

std::string time_text(int64_t wall_ns) {
  auto seconds = static_cast<time_t>(wall_ns / kSecond);
  int64_t rest = wall_ns % kSecond;
  if (rest < 0) {
    --seconds;
    rest += kSecond;
  }
  tm utc{};
  gmtime_r(&seconds, &utc);
  return fmt::format("{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{:06}Z", utc.tm_year + 1900,
                     utc.tm_mon + 1, utc.tm_mday, utc.tm_hour, utc.tm_min, utc.tm_sec, rest / 1000);
}

}  // namespace connectd
