// What a wall clock may show, and how that is written. A wall clock is set by people and programs:
// it may be decades wrong, on either side of 1970.
#pragma once

#include <cstdint>
#include <string>

#include "base/limits.h"

namespace connectd {

// The earliest that counts, in ns since 1970: the year 2023. This program is younger, so a clock
// before that was not set since its machine started (systemd tells by the same rule).
inline constexpr int64_t kMinWallNs = int64_t{1'672'531'200} * 1'000'000'000;

// A clock in the range that counts, up to 2116.
inline constexpr bool is_plausible(int64_t wall_ns) {
  return wall_ns >= kMinWallNs && wall_ns < kMaxWallNs;
}

// A clock that runs, right or wrong. Sums and differences of two such clocks cannot overflow.
inline constexpr bool is_readable(int64_t wall_ns) {
  return wall_ns > -kMaxWallNs && wall_ns < kMaxWallNs;
}

// Unix time in ns, as clock_gettime() has it. Beyond the readable: the nearest bound, kMaxWallNs
// before or after 1970.
int64_t bounded_wall_ns(int64_t seconds, int64_t nanoseconds);

// "2026-11-30T09:40:29.123456Z". Rounded down, also before 1970.
std::string time_text(int64_t wall_ns);

}  // namespace connectd
