// A snapshot of one cluster as the beginning of another.
#include "offline/restore.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "node/node.h"
#include "sim/faulty_file_system.h"
#include "storage/data_directory.h"
#include "tests/unit/base/supervisors.h"
#include "tests/unit/node/holder_harness.h"
#include "tests/unit/node/tape_plugin.h"
#include "tests/unit/offline/no_peers.h"

namespace connectd::offline {
// The tests put survivors' directories back into use, as nodes.
using namespace node;  // NOLINT(google-build-using-namespace)
namespace {

using sim::FaultyFileSystem;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

struct Stamps final : ApplyObserver {
  void on_applied(const raft::Entry& entry, int32_t, ByteView, const ReplicatedState&) override {
    if (first == 0) first = entry.stamp_ns;
  }
  void on_restored(const ReplicatedState&) override {}
  int64_t first = 0;
};

class Restore : public ::testing::Test {
 protected:
  void SetUp() override {
    ReplicatedState state;
    state.genesis.cluster_id.bytes[0] = 1;
    state.genesis.cluster_name = "old";
    state.genesis.max_request = 64;
    state.genesis.plugin_name = "tape";
    state.genesis.plugin_level = 1;
    state.genesis.plugin_options = {{"start", "0"}};
    for (uint64_t id = 1; id <= 3; ++id) {
      state.genesis.members.push_back({NodeId(id), DiskId(), "h:1", "h:2", "h:3"});
    }
    state.conf = state.genesis.conf();
    state.members = MemberList::of(state.genesis);
    state.applied = Index(500);
    state.applied_term = Term(7);
    state.stamp_ns = 1'900'000'000'000'000'000;
    state.digest = 0x1234;
    state.sessions.open(SessionId(20), {NodeId(1), 5});
    state.plugin_version = "1.0.0";
    auto store = *storage::SnapshotStore::open(files, "backups", {});
    auto writer = *store->begin({Index(500), Term(7)}, as_bytes(state.encode()));
    std::string tape(8, '\0');
    tape[0] = 2;
    ASSERT_TRUE(writer->write(as_bytes(tape + "one;two;")));
    auto info = writer->finish();
    ASSERT_TRUE(info);
    file = "backups/" + info->name;
    options.founder = {NodeId(9), DiskId(), "n:1", "n:2", "n:3"};
    options.founder.disk_id.bytes[0] = 99;
    options.cluster_id.bytes[0] = 2;
    options.cluster_name = "new";
  }

  Result<std::unique_ptr<Node>> start(const std::string& data_dir) {
    auto identity = storage::examine_directory(files, data_dir, NodeId(9));
    if (!identity) return failure(identity.error());
    if (!*identity) return failure(ErrorKind::kNotFound, "no identity");
    auto genesis = Genesis::decode(as_bytes((*identity)->genesis));
    if (!genesis) return failure(genesis.error());
    EXPECT_EQ((*identity)->cluster_id, genesis->cluster_id);
    NodeOptions node;
    node.id = (*identity)->node_id;
    node.disk_id = (*identity)->disk_id;
    node.seed = node.incarnation = ++life;
    node.may_begin_log = false;
    node.apply_observer = &stamps;
    node.wall_clock = [] { return int64_t{1'700'000'000'000'000'000}; };
    Node::Host host;
    host.files = &files;
    host.data_dir = data_dir;
    host.plugin = tape_plugin();
    host.transport = &transport;
    host.supervisor = &supervisor;
    // The clock of the new machine is behind the log's.
    return Node::open(node, *genesis, std::move(host), clocks());
  }
  Now clocks() const { return {now, 1'700'000'000'000'000'000}; }
  std::string call(Node& node, std::string_view request) {
    RecordingClient client;
    client.stream = node.open_stream(client);
    client.submit(request);
    for (int i = 0; i < 5000 && client.codes.empty(); ++i) {
      now += milliseconds(1);
      node.turn(clocks());
      node.writer().poll_once();
      node.applier().poll_once();
      node.worker().poll_once();
    }
    return client.reply(0);
  }

  FaultyFileSystem files;
  NoPeers transport;
  StrictSupervisor supervisor;
  Stamps stamps;
  std::string file;
  RestoreOptions options;
  Time now{seconds(1000)};
  uint64_t life = 0;
};

TEST_F(Restore, NewClusterGoesOnFromIt) {
  auto restored = restore_into_new_cluster(files, file, "data", options);
  ASSERT_TRUE(restored) << restored.error().text;
  EXPECT_EQ(restored->sessions.size(), 0u);
  files.crash({0, 0});  // it was durable
  auto node = start("data");
  ASSERT_TRUE(node) << node.error().text;
  EXPECT_EQ((*node)->genesis().cluster_name, "new");
  EXPECT_EQ((*node)->genesis().cluster_id, options.cluster_id);
  EXPECT_EQ((*node)->genesis().plugin_options.at("start"), "0");
  EXPECT_EQ((*node)->genesis().max_request, 64u);
  EXPECT_THAT((*node)->core().conf().voters, ElementsAre(NodeId(9)));
  EXPECT_EQ((*node)->applied_index(), Index(500));
  EXPECT_EQ((*node)->digest(), 0x1234u);
  EXPECT_EQ(call(**node, "r"), "OK one;two;");
  EXPECT_EQ(call(**node, "three"), "OK 3");
  EXPECT_GT((*node)->core().term(), Term(7));
  EXPECT_GT((*node)->applied_index(), Index(500));
  EXPECT_GT(stamps.first, 1'900'000'000'000'000'000) << "the log's time never goes back";
  node->reset();
  files.restart_process();
  node = start("data");
  ASSERT_TRUE(node) << node.error().text;
  EXPECT_EQ(call(**node, "r"), "OK one;two;three;");
}

TEST_F(Restore, KeepsTheOldNameWhenNoneIsGiven) {
  options.cluster_name.clear();
  auto restored = restore_into_new_cluster(files, file, "data", options);
  ASSERT_TRUE(restored);
  EXPECT_EQ(restored->genesis.cluster_name, "old");
}

TEST_F(Restore, WritesNothingOver) {
  ASSERT_TRUE(files.make_directory("data"));
  files.put("data/something", "x");
  auto restored = restore_into_new_cluster(files, file, "data", options);
  ASSERT_FALSE(restored);
  EXPECT_EQ(restored.error().kind, ErrorKind::kExists);
  EXPECT_THAT(restored.error().text, HasSubstr("something"));
  EXPECT_THAT(files.names("data"), ElementsAre("something"));
  ASSERT_TRUE(restore_into_new_cluster(files, file, "other", options));
  EXPECT_FALSE(restore_into_new_cluster(files, file, "other", options));
}

TEST_F(Restore, RefusesWhatIsNotWhole) {
  files.flip(file, files.content(file).size() / 2);
  auto restored = restore_into_new_cluster(files, file, "data", options);
  ASSERT_FALSE(restored);
  EXPECT_EQ(restored.error().kind, ErrorKind::kCorrupt);
  EXPECT_TRUE(files.names("data").empty());
  EXPECT_FALSE(describe_snapshot(files, file));
}

// Whatever fails, and whenever: a node starts with all of it, or is refused with what to do.
TEST_F(Restore, AnyFailureLeavesNoHalfANode) {
  uint64_t refused = 0;
  for (uint64_t nth = 1;; ++nth) {
    const std::string directory = "data" + std::to_string(nth);
    files.fail_nth_change(nth, 5);
    auto restored = restore_into_new_cluster(files, file, directory, options);
    const bool hit = files.failure_hit();
    files.clear_failures();
    files.crash();
    auto node = start(directory);
    if (restored) {
      ASSERT_TRUE(node) << nth << ": " << node.error().text;
    } else if (node) {
      EXPECT_EQ(call(**node, "r"), "OK one;two;") << nth;
    } else if (node.error().kind != ErrorKind::kNotFound) {
      EXPECT_THAT(node.error().text, HasSubstr("unfinished restore")) << nth;
      ++refused;
    }
    if (!node && nth % 4 == 0) {
      auto again = restore_into_new_cluster(files, file, directory, options);
      ASSERT_TRUE(again) << nth << ": " << again.error().text;
      files.crash({0, 0});
      node = start(directory);
      ASSERT_TRUE(node) << nth << ": " << node.error().text;
      EXPECT_EQ(call(**node, "r"), "OK one;two;") << nth;
    }
    node = failure(ErrorKind::kNotFound, "");
    for (const std::string part : {"", "/log", "/snapshots"}) {  // a crash looks at all files
      for (const std::string& name : files.names(directory + part)) {
        if (files.has(directory + part + "/" + name)) files.erase(directory + part + "/" + name);
      }
    }
    if (!hit) break;
    ASSERT_LT(nth, 1000u);
  }
  EXPECT_GT(refused, 10u);
}

// As after a full disk, also if that was so at the first byte.
TEST_F(Restore, FullDiskIsNoSecondRestore) {
  files.set_free(0);
  auto restored = restore_into_new_cluster(files, file, "data", options);
  ASSERT_FALSE(restored);
  EXPECT_EQ(restored.error().kind, ErrorKind::kNoSpace);
  files.set_free(64);
  restored = restore_into_new_cluster(files, file, "data", options);
  ASSERT_FALSE(restored);
  EXPECT_EQ(restored.error().kind, ErrorKind::kNoSpace);
  EXPECT_THAT(restored.error().text, HasSubstr("Repeat the command"));
  files.set_free(64 << 20);
  restored = restore_into_new_cluster(files, file, "data", options);
  ASSERT_TRUE(restored) << restored.error().text;
  ASSERT_TRUE(start("data"));
}

TEST_F(Restore, TellsWhatIsInAFile) {
  auto found = describe_snapshot(files, file);
  ASSERT_TRUE(found) << found.error().text;
  EXPECT_EQ(found->file.info.mark.index, Index(500));
  EXPECT_EQ(found->file.stream_bytes, 16u);
  EXPECT_EQ(found->state.genesis.cluster_name, "old");
  EXPECT_EQ(found->state.sessions.size(), 1u);
}

}  // namespace
}  // namespace connectd::offline
