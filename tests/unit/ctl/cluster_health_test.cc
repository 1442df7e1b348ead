// What a cluster can lose: one row for each reason why a voter whose HTTP port answers does not
// count.
#include "ctl/cluster_health.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>

namespace connectd::ctl {
namespace {

using State = ClusterHealth::State;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

// All answer, node 1 leads, and nothing is wrong.
struct Cluster {
  explicit Cluster(size_t count) {
    if (count == 0) return;
    for (uint64_t id = 1; id <= count; ++id) {
      node::StatusSnapshot status;
      status.id = NodeId(id);
      status.cluster_id.bytes = {7};
      status.term = Term(4);
      status.leader = NodeId(1);
      status.ready = true;
      for (uint64_t other = 1; other <= count; ++other) {
        status.members.push_back({NodeId(other), true, "p", "c", "h"});
      }
      nodes.push_back({{NodeId(id), "h", true, "", false, nullptr}, std::move(status)});
    }
    status(1).role = raft::Role::kLeader;
    for (uint64_t id = 2; id <= count; ++id) {
      status(1).peers.push_back({NodeId(id), true, "replicate", Index(9), 0});
    }
  }
  node::StatusSnapshot& status(uint64_t id) { return *nodes[id - 1].status; }
  node::PeerProgress& peer(uint64_t id) { return status(1).peers[id - 2]; }
  void priority(uint64_t id, unsigned value) { status(1).members[id - 1].priority = value; }
  void down(uint64_t id) { nodes[id - 1].status.reset(); }

  std::vector<AskedNode> nodes;
};

struct Row {
  const char* name;
  size_t voters;
  std::function<void(Cluster&)> fault;
  State state;
  size_t can_lose;
  const char* reason = "";
};

class ClusterHealthTest : public ::testing::TestWithParam<Row> {};

TEST_P(ClusterHealthTest, CountsWhatRemains) {
  const Row& row = GetParam();
  Cluster cluster(row.voters);
  row.fault(cluster);
  const ClusterHealth health = judge(cluster.nodes);
  EXPECT_EQ(health.state, row.state) << state_text(health.state);
  EXPECT_EQ(health.can_lose, row.can_lose);
  if (*row.reason == '\0') {
    EXPECT_THAT(health.reasons, IsEmpty());
  } else {
    ASSERT_FALSE(health.reasons.empty());
    EXPECT_THAT(health.reasons[0], HasSubstr(row.reason));
  }
}

const Row kRows[] = {
    {"One", 1, [](Cluster&) {}, State::kHealthy, 0},
    {"Three", 3, [](Cluster&) {}, State::kHealthy, 1},
    {"Four", 4, [](Cluster&) {}, State::kHealthy, 1},
    {"Five", 5, [](Cluster&) {}, State::kHealthy, 2},
    {"Down", 3, [](Cluster& c) { c.down(3); }, State::kDegraded, 0,
     "node 3 does not count: it does not answer"},
    {"DownOfFive", 5, [](Cluster& c) { c.down(3); }, State::kDegraded, 1, "node 3"},
    {"DownOfFour", 4, [](Cluster& c) { c.down(3); }, State::kDegraded, 0, "node 3"},
    {"Wiped", 3,
     [](Cluster& c) {
       c.status(3).cluster_id = ClusterId();
       c.status(3).ready = false;
     },
     State::kDegraded, 0, "node 3 does not count: it waits without a vote"},
    {"Unheard", 3, [](Cluster& c) { c.peer(3).active = false; }, State::kDegraded, 0,
     "the leader, node 1, gets no answer from it"},
    {"Stranger", 3,
     [](Cluster& c) {
       c.down(3);
       c.nodes[2].node.stranger = true;
     },
     State::kDegraded, 0, "another node answers at its address"},
    {"NotReady", 3, [](Cluster& c) { c.status(2).ready = false; }, State::kDegraded, 0,
     "node 2 does not count: it is not ready"},
    {"Stuck", 3, [](Cluster& c) { c.status(2).stuck = "apply at 8"; }, State::kDegraded, 0,
     "STUCK in apply at 8"},
    {"DiskFull", 3, [](Cluster& c) { c.status(2).disk_state = "full"; }, State::kDegraded, 0,
     "its disk is full"},
    {"LogFull", 3, [](Cluster& c) { c.status(2).disk_state = "no room"; }, State::kDegraded, 0,
     "its log has no space"},
    {"DiskStalled", 3, [](Cluster& c) { c.status(1).disk_state = "stalled"; }, State::kDegraded, 0,
     "node 1 does not count: its disk has stalled"},
    {"FarBehind", 3, [](Cluster& c) { c.peer(2).lag = kFarBehind + 1; }, State::kDegraded, 0,
     "it is 10001 entries behind"},
    {"ALittleBehind", 3, [](Cluster& c) { c.peer(2).lag = kFarBehind; }, State::kHealthy, 1},
    {"GetsASnapshot", 3, [](Cluster& c) { c.peer(2).state = "snapshot"; }, State::kDegraded, 0,
     "it still needs a snapshot"},
    {"NotInTheListOfTheAsked", 3, [](Cluster& c) { c.nodes.pop_back(); }, State::kDegraded, 0,
     "does not have it in its list"},
    {"NobodyElseMayLead", 3,
     [](Cluster& c) {
       c.priority(2, 0);
       c.priority(3, 0);
     },
     State::kDegraded, 0, "leadership cannot move"},
    {"OneMoreMayLead", 5,
     [](Cluster& c) {
       for (uint64_t id : {3, 4, 5}) c.priority(id, 0);
     },
     State::kDegraded, 1, "only 2 of the 5 voters"},
    {"OneNeverLeads", 3, [](Cluster& c) { c.priority(3, 0); }, State::kHealthy, 1},
    {"TwoOfThreeUnsoundStillServe", 3,
     [](Cluster& c) {
       c.status(2).disk_state = "full";
       c.status(3).ready = false;
     },
     State::kDegraded, 0, "node 2 does not count"},
    {"NoQuorum", 3,
     [](Cluster& c) {
       c.down(2);
       c.down(3);
     },
     State::kNoQuorum, 0, "node 2"},
    {"NoSpace", 3, [](Cluster& c) { c.status(1).writes_stopped = true; }, State::kDisksFull, 0},
    {"Diverged", 3, [](Cluster& c) { c.status(2).divergence = "at 17"; }, State::kDiverged, 0},
    {"NoLeader", 3, [](Cluster& c) { c.status(1).role = raft::Role::kFollower; }, State::kNoLeader,
     0},
    {"LaterTermWithoutLeader", 3, [](Cluster& c) { c.status(2).term = Term(5); }, State::kNoLeader,
     0},
    {"Nobody", 0, [](Cluster& c) { c.nodes.clear(); }, State::kNoLeader, 0},
};
INSTANTIATE_TEST_SUITE_P(Rows, ClusterHealthTest, ::testing::ValuesIn(kRows),
                         [](const auto& row) { return std::string(row.param.name); });

TEST(ClusterHealth, LearnersAreNoVoters) {
  Cluster cluster(3);
  for (uint64_t id : {1, 2, 3}) cluster.status(id).members[2].voter = false;
  const ClusterHealth health = judge(cluster.nodes);
  EXPECT_EQ(health.voters.size(), 2u);
  EXPECT_TRUE(health.is_learner(NodeId(3)));
  EXPECT_EQ(health.can_lose, 0u);
  EXPECT_EQ(health.state, State::kHealthy);
}

}  // namespace
}  // namespace connectd::ctl
