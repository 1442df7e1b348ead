// When the log says that there has been no leader for long: after ten seconds, then once a minute.
// Loop thread.
#pragma once

#include <optional>

#include "base/clock.h"

namespace connectd::app {

class LeaderWatch final {
 public:
  // Periodically. A time: there has been none for so long, and the log is to say it now. A node
  // that stops has no leader because it stops.
  std::optional<std::chrono::seconds> update(bool has_leader, bool is_stopping, Time now) {
    if (has_leader || is_stopping) {
      since_.reset();
      return std::nullopt;
    }
    if (!since_) {
      since_ = now;
      due_ = now + kFirst;
    }
    if (now < due_) return std::nullopt;
    due_ = now + kInterval;
    return std::chrono::duration_cast<std::chrono::seconds>(now - *since_);
  }

 private:
  static constexpr Duration kFirst = std::chrono::seconds(10);
  static constexpr Duration kInterval = std::chrono::minutes(1);
  std::optional<Time> since_;
  Time due_;
};

}  // namespace connectd::app
