#include "raft/quorum.h"

#include <algorithm>
#include <functional>

namespace connectd::raft {

namespace {

VoteResult majority_vote(const std::vector<NodeId>& voters, const std::map<NodeId, bool>& votes) {
  size_t granted = 0;
  size_t missing = 0;
  for (NodeId id : voters) {
    auto vote = votes.find(id);
    if (vote == votes.end()) {
      ++missing;
    } else if (vote->second) {
      ++granted;
    }
  }
  size_t needed = voters.size() / 2 + 1;
  if (granted >= needed) return VoteResult::kWon;
  return granted + missing >= needed ? VoteResult::kPending : VoteResult::kLost;
}

}  // namespace

uint64_t majority_value(std::vector<uint64_t>& values) {
  if (values.empty()) return 0;
  // Sorted from high to low, the value at half the size has a majority at or above it.
  auto middle = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
  std::nth_element(values.begin(), middle, values.end(), std::greater<>());
  return *middle;
}

VoteResult vote_result(const ConfState& conf, const std::map<NodeId, bool>& votes) {
  VoteResult incoming = majority_vote(conf.voters, votes);
  if (!conf.is_joint()) return incoming;
  VoteResult outgoing = majority_vote(conf.voters_outgoing, votes);
  if (incoming == outgoing) return incoming;
  if (incoming == VoteResult::kLost || outgoing == VoteResult::kLost) return VoteResult::kLost;
  return VoteResult::kPending;
}

}  // namespace connectd::raft
