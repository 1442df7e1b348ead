// Time. A deadline compares with monotonic time only; wall time is for stamps and for people.
#pragma once

#include <chrono>
#include <cstdint>

namespace connectd {

// CLOCK_BOOTTIME: never set back, and continues while the machine is suspended, so that a lease or
// an election timeout cannot sleep through a suspend.
struct BootClock {
  using duration = std::chrono::nanoseconds;
  using rep = duration::rep;
  using period = duration::period;
  using time_point = std::chrono::time_point<BootClock, duration>;
  static constexpr bool is_steady = true;
};
using Time = BootClock::time_point;
using Duration = std::chrono::nanoseconds;

// What a turn of the loop knows of time. Read once a turn; the simulator makes its own.
struct Now {
  Time time;            // monotonic
  int64_t wall_ns = 0;  // Unix time, nanoseconds; may jump
};

// Reads the machine's clocks. Any thread.
Now read_clocks();

}  // namespace connectd
