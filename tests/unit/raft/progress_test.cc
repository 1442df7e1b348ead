#include "raft/progress.h"

#include <gtest/gtest.h>

#include "tests/unit/raft/three.h"

namespace connectd::raft {
namespace {

using std::chrono::milliseconds;

constexpr Duration kStall = milliseconds(500);

Progress replicating(uint64_t match) {
  Progress peer(Index(match + 1), at(0));
  peer.sent_probe();
  peer.accepted(Index(match), Index(1), at(0));
  return peer;
}

// Thesis §3.5 and §10.2.1: one at a time until a place is found where the logs match, then a
// pipeline.
TEST(Progress, ProbesUntilAnAppendIsAccepted) {
  Progress peer(Index(10), at(0));
  EXPECT_TRUE(peer.may_send(1000));
  peer.sent_probe();
  EXPECT_FALSE(peer.may_send(1000));
  EXPECT_TRUE(peer.rejected(Index(9), Index(5)));
  EXPECT_EQ(peer.next(), Index(6));
  EXPECT_TRUE(peer.may_send(1000));
  peer.sent_probe();
  peer.accepted(Index(5), Index(1), at(1));
  EXPECT_EQ(peer.state(), Progress::State::kReplicate);
  EXPECT_EQ(peer.match(), Index(5));
  EXPECT_EQ(peer.next(), Index(6));
}

TEST(Progress, RejectionAlwaysStepsBack) {
  Progress peer(Index(10), at(0));
  peer.sent_probe();
  EXPECT_TRUE(peer.rejected(Index(9), Index(100)));
  EXPECT_EQ(peer.next(), Index(9));
}

// Catalogue B19: answers that were overtaken move nothing back.
TEST(Progress, StaleAnswersAreIgnored) {
  Progress peer = replicating(5);
  peer.sent_entries(Index(8), 100, at(1));
  peer.accepted(Index(8), Index(1), at(2));
  peer.accepted(Index(6), Index(1), at(3));
  EXPECT_EQ(peer.match(), Index(8));
  EXPECT_FALSE(peer.rejected(Index(7), Index(2)));
  EXPECT_EQ(peer.next(), Index(9));
  peer.become_probe();
  EXPECT_FALSE(peer.rejected(Index(20), Index(2)));  // not the probe that is out
  EXPECT_EQ(peer.state(), Progress::State::kProbe);
}

TEST(Progress, WindowIsInBytesAndLetsOneThrough) {
  Progress peer = replicating(5);
  peer.sent_entries(Index(6), 60, at(1));
  EXPECT_TRUE(peer.may_send(100));
  peer.sent_entries(Index(7), 60, at(1));
  EXPECT_FALSE(peer.may_send(100));
  EXPECT_EQ(peer.inflight_bytes(), 120u);
  peer.accepted(Index(6), Index(1), at(2));
  EXPECT_TRUE(peer.may_send(100));
  peer.accepted(Index(7), Index(1), at(2));
  EXPECT_EQ(peer.inflight_bytes(), 0u);
  EXPECT_TRUE(peer.may_send(0));
}

// Catalogue B28: a window that is lost without a trace.
TEST(Progress, StalledWindowIsProbedWhenHeartbeatsAreAnswered) {
  Progress peer = replicating(5);
  peer.sent_entries(Index(7), 60, at(0));
  peer.answered_heartbeat(Index(7), at(499), kStall);
  EXPECT_EQ(peer.state(), Progress::State::kReplicate);
  peer.answered_heartbeat(Index(7), at(500), kStall);
  EXPECT_EQ(peer.state(), Progress::State::kProbe);
  EXPECT_TRUE(peer.may_send(10));
  EXPECT_EQ(peer.next(), Index(8));
  EXPECT_TRUE(peer.rejected(Index(7), Index(5)));
  EXPECT_EQ(peer.inflight_bytes(), 0u);
  EXPECT_EQ(peer.next(), Index(6));
}

TEST(Progress, LostProbeIsSentAgain) {
  Progress peer(Index(10), at(0));
  peer.sent_probe();
  peer.answered_heartbeat(Index(10), at(50), kStall);
  EXPECT_TRUE(peer.may_send(10));
}

TEST(Progress, NothingUnderWayAndBehindIsProbed) {
  Progress peer(Index(10), at(0));
  peer.sent_probe();
  peer.accepted(Index(4), Index(1), at(0));  // durable only up to 4 yet
  EXPECT_EQ(peer.next(), Index(10));
  peer.answered_heartbeat(Index(9), at(50), kStall);
  EXPECT_EQ(peer.state(), Progress::State::kProbe);
}

TEST(Progress, NoNewWindowBeforeTheOldOneIsDurable) {
  Progress peer = replicating(5);
  peer.sent_entries(Index(7), 60, at(0));
  peer.sent_entries(Index(9), 60, at(0));
  peer.answered_heartbeat(Index(9), at(500), kStall);
  peer.sent_probe();
  peer.accepted(Index(7), Index(1), at(501));  // it has 9, and 7 on its disk
  EXPECT_EQ(peer.state(), Progress::State::kReplicate);
  EXPECT_EQ(peer.inflight_bytes(), 60u);
  EXPECT_FALSE(peer.may_send(50));
  peer.accepted(Index(9), Index(1), at(502));
  EXPECT_TRUE(peer.may_send(50));
}

TEST(Progress, SnapshotStopsEverythingUntilItEnds) {
  Progress peer = replicating(5);
  peer.become_snapshot();
  EXPECT_FALSE(peer.may_send(100));
  peer.answered_heartbeat(Index(50), at(1000), kStall);
  EXPECT_FALSE(peer.may_send(100));
  peer.snapshot_ended(true, Index(30));
  EXPECT_EQ(peer.match(), Index(30));
  EXPECT_EQ(peer.next(), Index(31));
  EXPECT_TRUE(peer.may_send(100));
}

TEST(Progress, FailedSnapshotWaitsForASignOfLife) {
  Progress peer = replicating(5);
  peer.become_snapshot();
  peer.snapshot_ended(false, Index());
  EXPECT_FALSE(peer.may_send(100));
  peer.answered_heartbeat(Index(50), at(1000), kStall);
  EXPECT_TRUE(peer.may_send(100));
}

TEST(Progress, CaughtUpWithoutTheSnapshotsEnd) {
  Progress peer = replicating(5);
  peer.become_snapshot();
  peer.accepted(Index(8), Index(10), at(1));
  EXPECT_EQ(peer.state(), Progress::State::kSnapshot);
  peer.accepted(Index(9), Index(10), at(1));
  EXPECT_EQ(peer.state(), Progress::State::kReplicate);
  EXPECT_EQ(peer.next(), Index(10));
}

}  // namespace
}  // namespace connectd::raft
