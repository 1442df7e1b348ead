// The time that a leader writes into the log. Wall clocks are wrong, jump, and differ between
// nodes; the log's time is strictly increasing, runs at the rate of the leader's monotonic clock,
// and is slewed towards the median of the members' clocks.
//
//   at the election   base = max(last stamp, median of the clocks in the granted votes and its own)
//   then              base + elapsed monotonic time, and at least the previous stamp + 1 ns
//   slewed            by at most 0.05 % towards the median of the clocks that later responses show
//
// The leader's own wall clock is read once, at the election, and advanced by elapsed monotonic time
// from then on, so a jump of it has no effect. Owner: the core.
#pragma once

#include <cstdint>
#include <map>
#include <vector>

#include "base/clock.h"
#include "raft/types.h"

namespace connectd::raft {

class LogTime final {
 public:
  static constexpr int64_t kSlewDivisor = 2000;  // 0.05 %

  // A campaign begins: forgets all clocks but that of `self`.
  void start(NodeId self, const Now& now);
  // Another node's wall clock, at the time it was received. 0: not reported.
  void observe(NodeId node, int64_t wall_ns, const Now& now);
  // Elected. Stamps begin after `last_stamp_ns`.
  void begin(int64_t last_stamp_ns, const Now& now);
  int64_t stamp(const Now& now);

 private:
  int64_t median_offset() const;
  void advance(const Now& now);

  // Offsets: a wall clock minus the monotonic clock at the same moment, ns.
  std::map<NodeId, int64_t> offsets_;
  int64_t offset_ = 0;  // of the log's time
  Time advanced_at_;
  int64_t last_stamp_ns_ = 0;
};

}  // namespace connectd::raft
