#include "base/clock.h"

#include <ctime>

#include "base/wall_clock.h"

namespace connectd {
namespace {
timespec read(clockid_t clock) {
  timespec ts{};
  clock_gettime(clock, &ts);
  return ts;
}
}  // namespace

Now read_clocks() {
  const timespec steady = read(CLOCK_BOOTTIME);
  const timespec wall = read(CLOCK_REALTIME);
  return {Time(Duration(int64_t{steady.tv_sec} * 1'000'000'000 + steady.tv_nsec)),
          bounded_wall_ns(wall.tv_sec, wall.tv_nsec)};
}

}  // namespace connectd
