// Whether the loop may apply by itself (docs/adr/0007-inline-apply.md). A plugin that computes for
// long in such a turn, or waits in it, loses the privilege: for a minute, and for twice as long
// each time it is lost again soon after it was given back, up to an hour. Loop thread.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "base/clock.h"

namespace connectd::node {

// What a thread has used so far.
struct TurnUsage {
  Time time{};
  int64_t cpu_ns = 0;
  int64_t waits = 0;  // voluntary context switches

  static TurnUsage of_this_thread();
};

class InlinePrivilege final {
 public:
  static constexpr Duration kWaitMax = std::chrono::milliseconds(2);
  static constexpr Duration kFirstPenalty = std::chrono::minutes(1);
  static constexpr Duration kLongestPenalty = std::chrono::hours(1);

  InlinePrivilege(bool allowed, int64_t cpu_ns_max) : allowed_(allowed), cpu_ns_max_(cpu_ns_max) {}

  bool is_granted(Time now) const { return allowed_ && now >= denied_until_; }
  // After a turn that began with `before`: why the privilege is lost, or nothing.
  std::optional<std::string> judge(const TurnUsage& before);
  std::optional<std::string> judge(const TurnUsage& before, const TurnUsage& after);
  // For how long it is lost.
  Duration penalty() const { return penalty_; }

 private:
  const bool allowed_;
  const int64_t cpu_ns_max_;
  Time denied_until_{};
  Duration penalty_{};
};

}  // namespace connectd::node
