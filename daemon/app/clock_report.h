// Whether this machine's clock, and the log time that this node stamps as the leader, are right:
// for the status, and for the log, once an hour for each kind of trouble. On the loop thread.
#pragma once

#include <optional>
#include <string>

#include "base/clock.h"
#include "raft/log_time.h"

namespace connectd::app {

class ClockReport final {
 public:
  // What lasts shorter is not reported: a leader hears all clocks within moments.
  static constexpr Duration kLasting = std::chrono::seconds(15);
  static constexpr Duration kInterval = std::chrono::hours(1);

  // Periodically. `view`: on a leader. What is wrong; empty: nothing.
  const std::string& look(const std::optional<raft::LogTime::View>& view, const Now& now);

 private:
  enum class Trouble { kNone, kOwnClock, kUnknown, kDisagree, kAhead, kFarAhead, kBehind, kOther };
  static Trouble trouble(const std::optional<raft::LogTime::View>& view, const Now& now);

  Trouble trouble_ = Trouble::kNone;
  Time since_;
  std::optional<Time> logged_at_;  // this trouble
  std::string text_;
};

}  // namespace connectd::app
