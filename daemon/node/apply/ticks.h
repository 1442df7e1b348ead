// Decides when to log a tick: an entry that advances log time for a plugin that waits for a
// deadline. Without a deadline, an idle cluster writes nothing.
//
// The deadline is in log time, which follows the clocks of a quorum; the leader checks it against
// its own clock. A tick that is too early has no effect and is repeated. Owner: the loop thread.
#pragma once

#include <cstdint>

#include "base/clock.h"

namespace connectd::node {

class Ticks final {
 public:
  static constexpr Duration kInterval = std::chrono::milliseconds(100);

  // The plugin's deadline after the last applied entry; INT64_MAX: no tick.
  void set_deadline(int64_t log_time_ns) { deadline_ns_ = log_time_ns; }
  // Periodically, on a leader that may propose: true if a tick is due. The caller must then propose
  // it.
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
