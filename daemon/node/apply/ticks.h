// Decides when to log a tick: an entry that advances log time for a plugin that waits for a
// deadline. Without a deadline, an idle cluster writes nothing.
//
// The deadline is in log time, and so is the leader's check: a tick that is due is never too early,
// whatever the leader's own clock shows. One that is lost is repeated. A plugin whose deadline
// stays in the past, whatever the ticks, would make an idle cluster write for ever: its ticks
// become rare, and the log says so, until the deadline changes. Owner: the loop thread.
#pragma once

#include <cstdint>

#include "base/clock.h"
#include "base/log_event.h"

namespace connectd::node {

class Ticks final {
 public:
  static constexpr Duration kInterval = std::chrono::milliseconds(100);
  static constexpr Duration kRareInterval = std::chrono::seconds(10);
  // Ticks in a row that leave the deadline as it was and in the past; or that only change it.
  static constexpr int kIdleTicks = 20;
  static constexpr int kOverdueTicks = 600;

  // After the last applied entry: the plugin's deadline (INT64_MAX: no tick), and log time.
  void set_deadline(int64_t deadline_ns, int64_t log_time_ns) {
    if (deadline_ns > log_time_ns) idle_ = overdue_ = 0;
    if (deadline_ns != deadline_ns_) idle_ = 0;
    deadline_ns_ = deadline_ns;
    log_time_ns_ = log_time_ns;
  }
  // Periodically, on a leader that may propose: true if a tick is due, by the stamp that it would
  // get now. The caller must then propose it.
  bool take_due(int64_t stamp_ns, Time now) {
    if (deadline_ns_ > stamp_ns || now - last_ < interval()) return false;
    last_ = now;
    if (deadline_ns_ <= log_time_ns_) {
      ++idle_;
      ++overdue_;
      if (idle_ == kIdleTicks || (overdue_ == kOverdueTicks && idle_ < kIdleTicks)) {
        log_event(LogEvent::kApplyDeadlineStays,
                  "the plugin's next_deadline stays in the past after {} ticks, deadline_ns={}: "
                  "until that changes there is a tick every {} s only",
                  overdue_, deadline_ns_, kRareInterval / std::chrono::seconds(1));
      }
    }
    return true;
  }

 private:
  Duration interval() const {
    return idle_ >= kIdleTicks || overdue_ >= kOverdueTicks ? kRareInterval : kInterval;
  }

  int64_t deadline_ns_ = INT64_MAX;
  int64_t log_time_ns_ = 0;
  int idle_ = 0;     // ticks since the deadline changed, all of them due
  int overdue_ = 0;  // ticks since the deadline was in the future
  Time last_;
};

}  // namespace connectd::node
