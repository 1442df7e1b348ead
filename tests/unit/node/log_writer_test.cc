// The log writer without its thread: what leaves when, and how many batches share a sync.
#include "node/disk/log_writer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/log.h"
#include "sim/faulty_file_system.h"
#include "tests/unit/base/supervisors.h"

namespace connectd::node {
namespace {

class LogWriterTest : public ::testing::Test {
 protected:
  LogWriterTest() {
    storage::LogOptions options;
    options.segment_bytes = storage::kMinSegmentBytes;
    storage::Recovered recovered;
    auto opened = storage::Log::open(files, "log", options, {}, recovered);
    CHECK(opened.has_value()) << opened.error().text;
    log = std::move(*opened);
    writer = std::make_unique<LogWriter>(*log, supervisor, metrics);
  }
  void submit(uint64_t id) {
    raft::AppendBatch batch;
    batch.id = id;
    batch.hard_state.term = Term(1);
    raft::Entry& entry = batch.entries.emplace_back();
    entry.index = Index(id);
    entry.term = Term(1);
    entry.checksum = raft::entry_checksum(entry);
    batch.after_durable.push_back(
        {NodeId(1), NodeId(2), Term(1), raft::VoteResponse{true, static_cast<int64_t>(id)}});
    writer->submit(std::move(batch));
  }

  sim::FaultyFileSystem files{1};
  StrictSupervisor supervisor;
  std::shared_ptr<Metrics> metrics = std::make_shared<Metrics>();
  std::unique_ptr<storage::Log> log;
  std::unique_ptr<LogWriter> writer;
};

TEST_F(LogWriterTest, KeepsMessagesBackUntilDurable) {
  EXPECT_FALSE(writer->is_behind());
  submit(1);
  submit(2);
  EXPECT_TRUE(writer->is_behind());
  EXPECT_FALSE(writer->next_durable());
  EXPECT_TRUE(writer->poll_once());
  EXPECT_EQ(writer->durable_batch(), 2u);
  for (uint64_t id : {1, 2}) {
    auto durable = writer->next_durable();
    ASSERT_TRUE(durable);
    EXPECT_EQ(durable->batch, id);
    ASSERT_EQ(durable->messages.size(), 1u);
    EXPECT_EQ(std::get<raft::VoteResponse>(durable->messages[0].message).wall_ns,
              static_cast<int64_t>(id));
  }
  EXPECT_FALSE(writer->next_durable());
  EXPECT_FALSE(writer->is_behind());
}

TEST_F(LogWriterTest, WaitingBatchesShareOneWrite) {
  for (uint64_t id = 1; id <= 10; ++id) submit(id);
  EXPECT_TRUE(writer->poll_once());
  EXPECT_FALSE(writer->poll_once());
  EXPECT_EQ(writer->durable_batch(), 10u);
  EXPECT_EQ(metrics->writer.append_entries.sum(), 10u);
  uint64_t appends = 0;
  for (size_t i = 0; i < TimeHistogram::Buckets::kBuckets; ++i) {
    appends += metrics->writer.append_time.buckets().count(i);
  }
  EXPECT_EQ(appends, 1u);
}

}  // namespace
}  // namespace connectd::node
