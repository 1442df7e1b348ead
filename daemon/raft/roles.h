// The state of a node while it follows or campaigns; raft/leader.h has that of a leader. A core
// holds exactly one of the three; a change of role destroys it. Values.
#pragma once

#include <map>
#include <optional>

#include "base/clock.h"
#include "raft/log_time.h"
#include "raft/types.h"

namespace connectd::raft {

struct Follower {
  NodeId leader;                 // of the term; none: unknown, or its connection was lost
  std::optional<Time> heard_at;  // from `leader`, while its connection lasts
  Time heard_since{};            // no pause of an election timeout since then
};

struct Candidate {
  bool is_pre = false;           // asks whether it could win, in the term before (thesis §9.6)
  std::map<NodeId, bool> votes;  // true: granted
  LogTime log_time;              // learns the clocks of those who answer
};

}  // namespace connectd::raft
