// When a tick is logged: an entry that brings log time to a plugin that waits for a deadline. While
// none waits, an idle cluster writes nothing.
//
// The plugin's deadline is in log time, which follows the clocks of a quorum; the leader's own
// clock says when to look. A tick that comes early does nothing and is repeated.
// Owner: the loop thread.
#pragma once

#include <cstdint>

#include "base/clock.h"

namespace connectd::node {

class Ticks final {
 public:
  static constexpr Duration kInterval = std::chrono::milliseconds(100);

  // What the plugin wants as of the newest entry applied; INT64_MAX: no tick.
  void set_deadline(int64_t log_time_ns) { deadline_ns_ = log_time_ns; }
  // Now and then, on a leader that may propose one: whether to. Counts it as proposed.
  bool take_due(const Now& now) {
    if (deadline_ns_ > now.wall_ns || now.time - last_ < kInterval) return false;
    last_ = now.time;
    return true;
  }

 private:
  int64_t deadline_ns_ = INT64_MAX;
  Time last_;
};

}  // namespace connectd::node
