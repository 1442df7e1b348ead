#include "ctl/cluster_health.h"

#include <fmt/format.h>

#include <algorithm>

namespace connectd::ctl {
namespace {

const AskedNode* find(const std::vector<AskedNode>& nodes, NodeId id) {
  auto found =
      std::ranges::find_if(nodes, [&](const AskedNode& asked) { return asked.node.id == id; });
  return found == nodes.end() ? nullptr : &*found;
}

// The leader is the node that claims it in the highest term.
void find_leader(const std::vector<AskedNode>& nodes, ClusterHealth& health) {
  for (const AskedNode& asked : nodes) {
    if (!asked.status) continue;
    const uint64_t term = asked.status->term.value();
    if (asked.leads() && term >= health.term) health.leader = asked.status->id;
    if (term > health.term && !asked.leads()) health.leader = NodeId();
    health.term = std::max(health.term, term);
  }
}

void take_members(const std::vector<AskedNode>& nodes, ClusterHealth& health) {
  const NodeId leader = health.leader;
  const node::StatusSnapshot* best = nullptr;
  for (const AskedNode& asked : nodes) {
    if (!asked.status) continue;
    const bool leads = leader && asked.status->id == leader;
    if (best == nullptr || leads || asked.status->members_index >= best->members_index) {
      best = &*asked.status;
    }
    if (leads) break;
  }
  if (best == nullptr) return;
  for (const node::MemberStatus& member : best->members) {
    (member.voter ? health.voters : health.learners).push_back(member.id);
  }
}

// Why the cluster cannot rely on this voter when the next one is lost. Empty: it can.
std::string why_not(NodeId id, const AskedNode* asked, const node::StatusSnapshot& leader) {
  if (asked == nullptr) return "the node that was asked does not have it in its list";
  if (asked->node.stranger) return "another node answers at its address";
  if (!asked->status) return "it does not answer";
  const node::StatusSnapshot& status = *asked->status;
  auto peer = std::ranges::find(leader.peers, id, &node::PeerProgress::id);
  const bool has_peer = peer != leader.peers.end();
  if (!status.cluster_id && leader.cluster_id) return "it waits without a vote";
  if (has_peer && !peer->active) {
    return fmt::format("the leader, node {}, gets no answer from it", leader.id);
  }
  if (!status.stuck.empty()) return "STUCK in " + status.stuck;
  if (!status.ready) return "it is not ready";
  if (status.disk_state != "ok") return std::string(disk_problem(status.disk_state));
  if (has_peer && peer->state == "snapshot") return "it still needs a snapshot of the leader";
  if (has_peer && peer->lag > kFarBehind) {
    return fmt::format("it is {} entries behind", peer->lag);
  }
  return {};
}

// Voters with which the cluster continues without the others.
std::vector<NodeId> sound_voters(const std::vector<AskedNode>& nodes,
                                 const node::StatusSnapshot& leader, ClusterHealth& health) {
  std::vector<NodeId> sound;
  for (NodeId id : health.voters) {
    const std::string why = why_not(id, find(nodes, id), leader);
    if (why.empty()) {
      sound.push_back(id);
    } else {
      health.reasons.push_back(fmt::format("node {} does not count: {}", id, why));
    }
  }
  return sound;
}

bool may_lead(NodeId id, const node::StatusSnapshot& leader) {
  if (id == leader.id) return true;
  auto member = std::ranges::find(leader.members, id, &node::MemberStatus::id);
  return member == leader.members.end() || member->priority > 0;
}

// How many of the voters may be lost, whichever they are, so that a quorum and a leader remain.
void count_losses(const std::vector<AskedNode>& nodes, const node::StatusSnapshot& leader,
                  ClusterHealth& health) {
  const size_t quorum = health.voters.size() / 2 + 1;
  const std::vector<NodeId> sound = sound_voters(nodes, leader, health);
  const size_t spare = sound.size() > quorum ? sound.size() - quorum : 0;
  const auto candidates = static_cast<size_t>(
      std::ranges::count_if(sound, [&](NodeId id) { return may_lead(id, leader); }));
  health.can_lose = std::min(spare, candidates > 0 ? candidates - 1 : 0);
  if (health.can_lose < spare) {
    health.reasons.push_back(
        candidates > 1
            ? fmt::format("only {} of the {} voters that count may lead (raft.priority is 0 on "
                          "the others)",
                          candidates, sound.size())
            : "leadership cannot move: the other voters that count have raft.priority 0");
  }
}

}  // namespace

std::vector<AskedNode> asked_nodes(const admin::ClusterAnswer& answer) {
  std::vector<AskedNode> nodes;
  for (const admin::ClusterAnswer::Node& node : answer.nodes) {
    nodes.push_back({node, node.reachable ? node.read_status() : std::nullopt});
  }
  return nodes;
}

bool ClusterHealth::is_learner(NodeId id) const {
  return std::ranges::find(learners, id) != learners.end();
}

ClusterHealth judge(const std::vector<AskedNode>& nodes) {
  using State = ClusterHealth::State;
  ClusterHealth health;
  find_leader(nodes, health);
  take_members(nodes, health);
  const AskedNode* leader = health.leader ? find(nodes, health.leader) : nullptr;
  if (leader == nullptr) return health;
  // A leader without a quorum steps down by itself within an election timeout; so what it says of
  // its peers is no reason to deny that the cluster serves.
  const auto answering = static_cast<size_t>(std::ranges::count_if(health.voters, [&](NodeId id) {
    const AskedNode* asked = find(nodes, id);
    return asked != nullptr && asked->status.has_value();
  }));
  const size_t quorum = health.voters.size() / 2 + 1;
  const bool diverged = std::ranges::any_of(nodes, [](const AskedNode& asked) {
    return asked.status && !asked.status->divergence.empty();
  });
  count_losses(nodes, *leader->status, health);
  health.state = diverged                         ? State::kDiverged
                 : answering < quorum             ? State::kNoQuorum
                 : leader->status->writes_stopped ? State::kDisksFull
                 : health.can_lose < health.voters.size() - quorum || !health.reasons.empty()
                     ? State::kDegraded
                     : State::kHealthy;
  if (!health.serves()) health.can_lose = 0;
  return health;
}

std::string_view state_text(ClusterHealth::State state) {
  switch (state) {
    case ClusterHealth::State::kNoLeader:
      return "NO LEADER";
    case ClusterHealth::State::kDiverged:
      return "DIVERGED, NO WRITES";
    case ClusterHealth::State::kNoQuorum:
      return "NO QUORUM";
    case ClusterHealth::State::kDisksFull:
      return "DISKS FULL, NO WRITES";
    case ClusterHealth::State::kDegraded:
      return "degraded";
    case ClusterHealth::State::kHealthy:
      return "healthy";
  }
  return "?";
}

std::string_view disk_problem(std::string_view state) {
  return state == "stalled"   ? "its disk has stalled"
         : state == "no room" ? "its disk is full, and its log has no space"
                              : "its disk is full";
}

}  // namespace connectd::ctl
