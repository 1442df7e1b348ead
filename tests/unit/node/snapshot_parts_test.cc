// What receives and what sends a snapshot, each alone: no node, no threads, the other side by hand.
// How they play together is in transfer_test.cc.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>

#include "node/snapshots/snapshot_intake.h"
#include "node/snapshots/snapshot_sender.h"

namespace connectd::node {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::SizeIs;
using State = wire::SnapshotAck::State;

constexpr size_t kChunk = 100;
const NodeId kPeer(2);

wire::SnapshotFile file_at(uint64_t index, uint64_t bytes = 10 * kChunk) {
  wire::SnapshotFile file;
  file.mark = {Index(index), Term(1)};
  file.bytes = bytes;
  return file;
}

template <class Message>
std::vector<Message> sent(Effects& out) {
  std::vector<Message> messages;
  for (auto& [to, message] : std::exchange(out.messages, {})) {
    EXPECT_EQ(to, kPeer);
    messages.push_back(std::get<Message>(std::move(message)));
  }
  return messages;
}

// ---- SnapshotIntake

class IntakeTest : public ::testing::Test {
 protected:
  // What the leader is answered at once; none: nothing.
  std::optional<State> offer(uint64_t index) {
    intake.on_offer(kPeer, {file_at(index), Term(1)}, view, out);
    return answer();
  }
  std::optional<State> chunk(uint64_t index) {
    wire::SnapshotChunk chunk;
    chunk.file = file_at(index);
    intake.on_chunk(kPeer, std::move(chunk), view, out);
    return answer();
  }
  std::optional<State> answer() {
    const auto acks = sent<wire::SnapshotAck>(out);
    EXPECT_LE(acks.size(), 1u);
    return acks.empty() ? std::nullopt : std::optional(acks[0].state);
  }
  void worker_took(uint64_t index, State state) {
    jobs::OfferTaken taken{kPeer, {file_at(index), 0, state}};
    intake.on(taken, out);
  }

  SnapshotIntake::View view{Index(50), Index(40)};
  SnapshotIntake intake;
  Effects out;
};

TEST_F(IntakeTest, WorkerIsAskedOnceForAnOffer) {
  EXPECT_EQ(offer(90), std::nullopt);
  ASSERT_THAT(out.tasks, SizeIs(1));
  EXPECT_TRUE(std::holds_alternative<jobs::TakeOffer>(out.tasks[0]));
  EXPECT_EQ(offer(90), State::kWorking) << "the worker has it";
  EXPECT_THAT(out.tasks, SizeIs(1));
  worker_took(90, State::kReceiving);
  EXPECT_EQ(answer(), State::kReceiving);
}

TEST_F(IntakeTest, PresentSnapshotIsAnsweredAtOnce) {
  EXPECT_EQ(offer(50), State::kWorking) << "applied, and not durable yet";
  view.durable = Index(50);
  EXPECT_EQ(offer(50), State::kInstalled);
  EXPECT_EQ(chunk(30), State::kInstalled);
  EXPECT_THAT(out.tasks, IsEmpty());
}

TEST_F(IntakeTest, ChunkWithoutAnOfferIsRefused) {
  EXPECT_EQ(chunk(90), State::kRefused) << "this node has restarted";
  offer(90);
  worker_took(90, State::kReceiving);
  answer();
  EXPECT_EQ(chunk(91), State::kRefused) << "it is of another file";
  EXPECT_EQ(chunk(90), std::nullopt);
  EXPECT_TRUE(std::holds_alternative<jobs::ReceiveChunk>(out.tasks.back()));
}

TEST_F(IntakeTest, RefusedFileIsForgotten) {
  offer(90);
  worker_took(90, State::kRefused);
  EXPECT_EQ(answer(), State::kRefused);
  EXPECT_EQ(chunk(90), State::kRefused);
}

TEST_F(IntakeTest, TasksOfTheWorkerAreBounded) {
  offer(90);
  worker_took(90, State::kReceiving);
  answer();
  for (size_t i = 0; i < 2 * SnapshotIntake::kMaxTasks; ++i) chunk(90);
  EXPECT_THAT(out.tasks, SizeIs(1 + SnapshotIntake::kMaxTasks));
  jobs::ChunkReceived received{kPeer, std::nullopt};
  intake.on(received, out);
  chunk(90);
  EXPECT_THAT(out.tasks, SizeIs(2 + SnapshotIntake::kMaxTasks));
}

TEST_F(IntakeTest, InstalledMeansDurable) {
  offer(90);
  intake.on_restored(kPeer, file_at(90), {Index(90), Index(80)}, out);
  EXPECT_EQ(answer(), State::kWorking);
  offer(90);
  intake.on_restored(kPeer, file_at(90), {Index(90), Index(90)}, out);
  EXPECT_EQ(answer(), State::kInstalled);
}

TEST_F(IntakeTest, PartThatTheLogHasPassedIsDropped) {
  intake.advance(std::nullopt, Index(50), out);
  intake.advance(file_at(51), Index(50), out);
  EXPECT_THAT(out.tasks, IsEmpty());
  intake.advance(file_at(50), Index(50), out);
  intake.advance(file_at(50), Index(50), out);
  ASSERT_THAT(out.tasks, SizeIs(1)) << "the worker is asked once";
  EXPECT_EQ(std::get<jobs::DropPartial>(out.tasks[0]).covered, Index(50));
}

// ---- SnapshotSender

class FakeSource final : public storage::SnapshotSource {
 public:
  explicit FakeSource(uint64_t index) : file_(file_at(index)) {
    info_.mark = file_.mark;
    info_.file_bytes = file_.bytes;
  }
  const storage::SnapshotInfo& info() const override { return info_; }
  const wire::SnapshotFile& file() const override { return file_; }
  Result<Slice> read(uint64_t, size_t length) const override {
    return Slice::copy_of(std::string(length, 'x'));
  }

 private:
  storage::SnapshotInfo info_;
  wire::SnapshotFile file_;
};

class SenderTest : public ::testing::Test {
 protected:
  void begin(uint64_t first_index = 1) {
    sender.begin(kPeer, Term(3), Index(first_index), now, out);
  }
  void opened(uint64_t index) {
    jobs::SourceOpened opened{kPeer, std::make_shared<FakeSource>(index), false};
    sender.source_opened(opened, now, out);
  }
  void ack(uint64_t index, State state, uint64_t received = 0) {
    sender.on_ack(kPeer, {file_at(index), received, state}, now, out);
  }
  void pass(Duration time) {
    now += time;
    sender.advance(now, out);
  }
  template <class Task>
  std::vector<Task> tasks() {
    std::vector<Task> found;
    for (jobs::WorkerTask& task : std::exchange(out.tasks, {})) {
      found.push_back(std::get<Task>(std::move(task)));
    }
    return found;
  }
  // The offsets that the worker is asked to read.
  std::vector<uint64_t> reads() {
    std::vector<uint64_t> offsets;
    for (const jobs::ReadChunk& read : tasks<jobs::ReadChunk>()) offsets.push_back(read.offset);
    return offsets;
  }
  // How the stream ended, as the core is told; none: it has not.
  std::optional<bool> end() {
    if (out.events.empty()) return std::nullopt;
    EXPECT_THAT(out.events, SizeIs(1));
    const bool installed = std::get<raft::SnapshotSent>(out.events[0]).ok;
    out.events.clear();
    return installed;
  }
  void offered(uint64_t index) {
    const auto offers = sent<wire::SnapshotOffer>(out);
    ASSERT_THAT(offers, SizeIs(1));
    EXPECT_EQ(offers[0].file, file_at(index));
    EXPECT_EQ(offers[0].leader_term, Term(3));
  }

  SnapshotSender sender{kChunk};
  Time now{seconds(1000)};
  Effects out;
};

TEST_F(SenderTest, SendsWindowsFromWhereThePeerIs) {
  begin();
  EXPECT_THAT(tasks<jobs::OpenSource>(), SizeIs(1));
  opened(90);
  offered(90);
  ack(90, State::kReceiving, 300);
  EXPECT_EQ(sender.resumed(), 1u);
  EXPECT_THAT(reads(), ElementsAre(300, 400, 500, 600)) << "a window of chunks";
  ack(90, State::kReceiving, 400);
  EXPECT_THAT(reads(), ElementsAre(700));
  ack(90, State::kReceiving, 400);
  EXPECT_THAT(reads(), IsEmpty());
  ack(90, State::kReceiving, 700);
  EXPECT_THAT(reads(), ElementsAre(800, 900)) << "to the end of the file";
  ack(90, State::kReceiving, 1000);
  EXPECT_THAT(reads(), IsEmpty());
  ack(90, State::kInstalled);
  EXPECT_EQ(end(), true);
}

TEST_F(SenderTest, AnswersForAnotherFileDoNotCount) {
  begin();
  tasks<jobs::OpenSource>();
  opened(90);
  offered(90);
  ack(80, State::kInstalled);
  EXPECT_EQ(end(), std::nullopt);
  EXPECT_THAT(reads(), IsEmpty());
}

TEST_F(SenderTest, OfferIsRepeatedAndGivenUp) {
  begin();
  tasks<jobs::OpenSource>();
  opened(90);
  offered(90);
  pass(kStreamRetry + milliseconds(1));
  offered(90);
  pass(kStreamTimeout);
  EXPECT_EQ(end(), false);
}

TEST_F(SenderTest, WorkingPeerIsNotGivenUp) {
  begin();
  tasks<jobs::OpenSource>();
  opened(90);
  for (int i = 0; i < 20; ++i) {
    pass(kStreamTimeout / 2);
    ack(90, State::kWorking);
  }
  EXPECT_EQ(end(), std::nullopt);
}

TEST_F(SenderTest, BrokenStreamContinuesWithItsFile) {
  begin();
  tasks<jobs::OpenSource>();
  opened(90);
  ack(90, State::kReceiving);
  sender.peer_lost(kPeer, now, out);
  EXPECT_EQ(end(), false);
  out = Effects();
  begin();
  EXPECT_THAT(tasks<jobs::OpenSource>(), IsEmpty());
  offered(90);
  sender.peer_lost(kPeer, now, out);
  out = Effects();
  begin(92);
  EXPECT_THAT(tasks<jobs::OpenSource>(), SizeIs(1)) << "the log behind the file is gone";
}

TEST_F(SenderTest, RefusedFilePausesLonger) {
  Duration pause = kRefusalPauseMin;
  for (int i = 0; i < 3; ++i) {
    begin();
    ASSERT_THAT(tasks<jobs::OpenSource>(), SizeIs(1));
    opened(90);
    ack(90, State::kRefused);
    EXPECT_EQ(end(), false);
    out = Effects();
    begin();
    EXPECT_THAT(tasks<jobs::OpenSource>(), IsEmpty());
    pass(pause - milliseconds(1));
    EXPECT_THAT(tasks<jobs::OpenSource>(), IsEmpty());
    pass(milliseconds(1));
    EXPECT_THAT(tasks<jobs::OpenSource>(), SizeIs(1));
    sender.lead(false, Term(3), now);
    pause = 2 * pause;
  }
}

TEST_F(SenderTest, DeposedLeaderSendsNoMore) {
  begin();
  tasks<jobs::OpenSource>();
  opened(90);
  ack(90, State::kReceiving);
  out = Effects();
  sender.lead(false, Term(3), now);
  ack(90, State::kReceiving, 100);
  EXPECT_THAT(out.tasks, IsEmpty());
  EXPECT_FALSE(sender.holds_log());
}

TEST_F(SenderTest, RateLimitSpreadsReads) {
  sender.set_rate(10 * kChunk, now);  // a chunk each 100 ms
  begin();
  tasks<jobs::OpenSource>();
  opened(90);
  pass(seconds(1));
  out = Effects();
  ack(90, State::kReceiving);
  size_t read = reads().size();
  EXPECT_LT(read, kStreamWindowChunks);
  for (int i = 0; i < 50 && read < kStreamWindowChunks; ++i) {
    ASSERT_NE(sender.next_deadline(), Time::max());
    pass(std::max(sender.next_deadline() - now, Duration(milliseconds(1))));
    read += reads().size();
  }
  EXPECT_EQ(read, kStreamWindowChunks);
}

TEST_F(SenderTest, LogIsKeptForWhoReceives) {
  begin();
  tasks<jobs::OpenSource>();
  opened(90);
  EXPECT_EQ(sender.keep_from(), Index(91));
  SnapshotSender::LogView log;
  log.peers.push_back({});
  log.peers[0].id = kPeer;
  log.peers[0].state = raft::PeerStatus::State::kSnapshot;
  log.snapshot = Index(90);
  log.held_bytes_max = 1000;
  log.bytes_from = [](Index) { return uint64_t{1000}; };
  EXPECT_FALSE(sender.release(log, now));
  log.bytes_from = [](Index) { return uint64_t{1001}; };
  EXPECT_TRUE(sender.release(log, now)) << "more than it may cost";
  EXPECT_EQ(sender.keep_from(), std::nullopt);
}

}  // namespace
}  // namespace connectd::node
