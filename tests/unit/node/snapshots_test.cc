// The snapshots of one node, without a node: which are kept, what is compacted, what a leader that
// sends one is answered.
#include "node/snapshots/snapshots.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace connectd::node {
namespace {

using std::chrono::seconds;
using ::testing::IsEmpty;
using State = wire::SnapshotAck::State;

const NodeId kLeader(2);

class SnapshotsTest : public ::testing::Test {
 protected:
  static raft::SnapshotMark mark(uint64_t index) { return {Index(index), Term(1)}; }
  static wire::SnapshotFile file(uint64_t index) {
    wire::SnapshotFile file;
    file.mark = mark(index);
    file.bytes = 1000;
    return file;
  }
  static SnapshotPolicy policy() {
    SnapshotPolicy policy;
    policy.log_min_bytes = 1000;
    policy.trailing_entries = 5;
    return policy;
  }
  // The sent message, which is one acknowledgement.
  wire::SnapshotAck ack() {
    EXPECT_EQ(out.messages.size(), 1u);
    EXPECT_EQ(out.messages.at(0).first, kLeader);
    auto ack = std::get<wire::SnapshotAck>(out.messages.at(0).second);
    out = Effects();
    return ack;
  }
  void offer(uint64_t index) { snapshots.on_offer(kLeader, {file(index), view.term}, view, out); }
  void chunk(uint64_t index) {
    wire::SnapshotChunk chunk;
    chunk.file = file(index);
    chunk.leader_term = view.term;
    snapshots.on_chunk(kLeader, std::move(chunk), view, out);
  }
  std::optional<Index> compacted() const {
    for (const jobs::WorkerTask& task : out.tasks) {
      if (const auto* compact = std::get_if<jobs::Compact>(&task)) return compact->keep_from;
    }
    return std::nullopt;
  }
  void take(uint64_t index) {
    out = Effects();
    snapshots.ask(Index(index), view, out);
    ASSERT_TRUE(out.take_snapshot);
    out = Effects();
    snapshots.taken(mark(index), 100, "", view, out);
  }

  Snapshots::View view{Time(seconds(100)), Term(3), false, Index(50), Index(50), Index(1)};
  Snapshots snapshots{policy(), 1.0, 256, {}};
  Effects out;
};

TEST_F(SnapshotsTest, CompactsBehindTheOlderOne) {
  take(20);
  EXPECT_EQ(compacted(), std::nullopt) << "one alone may be damaged";
  take(40);
  EXPECT_EQ(compacted(), Index(16));
  EXPECT_EQ(snapshots.newest(), mark(40));
}

// An entry that no frame holds: only a snapshot carries it to a follower.
TEST_F(SnapshotsTest, TakesANewerOneForAFollowerThatNeedsIt) {
  take(20);
  out = Effects();
  const raft::SnapshotNeed need{NodeId(3), Index(30)};
  snapshots.begin_sending(need, view, out);
  ASSERT_EQ(out.events.size(), 1u);
  const auto& ended = std::get<raft::SnapshotSent>(out.events.at(0));
  EXPECT_EQ(ended.peer, need.peer);
  EXPECT_FALSE(ended.ok) << "the peer asks again";
  EXPECT_THAT(out.tasks, IsEmpty());
  snapshots.advance({}, view, out);
  ASSERT_TRUE(out.take_snapshot);
  out = Effects();
  snapshots.taken(mark(30), 100, "", view, out);
  out = Effects();
  snapshots.begin_sending(need, view, out);
  EXPECT_THAT(out.events, IsEmpty());
  ASSERT_EQ(out.tasks.size(), 1u);
  EXPECT_TRUE(std::holds_alternative<jobs::OpenSource>(out.tasks.at(0)));
}

TEST_F(SnapshotsTest, NeverCompactsWhatIsNotDurable) {
  take(20);
  view.durable = Index(9);
  take(40);
  EXPECT_EQ(compacted(), Index(10));
}

TEST_F(SnapshotsTest, AskDuringOneIsKept) {
  snapshots.ask(Index(20), view, out);
  ASSERT_TRUE(out.take_snapshot);
  EXPECT_TRUE(out.wake);
  out = Effects();
  snapshots.ask(Index(30), view, out);
  EXPECT_FALSE(out.take_snapshot);
  snapshots.taken(mark(20), 100, "", view, out);
  EXPECT_TRUE(out.take_snapshot) << "the one that was asked for meanwhile";
}

TEST_F(SnapshotsTest, AskForWhatIsCoveredDoesNothing) {
  take(20);
  out = Effects();
  snapshots.ask(Index(20), view, out);
  EXPECT_FALSE(out.take_snapshot);
}

TEST_F(SnapshotsTest, InstalledCancelsTheOneBeingWritten) {
  snapshots.ask(Index(20), view, out);
  snapshots.installed(file(60), out);
  EXPECT_TRUE(out.cancel_snapshot);
  EXPECT_FALSE(snapshots.is_current(mark(20)));
  EXPECT_EQ(snapshots.newest(), mark(60));
  EXPECT_EQ(snapshots.installed_count(), 1u);
}

TEST_F(SnapshotsTest, DamagedNewestIsReplaced) {
  jobs::SourceOpened opened;
  opened.peer = kLeader;
  opened.newest_is_damaged = true;
  snapshots.on(opened, view, out);
  EXPECT_TRUE(out.take_snapshot);
}

TEST_F(SnapshotsTest, OfferAndChunksGoToTheWorker) {
  offer(60);
  ASSERT_EQ(out.tasks.size(), 1u);
  EXPECT_TRUE(std::holds_alternative<jobs::TakeOffer>(out.tasks[0]));
  offer(60);
  EXPECT_EQ(ack().state, State::kWorking);
  out = Effects();
  chunk(60);
  ASSERT_EQ(out.tasks.size(), 1u);
  EXPECT_TRUE(std::holds_alternative<jobs::ReceiveChunk>(out.tasks[0]));
}

TEST_F(SnapshotsTest, ChunkOfAnUnknownFileIsRefused) {
  chunk(60);
  EXPECT_EQ(ack().state, State::kRefused);
}

TEST_F(SnapshotsTest, CoveredOfferIsInstalledOnlyIfDurable) {
  offer(50);
  EXPECT_EQ(ack().state, State::kInstalled);
  view.durable = Index(49);
  offer(50);
  EXPECT_EQ(ack().state, State::kWorking);
  EXPECT_THAT(out.tasks, IsEmpty());
}

TEST_F(SnapshotsTest, RestoredIsVouchedForOnlyIfDurable) {
  offer(60);
  out = Effects();
  view.handed = Index(60);
  snapshots.on_restored(kLeader, file(60), view, out);
  EXPECT_EQ(ack().state, State::kWorking) << "the log's reset is not durable yet";
  offer(60);
  view.durable = Index(60);
  out = Effects();
  offer(60);
  EXPECT_EQ(ack().state, State::kInstalled);
}

TEST_F(SnapshotsTest, RefusedFileIsForgotten) {
  offer(60);
  out = Effects();
  jobs::OfferTaken taken{kLeader, {file(60), 0, State::kRefused}};
  snapshots.on(taken, view, out);
  EXPECT_EQ(ack().state, State::kRefused);
  chunk(60);
  EXPECT_EQ(ack().state, State::kRefused);
}

TEST_F(SnapshotsTest, PartialIsDroppedOnceWhenTheLogCameFirst) {
  Snapshots::Disk disk;
  disk.partial = file(50);
  snapshots.advance(disk, view, out);
  ASSERT_EQ(out.tasks.size(), 1u);
  EXPECT_EQ(std::get<jobs::DropPartial>(out.tasks[0]).covered, Index(50));
  out = Effects();
  snapshots.advance(disk, view, out);
  EXPECT_THAT(out.tasks, IsEmpty());
}

TEST_F(SnapshotsTest, PartialOfWhatIsMissingStays) {
  Snapshots::Disk disk;
  disk.partial = file(51);
  snapshots.advance(disk, view, out);
  EXPECT_THAT(out.tasks, IsEmpty());
}

TEST_F(SnapshotsTest, DueOneIsTakenWhenItsTimeComes) {
  raft::Entry entry;
  entry.payload = Slice::copy_of(std::string(1001, 'x'));
  snapshots.handed({entry});
  snapshots.advance({}, view, out);
  EXPECT_EQ(out.take_snapshot, SnapshotHow::kCapture);
  EXPECT_TRUE(snapshots.is_taking());
}

}  // namespace
}  // namespace connectd::node
