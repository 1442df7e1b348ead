// The worker and the snapshotter without their threads: each gets a task and returns its result.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/log.h"
#include "node/disk/worker.h"
#include "node/snapshots/snapshotter.h"
#include "sim/faulty_file_system.h"
#include "tests/unit/base/supervisors.h"
#include "tests/unit/node/tape_plugin.h"

namespace connectd::node {
namespace {

using ::testing::SizeIs;
using State = wire::SnapshotAck::State;

Genesis demo() {
  Genesis genesis;
  genesis.cluster_id.bytes[0] = 9;
  genesis.cluster_name = "demo";
  genesis.plugin_name = "tape";
  genesis.plugin_level = 1;
  genesis.members.push_back({NodeId(1), DiskId(), "h:1", "h:2", "h:3"});
  return genesis;
}

// A state whose bytes are given, or the failure to read it.
class FixedCapture final : public plugin::Capture {
 public:
  explicit FixedCapture(std::string bytes) : bytes_(std::move(bytes)) {}
  tl::expected<void, plugin::CaptureFailure> write(const plugin::SnapshotSink& sink) override {
    using Cause = plugin::CaptureFailure::Cause;
    if (is_cancelled()) return cancelled();
    if (auto taken = sink(as_bytes(bytes_)); !taken) {
      return tl::unexpected(plugin::CaptureFailure{Cause::kOutput, taken.error()});
    }
    return {};
  }

 private:
  std::string bytes_;
};

std::unique_ptr<storage::SnapshotStore> store_in(storage::FileSystem& files,
                                                 const std::string& directory) {
  auto store = storage::SnapshotStore::open(files, directory, {});
  CHECK(store.has_value()) << store.error().text;
  return std::move(*store);
}

// ---- Snapshotter

class SnapshotterTest : public ::testing::Test {
 protected:
  Snapshotter::Item done() {
    EXPECT_TRUE(snapshotter.poll_once());
    std::vector<Snapshotter::Item> items;
    EXPECT_TRUE(snapshotter.take_results(items));
    EXPECT_THAT(items, SizeIs(1));
    return std::move(items.at(0));
  }
  jobs::WriteSnapshot write(uint64_t index) {
    return {{Index(index), Term(1)}, "metadata", std::make_unique<FixedCapture>("state")};
  }

  sim::FaultyFileSystem files{1};
  RecordingSupervisor supervisor;
  std::unique_ptr<storage::SnapshotStore> store = store_in(files, "snapshots");
  Snapshotter snapshotter{*store, supervisor};
};

TEST_F(SnapshotterTest, WritesAFileAndGivesTheCaptureBack) {
  snapshotter.submit(write(5));
  auto item = done();
  auto* written = std::get_if<jobs::Written>(&item);
  ASSERT_NE(written, nullptr);
  EXPECT_NE(written->capture, nullptr);
  ASSERT_THAT(store->list(), SizeIs(1));
  EXPECT_EQ(store->list()[0].mark.index, Index(5));
  EXPECT_EQ(store->list()[0].file_bytes, written->file_bytes);
}

TEST_F(SnapshotterTest, CancelledCaptureLeavesNoFile) {
  snapshotter.submit(write(5));
  snapshotter.cancel();
  auto item = done();
  auto* failed = std::get_if<jobs::NotWritten>(&item);
  ASSERT_NE(failed, nullptr);
  EXPECT_EQ(failed->failed.why, SnapshotFailed::Why::kOvertaken);
  EXPECT_THAT(store->list(), SizeIs(0));
  EXPECT_EQ(supervisor.failures, 0);
}

TEST_F(SnapshotterTest, EqualBytesHaveEqualHashes) {
  std::vector<uint64_t> hashes;
  for (const char* bytes : {"one", "one", "two"}) {
    snapshotter.submit(jobs::HashState{Index(7), std::make_unique<FixedCapture>(bytes)});
    auto item = done();
    auto* hashed = std::get_if<jobs::Hashed>(&item);
    ASSERT_TRUE(hashed != nullptr && hashed->hash);
    hashes.push_back(*hashed->hash);
  }
  EXPECT_EQ(hashes[0], hashes[1]);
  EXPECT_NE(hashes[0], hashes[2]);
}

// ---- Worker

class WorkerTest : public ::testing::Test {
 protected:
  WorkerTest() {
    storage::LogOptions options;
    options.segment_bytes = storage::kMinSegmentBytes;
    storage::Recovered recovered;
    auto opened = storage::Log::open(files, "log", options, {}, recovered);
    CHECK(opened.has_value()) << opened.error().text;
    log = std::move(*opened);
    worker = std::make_unique<Worker>(Worker::Options{&files, "data", demo(), {}}, *log, *store,
                                      tape_plugin(), supervisor);
  }
  // A snapshot of another node at `index`, as its leader would send it.
  std::unique_ptr<storage::SnapshotSource> snapshot_of(const Genesis& genesis, uint64_t index) {
    ReplicatedState state = ReplicatedState::at_genesis(genesis);
    state.applied = Index(index);
    state.applied_term = Term(1);
    auto writer = leader_store->begin({Index(index), Term(1)}, as_bytes(state.encode()));
    CHECK(writer.has_value()) << writer.error().text;
    const std::string tape(sizeof(uint64_t), '\0');
    CHECK((*writer)->write(as_bytes(tape)).has_value());
    CHECK((*writer)->finish().has_value());
    auto source = leader_store->open_source({Index(index), Term(1)});
    CHECK(source.has_value()) << source.error().text;
    return std::move(*source);
  }
  std::vector<Worker::Item> run(Worker::Task task) {
    worker->submit(std::move(task));
    EXPECT_TRUE(worker->poll_once());
    std::vector<Worker::Item> items;
    worker->take_results(items);
    return items;
  }
  template <class Result>
  Result only(Worker::Task task) {
    auto items = run(std::move(task));
    EXPECT_THAT(items, SizeIs(1));
    return std::get<Result>(std::move(items.at(0)));
  }
  State offer(const storage::SnapshotSource& source) {
    return only<jobs::OfferTaken>(jobs::TakeOffer{NodeId(2), source.file()}).ack.state;
  }
  jobs::ReceiveChunk chunk(const storage::SnapshotSource& source, uint64_t offset, size_t length) {
    auto bytes = source.read(offset, length);
    CHECK(bytes.has_value()) << bytes.error().text;
    return {NodeId(2), {source.file(), Term(1), offset, std::move(*bytes)}};
  }

  sim::FaultyFileSystem files{1};
  RecordingSupervisor supervisor;
  std::unique_ptr<storage::SnapshotStore> store = store_in(files, "snapshots");
  std::unique_ptr<storage::SnapshotStore> leader_store = store_in(files, "leader");
  std::unique_ptr<storage::Log> log;
  std::unique_ptr<Worker> worker;
};

TEST_F(WorkerTest, ReceivesAndRestoresASnapshot) {
  auto source = snapshot_of(demo(), 20);
  const uint64_t bytes = source->info().file_bytes;
  EXPECT_EQ(offer(*source), State::kReceiving);
  auto first = only<jobs::ChunkReceived>(chunk(*source, 0, 10));
  EXPECT_EQ(first.ack->received, 10u);
  auto gap = only<jobs::ChunkReceived>(chunk(*source, 20, 10));
  EXPECT_EQ(gap.ack->received, 10u) << "the sender is told where to continue";
  auto restored = only<Worker::Restored>(chunk(*source, 10, bytes));
  EXPECT_EQ(restored.file, source->file());
  EXPECT_EQ(restored.state.state.applied, Index(20));
  ASSERT_THAT(store->list(), SizeIs(1));
  EXPECT_EQ(store->list()[0].mark.index, Index(20));
}

TEST_F(WorkerTest, OtherClustersSnapshotIsRefused) {
  Genesis other = demo();
  other.cluster_id.bytes[0] = 8;
  auto source = snapshot_of(other, 20);
  EXPECT_EQ(offer(*source), State::kReceiving);
  auto received = only<jobs::ChunkReceived>(chunk(*source, 0, source->info().file_bytes));
  EXPECT_EQ(received.ack->state, State::kRefused);
  EXPECT_THAT(store->list(), SizeIs(0));
  EXPECT_FALSE(store->partial());
}

TEST_F(WorkerTest, ChangedSnapshotIsRefused) {
  auto source = snapshot_of(demo(), 20);
  EXPECT_EQ(offer(*source), State::kReceiving);
  jobs::ReceiveChunk whole = chunk(*source, 0, source->info().file_bytes);
  std::string bytes(as_text(whole.chunk.bytes.view()));
  bytes[bytes.size() / 2] ^= 1;
  whole.chunk.bytes = Slice::copy_of(bytes);
  auto received = only<jobs::ChunkReceived>(std::move(whole));
  EXPECT_EQ(received.ack->state, State::kRefused);
  EXPECT_THAT(store->list(), SizeIs(0));
}

TEST_F(WorkerTest, PartIsDroppedWhenTheLogCoversIt) {
  auto source = snapshot_of(demo(), 20);
  EXPECT_EQ(offer(*source), State::kReceiving);
  only<jobs::ChunkReceived>(chunk(*source, 0, 10));
  EXPECT_THAT(run(jobs::DropPartial{Index(19)}), SizeIs(0));
  EXPECT_TRUE(store->partial());
  EXPECT_THAT(run(jobs::DropPartial{Index(20)}), SizeIs(0));
  EXPECT_FALSE(store->partial());
}

TEST_F(WorkerTest, NewestSoundSnapshotIsOpened) {
  auto none = only<jobs::SourceOpened>(jobs::OpenSource{NodeId(2)});
  EXPECT_EQ(none.source, nullptr);
  auto source = snapshot_of(demo(), 20);
  offer(*source);
  only<Worker::Restored>(chunk(*source, 0, source->info().file_bytes));
  auto opened = only<jobs::SourceOpened>(jobs::OpenSource{NodeId(2)});
  ASSERT_NE(opened.source, nullptr);
  auto read = only<jobs::ChunkRead>(jobs::ReadChunk{NodeId(2), opened.source, 0, 10});
  EXPECT_EQ(read.bytes.size(), 10u);
}

// 10,000 large entries would be the whole disk.
TEST_F(WorkerTest, KeepsFewLargeEntriesBehindASnapshot) {
  std::vector<raft::Entry> entries(40);
  for (size_t i = 0; i < entries.size(); ++i) {
    entries[i].index = Index(i + 1);
    entries[i].term = Term(1);
    entries[i].payload = Slice::copy_of(std::string(1000, 'x'));
    entries[i].checksum = raft::entry_checksum(entries[i]);
    storage::LogBatch batch;
    batch.hard_state.term = Term(1);
    batch.entries = {&entries[i], 1};
    ASSERT_TRUE(log->append({&batch, 1}));
  }
  const auto compact = [&](uint64_t trailing_bytes) {
    return only<jobs::Compacted>(jobs::Compact{Index(1), Index(31), trailing_bytes}).first_index;
  };
  EXPECT_EQ(compact(40'000), Index(1));
  const Index first = compact(10'000);
  EXPECT_GE(first, Index(15)) << "it is cut at whole segments, and measured by a sparse index";
  EXPECT_LE(first, Index(28));
  EXPECT_LE(compact(0), Index(31)) << "not past what the snapshot covers";
}

TEST_F(WorkerTest, ReadsAndCompactsTheLog) {
  auto loaded = only<raft::Loaded>(jobs::Load{{Index(1), Index(2), 1000}});
  EXPECT_TRUE(loaded.entries.empty());
  EXPECT_EQ(only<jobs::Compacted>(jobs::Compact{Index(1)}).first_index, Index(1));
  EXPECT_TRUE(only<jobs::SegmentPrepared>(jobs::PrepareSegment{}).ok);
  EXPECT_GT(only<jobs::SpaceChecked>(jobs::CheckSpace{}).free_bytes, 0u);
  EXPECT_EQ(supervisor.failures, 0);
}

}  // namespace
}  // namespace connectd::node
