// What a node starts from, without the node; and what its threads run over it.
#include "node/opening.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "node/threads.h"
#include "sim/faulty_file_system.h"
#include "tests/unit/base/supervisors.h"
#include "tests/unit/node/tape_plugin.h"

namespace connectd::node {
namespace {

using ::testing::HasSubstr;

class OpeningTest : public ::testing::Test {
 protected:
  OpeningTest() {
    options.id = NodeId(1);
    options.wall_clock = [] { return int64_t{1}; };
    options.log.segment_bytes = storage::kMinSegmentBytes;
    genesis.cluster_id.bytes[0] = 1;
    genesis.cluster_name = "demo";
    genesis.max_request = 64;
    genesis.plugin_name = "tape";
    genesis.plugin_level = 1;
    genesis.members.push_back({NodeId(1), DiskId(), "h:1", "h:2", "h:3"});
  }
  Result<Opened> open() { return open_directory(options, genesis, files, "data", tape_plugin()); }

  sim::FaultyFileSystem files{1};
  NodeOptions options;
  Genesis genesis;
};

TEST_F(OpeningTest, EmptyDirectoryBeginsWithTheGenesis) {
  auto opened = open();
  ASSERT_TRUE(opened) << opened.error().text;
  EXPECT_TRUE(opened->initial.is_fresh);
  EXPECT_EQ(opened->initial.last_index, kGenesisIndex);
  EXPECT_EQ(opened->initial.conf.voters, std::vector<NodeId>{NodeId(1)});
  EXPECT_FALSE(opened->initial.snapshot.index);
  EXPECT_EQ(opened->start.state.applied, Index());
}

TEST_F(OpeningTest, SecondOpeningFindsWhatTheFirstWrote) {
  ASSERT_TRUE(open());
  options.may_begin_log = false;
  auto opened = open();
  ASSERT_TRUE(opened) << opened.error().text;
  EXPECT_FALSE(opened->initial.is_fresh);
  EXPECT_EQ(opened->initial.last_index, kGenesisIndex);
}

TEST_F(OpeningTest, EmptyLogOfANodeThatHasRunIsRefused) {
  options.may_begin_log = false;
  auto opened = open();
  ASSERT_FALSE(opened);
  EXPECT_EQ(opened.error().kind, ErrorKind::kCorrupt);
  EXPECT_THAT(opened.error().text, HasSubstr("its entries and votes are lost"));
}

TEST_F(OpeningTest, LogOfAnotherClusterIsRefused) {
  ASSERT_TRUE(open());
  genesis.cluster_name = "other";
  auto opened = open();
  ASSERT_FALSE(opened);
  EXPECT_EQ(opened.error().kind, ErrorKind::kCorrupt);
  EXPECT_THAT(opened.error().text, HasSubstr("belong to different clusters"));
}

TEST_F(OpeningTest, SkipsAreThoseOfTheOptions) {
  options.skips = {{Index(7), Term(2), 3}};
  auto opened = open();
  ASSERT_TRUE(opened);
  EXPECT_EQ(opened->skips, options.skips);
}

// ---- Threads

TEST_F(OpeningTest, ThreadsCarryOutTheirEffects) {
  auto opened = open();
  ASSERT_TRUE(opened);
  NodeHost host;
  host.files = &files;
  host.data_dir = "data";
  host.plugin = tape_plugin();
  StrictSupervisor supervisor;
  host.supervisor = &supervisor;
  Threads threads(options, genesis, host, std::move(*opened));

  jobs::Orders orders;
  orders.tasks.push_back(jobs::CheckSpace{});
  orders.take_snapshot = SnapshotHow::kInline;
  threads.carry_out(orders);
  EXPECT_TRUE(threads.worker.poll_once());
  EXPECT_GT(supervisor.wakes, 0);
  std::vector<Worker::Item> items;
  ASSERT_TRUE(threads.worker.take_results(items));
  EXPECT_TRUE(std::holds_alternative<jobs::SpaceChecked>(items.at(0)));
  EXPECT_TRUE(threads.applier.has_work()) << "the snapshot is queued";
}

}  // namespace
}  // namespace connectd::node
