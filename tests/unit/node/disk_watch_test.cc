// The reports about disks, and the conclusions of the nodes.
#include "node/disk/disk_watch.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace connectd::node {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::UnorderedElementsAre;

constexpr uint64_t kWatchLimit = 1600;

// Node 1 of `voters`; the others are reachable unless a test changes that.
class WatchBench {
 public:
  explicit WatchBench(uint64_t voters, uint64_t limit = kWatchLimit)
      : watch({NodeId(1), limit, seconds(1), seconds(1)}) {
    for (uint64_t i = 1; i <= voters; ++i) conf.voters.push_back(NodeId(i));
    view.conf = &conf;
    view.term = Term(5);
    for (uint64_t i = 2; i <= voters; ++i) view.near.insert(NodeId(i));
    lead(true);
  }
  void lead(bool leads, uint64_t leader = 1) {
    view.leads = leads;
    view.leader = leads ? NodeId(1) : NodeId(leader);
  }
  void report(uint64_t from, bool full, bool stalled = false, uint64_t leads_in = 0,
              bool stopped = false) {
    watch.on_message(NodeId(from), {Term(leads_in), full, stalled, stopped}, now);
  }
  bool stopped() {
    advance();
    return watch.writes_stopped();
  }
  void advance(Duration by = {}) {
    now += by;
    Effects out;
    watch.advance(view, now, out);
    sent = std::move(out.messages);
  }
  std::vector<NodeId> told() const {
    std::vector<NodeId> to;
    for (const auto& [id, message] : sent) to.push_back(id);
    return to;
  }
  wire::DiskReport said() const { return std::get<wire::DiskReport>(sent.at(0).second); }

  Time now{seconds(100)};
  raft::ConfState conf;
  DiskWatch::View view;
  DiskWatch watch;
  std::vector<std::pair<NodeId, wire::PeerMessage>> sent;
};

TEST(DiskWatch, WritesStopWhenNoQuorumHasSpaceAndGoOnWhenOneHas) {
  for (uint64_t voters = 1; voters <= 7; ++voters) {
    WatchBench bench(voters);
    const uint64_t spared = (voters - 1) / 2;  // so many may be full
    uint64_t full = 0;
    for (uint64_t id = voters; id >= 2; --id) {
      bench.report(id, true);
      EXPECT_EQ(bench.stopped(), ++full > spared) << voters << " voters, " << full << " full";
    }
    bench.watch.measured(kWatchLimit - 1);
    EXPECT_TRUE(bench.stopped());
    for (uint64_t id = 2; id <= voters; ++id) bench.report(id, false);
    bench.watch.measured(kWatchLimit * 2);
    EXPECT_FALSE(bench.stopped());
  }
}

TEST(DiskWatch, DiskIsFullBelowTheLimitAndHasSpaceALittleAboveIt) {
  WatchBench bench(1);
  bench.watch.measured(kWatchLimit);
  EXPECT_FALSE(bench.watch.is_full());
  bench.watch.measured(kWatchLimit - 1);
  EXPECT_TRUE(bench.watch.is_full());
  bench.watch.measured(kWatchLimit + kWatchLimit / 16 - 1);
  EXPECT_TRUE(bench.watch.is_full()) << "it would stop and go";
  bench.watch.measured(kWatchLimit + kWatchLimit / 16);
  EXPECT_FALSE(bench.watch.is_full());
  WatchBench unlimited(1, 0);
  unlimited.watch.measured(0);
  EXPECT_FALSE(unlimited.watch.is_full());
}

// A missing quorum is no reason for DISKFULL: the quorum check handles it.
TEST(DiskWatch, UnreachableNodeIsNotFull) {
  WatchBench bench(3);
  bench.view.near.clear();
  EXPECT_FALSE(bench.stopped());
  bench.view.near = {NodeId(2)};
  EXPECT_FALSE(bench.stopped());
  // With 3 away, 2 is needed, and it has no space.
  bench.report(2, true);
  EXPECT_TRUE(bench.stopped());
  bench.view.near.clear();
  EXPECT_TRUE(bench.stopped()) << "nothing has changed for the better";
  bench.view.near = {NodeId(2), NodeId(3)};
  EXPECT_FALSE(bench.stopped());
}

// The statement of the leader before may have expired during the election.
TEST(DiskWatch, NewLeaderGoesByTheLastReports) {
  WatchBench bench(3);
  bench.lead(false, 3);
  bench.watch.measured(0);
  bench.report(2, true);
  bench.report(3, false, false, 5, true);
  EXPECT_TRUE(bench.stopped());
  bench.view.leader = NodeId();
  bench.advance(seconds(DiskWatch::kReportsMissed));
  EXPECT_FALSE(bench.watch.writes_stopped());
  bench.lead(true);
  bench.view.term = Term(6);
  bench.view.near.clear();
  EXPECT_TRUE(bench.stopped());
  EXPECT_TRUE(bench.said().writes_stopped) << "the others have to learn it at once";
  bench.report(2, false);
  bench.view.near = {NodeId(2), NodeId(3)};
  EXPECT_FALSE(bench.stopped());
}

// The full leader that handed over is the first to answer: with it alone there would be no space.
TEST(DiskWatch, NewLeaderAwaitsTheAnswersOfItsPeers) {
  WatchBench bench(3);
  bench.report(2, true);
  bench.view.near = {NodeId(2)};
  bench.view.is_new = true;
  EXPECT_FALSE(bench.stopped());
  bench.report(3, true);
  EXPECT_TRUE(bench.stopped()) << "known to be full";
  bench.report(3, false);
  EXPECT_FALSE(bench.stopped());
  bench.view.is_new = false;
  EXPECT_TRUE(bench.stopped()) << "it had the time to answer, and cannot be reached";
}

TEST(DiskWatch, JointConfigurationNeedsSpaceInBothQuorums) {
  WatchBench bench(3);
  bench.conf.voters_outgoing = {NodeId(1), NodeId(4), NodeId(5)};
  bench.view.near = {NodeId(2), NodeId(3), NodeId(4), NodeId(5)};
  EXPECT_FALSE(bench.stopped());
  bench.report(4, true);
  EXPECT_FALSE(bench.stopped());
  bench.report(5, true);
  EXPECT_TRUE(bench.stopped());
  bench.conf.voters_outgoing.clear();
  EXPECT_FALSE(bench.stopped());
}

TEST(DiskWatch, FollowerTrustsLeaderUntilNextOrTimeout) {
  WatchBench bench(3);
  bench.lead(false, 2);
  bench.report(2, true, false, 5, true);
  EXPECT_TRUE(bench.stopped());
  // A new leader, that has not spoken yet.
  bench.lead(false, 3);
  EXPECT_TRUE(bench.stopped());
  bench.report(3, true, false, 6, true);
  bench.report(2, true, false, 5, false);  // late, of an older term
  EXPECT_TRUE(bench.stopped());
  bench.report(3, true, false, 6, false);
  EXPECT_FALSE(bench.stopped());
  bench.report(3, true, false, 6, true);
  EXPECT_TRUE(bench.stopped());
  bench.advance(seconds(DiskWatch::kReportsMissed));
  EXPECT_FALSE(bench.stopped()) << "requests wait for a leader then, as ever";
}

TEST(DiskWatch, FollowerWithAFullDiskStopsNothing) {
  WatchBench bench(3);
  bench.lead(false, 2);
  bench.watch.measured(0);
  bench.report(2, true, false, 5, false);
  bench.report(3, true);
  EXPECT_FALSE(bench.stopped());
}

TEST(DiskWatch, SaysWhatChangesAtOnceAndTheSameOnceAnInterval) {
  WatchBench bench(3);
  bench.advance();
  EXPECT_THAT(bench.told(), ElementsAre(NodeId(2), NodeId(3)));
  bench.advance(milliseconds(50));
  EXPECT_THAT(bench.told(), IsEmpty());
  bench.watch.measured(0);
  bench.advance(milliseconds(50));
  EXPECT_THAT(bench.told(), ElementsAre(NodeId(2), NodeId(3)));
  EXPECT_TRUE(bench.said().full);
  EXPECT_FALSE(bench.said().writes_stopped);
  EXPECT_EQ(bench.said().leader_term, Term(5));
  bench.watch.peer_reached(NodeId(3));
  bench.advance(milliseconds(50));
  EXPECT_THAT(bench.told(), ElementsAre(NodeId(3)));
  bench.advance(milliseconds(900));
  EXPECT_THAT(bench.told(), IsEmpty());
  bench.advance(milliseconds(50));
  EXPECT_THAT(bench.told(), ElementsAre(NodeId(2), NodeId(3)));
  bench.report(2, true);
  bench.advance();
  EXPECT_TRUE(bench.said().writes_stopped);
  bench.lead(false, 2);
  bench.advance();
  EXPECT_FALSE(bench.said().leader_term) << "it leads no more";
  EXPECT_FALSE(bench.said().writes_stopped);
}

TEST(DiskWatch, FirstCompletionEndsTheStall) {
  WatchBench bench(3);
  uint64_t done = 7;
  auto look = [&](bool waits, Duration by) {
    bench.now += by;
    bench.watch.progressed(waits, done, seconds(60), bench.now);
    return bench.watch.is_stalled();
  };
  EXPECT_FALSE(look(false, milliseconds(50)));
  for (int i = 0; i < 100; ++i) EXPECT_FALSE(look(false, milliseconds(50))) << "nothing to do";
  for (int i = 0; i < 19; ++i) EXPECT_FALSE(look(true, milliseconds(50)));
  EXPECT_TRUE(look(true, milliseconds(50)));
  EXPECT_TRUE(look(true, milliseconds(50)));
  ++done;
  EXPECT_FALSE(look(true, milliseconds(50)));
  // Slow is not stalled.
  for (int i = 0; i < 10; ++i) {
    for (int j = 0; j < 18; ++j) EXPECT_FALSE(look(true, milliseconds(50)));
    ++done;
  }
  // The process was paused, so the disk had no time to complete anything.
  EXPECT_FALSE(look(true, seconds(30)));
  for (int i = 0; i < 19; ++i) EXPECT_FALSE(look(true, milliseconds(50)));
  EXPECT_TRUE(look(true, milliseconds(50)));
}

TEST(DiskWatch, StallTimeoutFollowsTheElectionTimeout) {
  DiskWatch watch({NodeId(1), 0, Duration::zero(), seconds(1)});
  Time now(seconds(1000));
  uint64_t done = 7;
  auto time_to_stall = [&](Duration election_timeout) {
    watch.progressed(true, ++done, election_timeout, now);
    const Time began = now;
    while (!watch.is_stalled() && now - began < seconds(10)) {
      now += milliseconds(50);
      watch.progressed(true, done, election_timeout, now);
    }
    return (now - began) / milliseconds(1);
  };
  EXPECT_EQ(time_to_stall(milliseconds(500)), 1000);
  EXPECT_EQ(time_to_stall(milliseconds(2000)), 4000);
  EXPECT_EQ(time_to_stall(milliseconds(250)), 500);
  // Also of a disk that stalls while the setting changes.
  watch.progressed(true, ++done, milliseconds(250), now);
  for (int i = 0; i < 12; ++i)
    watch.progressed(true, done, milliseconds(250), now += milliseconds(50));
  EXPECT_TRUE(watch.is_stalled());
  watch.progressed(true, done, milliseconds(500), now);
  EXPECT_FALSE(watch.is_stalled());
}

TEST(DiskWatch, LeadershipGoesToWhoIsNeitherStalledNorFull) {
  WatchBench bench(4);
  EXPECT_THAT(bench.watch.unfit(bench.conf), IsEmpty());
  bench.report(2, false, true);
  bench.report(3, true);
  EXPECT_THAT(bench.watch.unfit(bench.conf), UnorderedElementsAre(NodeId(2), NodeId(3)));
  // Where all are full, one of them has to lead.
  bench.report(4, true);
  EXPECT_THAT(bench.watch.unfit(bench.conf), ElementsAre(NodeId(2)));
}

// Its log has no space for the entries of a leader.
TEST(DiskWatch, LeaderWithFullLogAcceptsNothing) {
  WatchBench bench(3, 0);
  EXPECT_FALSE(bench.stopped());
  bench.watch.log_has_room(false);
  EXPECT_TRUE(bench.stopped());
  EXPECT_TRUE(bench.said().full);
  bench.watch.log_has_room(true);
  EXPECT_FALSE(bench.stopped());
}

TEST(DiskWatch, StalledLeaderTransfersOnlyToAQuorum) {
  WatchBench one(1);
  EXPECT_FALSE(one.watch.others_suffice(one.view));
  WatchBench two(2);
  EXPECT_FALSE(two.watch.others_suffice(two.view)) << "its vote is needed, and cannot be durable";
  WatchBench three(3);
  EXPECT_TRUE(three.watch.others_suffice(three.view));
  three.report(2, false, true);
  EXPECT_FALSE(three.watch.others_suffice(three.view)) << "that one's, too";
  three.report(2, false, false);
  three.view.near.erase(NodeId(3));
  EXPECT_FALSE(three.watch.others_suffice(three.view));
}

TEST(DiskWatch, FullLeaderHandsOverToWhoHasSaidThatItHasSpace) {
  WatchBench bench(3);
  EXPECT_FALSE(bench.watch.others_have_space(bench.view)) << "nobody has said so";
  bench.report(2, true);
  bench.report(3, false, true);
  EXPECT_FALSE(bench.watch.others_have_space(bench.view));
  bench.report(3, false);
  EXPECT_TRUE(bench.watch.others_have_space(bench.view));
  bench.view.near.erase(NodeId(3));
  EXPECT_FALSE(bench.watch.others_have_space(bench.view));
}

}  // namespace
}  // namespace connectd::node
