// Properties: whatever the network, the disks and the crashes do, the invariants hold; and when
// they calm down, there is a leader and progress.

#include "tests/unit/raft/cluster.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>

#include "tests/unit/raft/faults_then_calm.h"

namespace connectd::raft {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

ConfState voters(uint64_t count) {
  ConfState conf;
  for (uint64_t i = 1; i <= count; ++i) conf.voters.push_back(NodeId(i));
  return conf;
}

std::string first_failure(const Cluster& cluster) {
  return cluster.failures.empty() ? "" : cluster.failures.front();
}

TEST(ClusterTest, ThreeNodesElectReplicateAndApply) {
  Cluster cluster(voters(3), 1);
  ASSERT_TRUE(cluster.run_until(seconds(5), [&] { return static_cast<bool>(cluster.leader()); }));
  for (int i = 0; i < 10; ++i) cluster.propose(cluster.leader(), fmt::format("command {}", i));
  ASSERT_TRUE(cluster.run_until(seconds(1), [&] {
    return cluster.applied(NodeId(1)).size() == 10 && cluster.applied(NodeId(2)).size() == 10 &&
           cluster.applied(NodeId(3)).size() == 10;
  })) << first_failure(cluster);
  EXPECT_EQ(first_failure(cluster), "");
}

TEST(ClusterTest, SingleVoterServesItself) {
  Cluster cluster(voters(1), 1);
  ASSERT_TRUE(cluster.run_until(seconds(5), [&] { return static_cast<bool>(cluster.leader()); }));
  cluster.propose(NodeId(1), "x");
  cluster.read(NodeId(1));
  ASSERT_TRUE(
      cluster.run_until(seconds(1), [&] { return cluster.applied(NodeId(1)).size() == 1; }));
  EXPECT_TRUE(cluster.run_until(seconds(1), [&] { return cluster.reads_served() == 1; }));
  EXPECT_EQ(first_failure(cluster), "");
}

// Failover: connections of a killed process break at once, and 0.4 s later there is a leader.
TEST(ClusterTest, FailoverAfterAKillIsFasterThanTheElectionTimeout) {
  std::vector<Duration> times;
  for (uint64_t seed = 0; seed < 200; ++seed) {
    Cluster cluster(voters(3), seed);
    ASSERT_TRUE(cluster.run_until(seconds(5), [&] {
      return cluster.leader() && cluster.core(cluster.leader()).leader_is_ready();
    }));
    cluster.run_for(milliseconds(200));
    NodeId old = cluster.leader();
    Time killed = cluster.time();
    cluster.crash(old);
    cluster.run_for(milliseconds(1));  // what it had sent arrives before its end does
    for (NodeId id : cluster.ids()) cluster.tell_lost(id, old);
    ASSERT_TRUE(cluster.run_until(
        seconds(5),
        [&] { return cluster.leader() && cluster.core(cluster.leader()).leader_is_ready(); }))
        << seed << first_failure(cluster);
    times.push_back(cluster.time() - killed);
  }
  std::sort(times.begin(), times.end());
  EXPECT_LE(times[times.size() / 2], milliseconds(150));
  EXPECT_LE(times[times.size() * 99 / 100], milliseconds(400));
}

// A follower's death, slowness and return move no term.
TEST(ClusterTest, FollowersRestartDoesNotDisturbTheLeader) {
  for (uint64_t seed = 0; seed < 20; ++seed) {
    Cluster cluster(voters(3), seed);
    ASSERT_TRUE(cluster.run_until(seconds(5), [&] { return static_cast<bool>(cluster.leader()); }));
    cluster.run_for(milliseconds(300));
    NodeId leader = cluster.leader();
    Term term = cluster.core(leader).term();
    NodeId follower = leader == NodeId(1) ? NodeId(2) : NodeId(1);
    cluster.crash(follower);
    for (NodeId id : cluster.ids()) cluster.tell_lost(id, follower);
    cluster.run_for(seconds(3));
    cluster.restart(follower);
    for (NodeId id : cluster.ids()) cluster.tell_reached(id, follower);
    cluster.run_for(seconds(3));
    EXPECT_EQ(cluster.leader(), leader);
    EXPECT_EQ(cluster.core(leader).term(), term);
    EXPECT_EQ(first_failure(cluster), "");
  }
}

// Catalogue B28: everything in flight is lost again and again, no message says so, and the follower
// catches up all the same.
TEST(ClusterTest, LostWindowNeverWedgesAFollower) {
  Options model;
  model.inflight_bytes = 2000;
  model.max_append_bytes = 400;
  Cluster cluster(voters(3), 5, model);
  ASSERT_TRUE(cluster.run_until(seconds(5), [&] { return static_cast<bool>(cluster.leader()); }));
  NodeId leader = cluster.leader();
  NodeId follower = leader == NodeId(1) ? NodeId(2) : NodeId(1);
  size_t proposed = 0;
  for (int round = 0; round < 30; ++round) {
    cluster.cut(leader, follower);  // requests vanish
    for (int i = 0; i < 20; ++i) proposed += cluster.propose(leader, std::string(100, 'x'));
    cluster.run_for(milliseconds(30));
    cluster.heal();
    cluster.run_for(milliseconds(5));
    cluster.cut(follower, leader);  // answers vanish
    cluster.run_for(milliseconds(20));
    cluster.heal();
  }
  ASSERT_EQ(cluster.leader(), leader);
  EXPECT_TRUE(
      cluster.run_until(seconds(3), [&] { return cluster.applied(follower).size() == proposed; }))
      << cluster.applied(follower).size() << " of " << proposed << " " << first_failure(cluster);
}

class SeedTest : public testing::TestWithParam<uint64_t> {};

// CONNECTD_CORE_SEEDS=N: so many in all cases together.
TEST_P(SeedTest, FaultsThenCalm) {
  const char* asked = std::getenv("CONNECTD_CORE_SEEDS");
  const uint64_t count =
      asked == nullptr ? 25 : std::max(std::strtoull(asked, nullptr, 10) / 40, 1ull);
  for (uint64_t seed = GetParam() * 25; seed < GetParam() * 25 + count; ++seed) {
    ASSERT_EQ(run_faults_then_calm(seed), "") << "seed " << seed;
  }
}
INSTANTIATE_TEST_SUITE_P(Seeds, SeedTest, testing::Range<uint64_t>(0, 40));

TEST(ClusterTest, SameSeedGivesTheSameRun) {
  auto run = [] {
    Cluster cluster(voters(3), 77);
    cluster.weather.loss = 10;
    cluster.run_for(seconds(2));
    if (cluster.leader()) cluster.propose(cluster.leader(), "x");
    cluster.run_for(seconds(5));
    return std::make_tuple(cluster.messages_sent(), cluster.leader(), cluster.committed());
  };
  EXPECT_EQ(run(), run());
}

}  // namespace
}  // namespace connectd::raft
