// What a node does about its disk, with a core and no node: hand-overs, refusals, what is taken
// while the log is full.
#include "node/disk/disks.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/unit/node/small_core.h"

namespace connectd::node {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using ::testing::IsEmpty;

constexpr uint64_t kLimit = 1600;

class DisksTest : public ::testing::Test {
 protected:
  DisksTest() { raft.lead(); }

  template <class T>
  size_t count() const {
    size_t n = 0;
    for (const raft::Event& event : out.events) n += std::holds_alternative<T>(event);
    return n;
  }
  template <class T>
  size_t tasks() const {
    size_t n = 0;
    for (const jobs::WorkerTask& task : out.tasks) n += std::holds_alternative<T>(task);
    return n;
  }
  void advance(Duration by) {
    raft.now.time += by;
    out = Effects();
    disks.advance(*raft.core, log, stopping, raft.now.time, out);
  }
  // The disk completes nothing for this long. The process itself is not paused.
  void stall(Duration time) {
    log.is_behind = true;
    for (Duration t{}; t <= time; t += milliseconds(50)) advance(milliseconds(50));
  }
  void report(uint64_t from, bool full) {
    disks.on_report(NodeId(from), {Term(), full, false, false}, raft.now.time);
  }

  SmallCore raft{members_of(3)};
  Disks disks{{NodeId(1), kLimit, seconds(1), seconds(1)}};
  Disks::LogView log;
  bool stopping = false;
  Effects out;
};

TEST_F(DisksTest, AsksForSpaceAndSegmentOnce) {
  log.wants_segment = true;
  advance(milliseconds(50));
  EXPECT_EQ(tasks<jobs::CheckSpace>(), 1u);
  EXPECT_EQ(tasks<jobs::PrepareSegment>(), 1u);
  advance(milliseconds(50));
  EXPECT_THAT(out.tasks, IsEmpty());
  disks.segment_prepared({false}, raft.now.time);
  advance(milliseconds(50));
  EXPECT_EQ(tasks<jobs::PrepareSegment>(), 0u) << "it failed a moment ago";
  advance(seconds(1));
  EXPECT_EQ(tasks<jobs::PrepareSegment>(), 1u);
}

TEST_F(DisksTest, FullLeaderHandsOverToSpace) {
  disks.measured(kLimit - 1);
  advance(milliseconds(50));
  EXPECT_EQ(count<raft::TransferLeadership>(), 0u) << "nobody has said that it has space";
  report(2, false);
  advance(milliseconds(50));
  EXPECT_EQ(count<raft::TransferLeadership>(), 1u);
  EXPECT_TRUE(out.wake);
  advance(milliseconds(50));
  EXPECT_EQ(count<raft::TransferLeadership>(), 0u) << "not again at once";
  advance(Disks::kHandOverInterval);
  EXPECT_EQ(count<raft::TransferLeadership>(), 1u);
}

TEST_F(DisksTest, StoppingNodeDoesNotHandOverForItsDisk) {
  disks.measured(kLimit - 1);
  report(2, false);
  stopping = true;
  advance(milliseconds(50));
  EXPECT_EQ(count<raft::TransferLeadership>(), 0u);
}

TEST_F(DisksTest, StalledLeaderStepsDownWhenNobodyTookOver) {
  stall(seconds(1));
  EXPECT_EQ(count<raft::Candidacy>(), 1u);
  EXPECT_EQ(count<raft::TransferLeadership>(), 1u);
  disks.hand_over_began();
  advance(milliseconds(50));
  disks.hand_over_began();  // the node reports it as long as it lasts
  EXPECT_EQ(count<raft::StepDown>(), 1u);
  advance(milliseconds(50));
  EXPECT_EQ(count<raft::StepDown>(), 1u);
}

TEST_F(DisksTest, StalledLeaderStaysWhenNoHandOverBegan) {
  stall(seconds(1));
  EXPECT_EQ(count<raft::TransferLeadership>(), 1u);
  advance(milliseconds(50));
  EXPECT_EQ(count<raft::StepDown>(), 0u);
}

TEST_F(DisksTest, ProgressEndsTheStall) {
  stall(seconds(1));
  log.done = 1;
  advance(milliseconds(50));
  ASSERT_EQ(count<raft::Candidacy>(), 1u);
  for (const raft::Event& event : out.events) {
    if (const auto* candidacy = std::get_if<raft::Candidacy>(&event)) {
      EXPECT_TRUE(candidacy->may_lead);
    }
  }
}

TEST_F(DisksTest, RefusesCommandsWithoutAQuorumOfSpace) {
  EXPECT_EQ(disks.refusal(), "");
  disks.measured(kLimit - 1);
  report(2, true);
  disks.react(*raft.core, true, raft.now.time, out);
  EXPECT_NE(disks.refusal(), "");
  wire::ForwardProposals commands{raft.core->term(), {}};
  commands.proposals.emplace_back().kind = raft::EntryKind::kCommand;
  EXPECT_TRUE(disks.refuses(commands));
  commands.proposals[0].kind = raft::EntryKind::kSessionOpen;
  EXPECT_FALSE(disks.refuses(commands));
  disks.measured(2 * kLimit);
  disks.react(*raft.core, true, raft.now.time, out);
  EXPECT_EQ(disks.refusal(), "");
}

// It would accept a write that no quorum has space for.
TEST_F(DisksTest, NewLeaderDecidesBeforeItAcceptsAnything) {
  ASSERT_EQ(raft.core->role(), raft::Role::kLeader);
  disks.react(*raft.core, false, raft.now.time, out);
  EXPECT_NE(disks.refusal(), "");
}

// Nobody but the full leader that handed over has answered it yet.
TEST_F(DisksTest, NewLeaderAwaitsTheAnswersOfItsPeers) {
  raft.silent = {NodeId(3)};
  raft.core->step(raft::StepDown{}, raft.now);
  raft.lead();
  report(2, true);
  disks.react(*raft.core, true, raft.now.time, out);
  EXPECT_EQ(disks.refusal(), "");
  for (int i = 0; i < 3; ++i) raft.pass(raft.core->settings().election_timeout);
  advance(milliseconds(50));
  EXPECT_NE(disks.refusal(), "") << "node 3 cannot be reached";
}

TEST_F(DisksTest, ReactDoesNothingWithoutNews) {
  disks.react(*raft.core, true, raft.now.time, out);
  disks.react(*raft.core, false, raft.now.time, out);
  EXPECT_EQ(disks.refusal(), "") << "nothing was learned: the next advance() looks";
  disks.peer_reached(NodeId(2));
  disks.react(*raft.core, false, raft.now.time, out);
  EXPECT_NE(disks.refusal(), "");
}

TEST_F(DisksTest, FullLogTakesWhatKeepsElectionsGoing) {
  const Index last = raft.core->last_index();
  raft::AppendRequest append;
  append.prev_index = last;
  for (auto kind : {raft::EntryKind::kNoop, raft::EntryKind::kCommand, raft::EntryKind::kNoop}) {
    raft::Entry& entry = append.entries.emplace_back();
    entry.index = last + append.entries.size();
    entry.term = raft.core->term() + 1;
    entry.kind = kind;
  }
  EXPECT_TRUE(disks.take_what_fits(append, *raft.core, raft.now.time));
  EXPECT_EQ(append.entries.size(), 1u);
}

TEST_F(DisksTest, FullLogAnswersAGapOncePerTimeout) {
  raft::AppendRequest append;
  append.prev_index = raft.core->last_index() + 1;
  EXPECT_TRUE(disks.take_what_fits(append, *raft.core, raft.now.time));
  EXPECT_FALSE(disks.take_what_fits(append, *raft.core, raft.now.time));
  raft.now.time += raft.core->settings().election_timeout;
  EXPECT_TRUE(disks.take_what_fits(append, *raft.core, raft.now.time));
}

}  // namespace
}  // namespace connectd::node
