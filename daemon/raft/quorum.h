// Majorities, joint ones included. Pure functions; learners never count.
#pragma once

#include <cstdint>
#include <map>
#include <vector>

#include "raft/types.h"

namespace connectd::raft {

enum class VoteResult : uint8_t { kPending, kWon, kLost };

// The largest value that a majority of `values` (one for each voter) reaches. 0 for no voters.
// Reorders `values`.
uint64_t majority_value(std::vector<uint64_t>& values);

// The largest value that a majority of the voters reaches; of both sets while joint (thesis §4.3).
// `value_of(NodeId)` returns a voter's value, such as its match index or the round it answered.
template <class ValueOf>
uint64_t quorum_value(const ConfState& conf, std::vector<uint64_t>& scratch, ValueOf&& value_of) {
  auto of_set = [&](const std::vector<NodeId>& voters) {
    scratch.clear();
    for (NodeId id : voters) scratch.push_back(value_of(id));
    return majority_value(scratch);
  };
  uint64_t value = of_set(conf.voters);
  if (!conf.is_joint()) return value;
  uint64_t outgoing = of_set(conf.voters_outgoing);
  return value < outgoing ? value : outgoing;
}

// The result of the votes so far. Won: a majority (of both sets) granted. Lost: one set cannot
// reach a majority any more. Only the votes of voters count.
VoteResult vote_result(const ConfState& conf, const std::map<NodeId, bool>& votes);

}  // namespace connectd::raft
