// Whether the loop may apply by itself (docs/adr/0007-inline-apply.md). A plugin that computes for
// long in such a turn, or waits in it, loses the privilege: for a minute, and for twice as long
// each time it is lost again soon after it was given back, up to an hour. It is lost after the call
// that takes too long: the rest of the batch is for the apply thread. Loop thread.
#pragma once

#include <algorithm>
#include <chrono>
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
  // Of a turn that began with `before`: why the privilege is lost, or nothing.
  std::optional<std::string> judge(const TurnUsage& before, const TurnUsage& after);
  // For how long it is lost.
  Duration penalty() const { return penalty_; }
  // A turn that took no longer than this, by the wall clock, is within every limit.
  Duration look_interval() const {
    return std::min<Duration>(kWaitMax, std::chrono::nanoseconds(cpu_ns_max_));
  }

 private:
  const bool allowed_;
  const int64_t cpu_ns_max_;
  Time denied_until_{};
  Duration penalty_{};
};

// One turn in which the loop applies. The usual turn is within look_interval(), and costs the
// system calls of its beginning only. The privilege must outlive it.
class InlineTurn final {
 public:
  using SteadyTime = std::chrono::steady_clock::time_point;

  InlineTurn(InlinePrivilege& privilege, SteadyTime now)
      : privilege_(privilege),
        before_(TurnUsage::of_this_thread()),
        next_look_(now + privilege.look_interval()) {}

  // After each call of the plugin.
  void called(SteadyTime now) {
    if (now >= next_look_ && !why_) look(now);
  }
  bool is_over() const { return why_.has_value(); }
  // Why the privilege is lost, or nothing.
  const std::optional<std::string>& why() const { return why_; }

 private:
  void look(SteadyTime now) {
    next_look_ = now + privilege_.look_interval();
    why_ = privilege_.judge(before_, TurnUsage::of_this_thread());
  }

  InlinePrivilege& privilege_;
  const TurnUsage before_;
  SteadyTime next_look_;
  std::optional<std::string> why_;
};

}  // namespace connectd::node
