// The time that a leader writes into the log. Wall clocks are wrong, jump, and differ between
// nodes; the log's time is strictly increasing, runs at the rate of the leader's monotonic clock,
// and follows the voters' clocks. docs/adr/0012-time-from-the-log.md has the reasoning.
//
// The leader never follows one clock. Of n voters a minority of f = (n - 1) / 2 may have wrong
// clocks. So of the f + 1 lowest known clocks one is right, and of the f + 1 highest, too: the time
// lies between the (f + 1)th from above and the (f + 1)th from below, the bounds. With all clocks
// known they are the median; with a bare majority known, the lowest and the highest clock; with
// fewer, there are none.
//
//   at the election   that of the leader before, within the bounds, and after the last stamp
//   then              runs at the rate of the monotonic clock, and at least the last stamp + 1 ns
//   behind them       jumps to the lower bound, as long as the bounds have not met in this term or
//                     since a voter's clock became known; else is slewed by 0.05 %, and jumps when
//                     it was more than 1 s late for a minute
//   ahead of them     never goes back: is slewed by 0.05 %, or runs slow by 10 % if it is more than
//                     1 s ahead, and by no more than what that makes up in a year
//
// A clock outside of is_plausible() is no clock (base/wall_clock.h), and neither is one that was
// not heard for kFresh. Owner: the core.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <vector>

#include "base/clock.h"
#include "raft/types.h"

namespace connectd::raft {

class LogTime final {
 public:
  static constexpr int64_t kSlewDivisor = 2000;  // 0.05 %
  static constexpr int64_t kSlowDivisor = 10;
  static constexpr Duration kFresh = std::chrono::seconds(10);
  // Clocks that differ by less agree.
  static constexpr Duration kAgree = std::chrono::seconds(1);
  static constexpr Duration kLateFor = std::chrono::minutes(1);
  static constexpr Duration kSlowUpTo = std::chrono::hours(24 * 36);

  // How log time stands to the clocks; for reports.
  struct View {
    size_t voters = 0;
    size_t known = 0;         // of their clocks
    bool is_certain = false;  // enough of them to have bounds
    Duration between{};       // the bounds
    Duration ahead{};         // of the upper bound; negative: behind the lower one
    NodeId furthest;          // the known clock that differs most from log time
    Duration furthest_by{};   // negative: it is late
  };

  // A campaign begins: forgets all clocks but that of `self`.
  void start(NodeId self, std::vector<NodeId> voters, const Now& now);
  void set_voters(std::vector<NodeId> voters);
  // Another node's wall clock, at the time it was received. 0: not reported.
  void observe(NodeId node, int64_t wall_ns, const Now& now);
  // Elected. `offset` is that of the log's time so far, as this node has seen it. Stamps begin
  // after `last_stamp_ns`.
  void begin(int64_t last_stamp_ns, int64_t offset, const Now& now);
  // From time to time, as the clocks are followed here; the functions above and below do it, too.
  void advance(const Now& now);
  // The next stamp.
  int64_t stamp(const Now& now);
  // The stamp that an entry would get now.
  int64_t at(const Now& now) const;
  View view(const Now& now) const;

 private:
  struct Reading {
    int64_t offset;
    Time at;
  };
  struct Bounds {
    int64_t low;
    int64_t high;
    bool agree() const { return high - low < kAgree.count(); }
  };
  void read(NodeId node, int64_t wall_ns, const Now& now);
  std::optional<Bounds> bounds(const Now& now) const;
  void catch_up(int64_t lack, int64_t slew, const Now& now);

  NodeId self_;
  std::vector<NodeId> voters_;
  // Offsets: a wall clock minus the monotonic clock at the same moment, ns.
  std::map<NodeId, Reading> readings_;
  int64_t offset_ = 0;  // of the log's time
  Time advanced_at_;
  int64_t last_stamp_ns_ = 0;
  bool has_begun_ = false;
  bool is_settled_ = false;  // the bounds have met since the last clock became known
  std::optional<Time> late_since_;
};

}  // namespace connectd::raft
