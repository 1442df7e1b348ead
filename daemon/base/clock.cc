#include "base/clock.h"

#include <ctime>

namespace connectd {
namespace {
int64_t read_ns(clockid_t clock) {
  timespec ts{};
  clock_gettime(clock, &ts);
  return int64_t{ts.tv_sec} * 1'000'000'000 + ts.tv_nsec;
}
}  // namespace

Now read_clocks() { return {Time(Duration(read_ns(CLOCK_BOOTTIME))), read_ns(CLOCK_REALTIME)}; }

}  // namespace connectd
