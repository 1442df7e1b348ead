// The time that a leader writes into the log. Wall clocks are wrong, jump, and differ from node to
// node; the log's time rises strictly, at the pace of the leader's monotonic clock, and drifts
// towards what most members think the time is.
//
//   at the election   base = max(last stamp, median of the clocks in the granted votes and its own)
//   then              base + elapsed monotonic time, and at least the previous stamp + 1 ns
//   slewed            by at most 0.05 % towards the median of the clocks that later responses show
//
// The leader's own clock is read once, at the election; from then on its opinion is that reading
// plus elapsed time, so that a jump of it moves nothing. Owner: the core.
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

  // Forgets the clocks: a campaign begins. `self` shows its own.
  void start(NodeId self, const Now& now);
  // What another node's clock showed, as it was received. 0: it did not say.
  void observe(NodeId node, int64_t wall_ns, const Now& now);
  // Elected. Stamps begin behind `last_stamp_ns`.
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
