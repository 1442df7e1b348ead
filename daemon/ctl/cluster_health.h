// Whether a cluster serves and how many voters it can lose, from the answer of one node to
// /v1/cluster. That a node's HTTP port answers is not enough to count: the next loss may stop a
// cluster whose nodes all answer. Pure; any thread.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "admin/answers.h"
#include "base/types.h"
#include "node/status.h"

namespace connectd::ctl {

// A node as /v1/cluster shows it.
struct AskedNode {
  admin::ClusterAnswer::Node node;
  std::optional<node::StatusSnapshot> status;  // none: it is down

  bool leads() const { return status && status->role == raft::Role::kLeader; }
};

std::vector<AskedNode> asked_nodes(const admin::ClusterAnswer& answer);

struct ClusterHealth {
  enum class State : uint8_t {
    kNoLeader,
    kDiverged,   // the replicas have diverged, and writes are rejected
    kNoQuorum,   // the voters that answer are no majority
    kDisksFull,  // no quorum has disk space, and writes are rejected
    kDegraded,   // it serves, and can lose fewer voters than it has for that
    kHealthy,
  };
  State state = State::kNoLeader;
  NodeId leader;  // who claims it in the highest term; none: no known leader
  uint64_t term = 0;
  // Of the leader's list; without a leader, of the newest list.
  std::vector<NodeId> voters, learners;
  size_t can_lose = 0;  // whichever they are, and a leader remains; 0 unless it serves
  // Why it cannot lose more: "node 3 does not count: its disk is full".
  std::vector<std::string> reasons;

  bool serves() const { return state == State::kDegraded || state == State::kHealthy; }
  bool has_quorum() const { return state != State::kNoLeader && state != State::kNoQuorum; }
  bool is_learner(NodeId id) const;
};

// A voter with a longer backlog is no replacement for another one yet.
inline constexpr uint64_t kFarBehind = 10'000;  // entries

ClusterHealth judge(const std::vector<AskedNode>& nodes);

std::string_view state_text(ClusterHealth::State state);
// `state`: disk.state, other than "ok".
std::string_view disk_problem(std::string_view state);

}  // namespace connectd::ctl
