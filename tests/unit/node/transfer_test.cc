// A leader and a follower that is too far behind: two whole nodes, with a network in between that
// the test cuts and processes that it ends. Catalogue rows 50, 52, 53, 54 and 56.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "node/node.h"
#include "node/snapshots/snapshot_sender.h"
#include "sim/faulty_file_system.h"
#include "tests/unit/base/supervisors.h"
#include "tests/unit/node/hello.h"
#include "tests/unit/node/holder_harness.h"
#include "tests/unit/node/tape_plugin.h"

namespace connectd::node {
namespace {

using sim::FaultyFileSystem;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

bool restore_fails = false;

int32_t restore(void* self, const connectd_snapshot* context, const connectd_source* in) {
  return restore_fails ? CONNECTD_E_CORRUPT : tape::restore(self, context, in);
}
const connectd_plugin kTable = {
    CONNECTD_PLUGIN_HEAD("tape", "1.0.0", 1, 1, 0, CONNECTD_FRAMING_LINE),
    tape::create,
    tape::destroy,
    tape::classify,
    tape::read,
    tape::apply,
    tape::snapshot,
    restore,
    nullptr};

Genesis genesis_of_three() {
  Genesis genesis;
  genesis.cluster_id.bytes[0] = 1;
  genesis.cluster_name = "demo";
  genesis.max_request = 4096;
  genesis.plugin_name = "tape";
  genesis.plugin_level = 1;
  genesis.members.push_back({NodeId(1), DiskId(), "h:1", "h:2", "h:3"});
  genesis.members.back().disk_id.bytes[0] = 1;
  return genesis;
}

class Transfer : public ::testing::Test {
 protected:
  // One process and its disk.
  struct Machine final : wire::Transport {
    Machine(Transfer& t, uint64_t id) : test(t), files(id) {
      options.id = NodeId(id);
      options.disk_id.bytes[0] = static_cast<uint8_t>(id);
      options.wall_clock = [] { return int64_t{1'700'000'000'000'000'000}; };
      options.log.segment_bytes = storage::kMinSegmentBytes;
      options.snapshot = {.log_min_bytes = 1 << 30, .trailing_entries = 2};
      options.snapshot.compression_level = 0;
      options.snapshot.block_bytes = 200;
      options.chunk_bytes = 256;
    }
    void send(NodeId to, wire::PeerMessage message) override {
      if (std::holds_alternative<wire::SnapshotChunk>(message)) ++chunks_sent;
      test.wire.push_back({options.id, to, std::move(message)});
    }
    void flush() override {}

    Transfer& test;
    FaultyFileSystem files;
    NodeOptions options;
    std::unique_ptr<Node> node;
    uint64_t life = 0;
    uint64_t chunks_sent = 0;
  };
  struct OnTheWire {
    NodeId from;
    NodeId to;
    wire::PeerMessage message;
  };

  void SetUp() override {
    restore_fails = false;
    start(leader);
    ASSERT_TRUE(until([&] { return leader.node->core().leader_is_ready(); }));
    MemberChange change;
    change.member = {NodeId(2), DiskId(), "h:4", "h:5", "h:6"};
    change.learner_only = true;
    leader.node->change_members(change, [](ChangeOutcome o) { ASSERT_TRUE(o.done()) << o.text; });
    ASSERT_TRUE(until([&] { return leader.node->core().conf_is_settled(); }));
    // Two snapshots, so that the log that the follower needs is compacted.
    for (int i = 0; i < 3; ++i) fill();
    ASSERT_GT(leader.node->core().first_index(), Index(5));
  }

  // Writes, then a snapshot.
  void fill() {
    write(40);
    Index asked = leader.node->begin_snapshot();
    ASSERT_TRUE(until([&] { return leader.node->snapshot_index() >= asked; }));
    for (int i = 0; i < 20; ++i) turn();
  }
  void write(int count) {
    RecordingClient client;
    client.stream = leader.node->open_stream(client);
    for (int i = 0; i < count; ++i) client.submit(std::string(100, 'x'));
    ASSERT_TRUE(until([&] { return client.codes.size() == static_cast<size_t>(count); }));
  }

  void start(Machine& m) {
    NodeOptions options = m.options;
    options.seed = options.incarnation = 1000 * m.options.id.value() + ++m.life;
    options.may_begin_log = m.life == 1;
    Node::Host host;
    host.files = &m.files;
    host.data_dir = "data";
    auto plugin = plugin::Plugin::wrap(&kTable);
    ASSERT_TRUE(plugin);
    host.plugin = *plugin;
    host.transport = &m;
    host.supervisor = &supervisor;
    auto opened = Node::open(options, genesis_of_three(), std::move(host), clocks());
    ASSERT_TRUE(opened) << opened.error().text;
    m.node = std::move(*opened);
    connect();
  }
  void connect() {
    if (!leader.node || !follower.node) return;
    for (auto [m, peer] : {std::pair(&leader, &follower), std::pair(&follower, &leader)}) {
      m->node->on_peer_reached(peer->options.id, hello_of(peer->options.id, peer->options.disk_id));
    }
  }
  void disconnect() {
    wire.clear();
    if (leader.node) leader.node->on_peer_lost(NodeId(2));
    if (follower.node) follower.node->on_peer_lost(NodeId(1));
  }
  void kill(Machine& m) {
    m.node.reset();
    m.files.restart_process();
    disconnect();
  }

  Now clocks() const { return {now, 1'700'000'000'000'000'000 + now.time_since_epoch().count()}; }
  void turn() {
    now += milliseconds(1);
    for (Machine* m : {&leader, &follower}) {
      if (!m->node) continue;
      m->node->turn(clocks());
      m->node->writer().poll_once();
      m->node->applier().poll_once();
      m->node->worker().poll_once();
    }
    for (OnTheWire& item : std::exchange(wire, {})) {
      Machine& to = item.to == NodeId(1) ? leader : follower;
      if (!to.node) continue;
      if (const auto* chunk = std::get_if<wire::SnapshotChunk>(&item.message)) {
        chunks.push_back(chunk->offset);
        chunk_bytes += chunk->bytes.size();
      }
      if (drop && drop(item.message)) continue;
      to.node->set_now(clocks());
      const Machine& from = item.from == NodeId(1) ? leader : follower;
      EXPECT_EQ(
          to.node->on_message(hello_of(item.from, from.options.disk_id), std::move(item.message)),
          "");
    }
  }
  template <class Condition>
  bool until(Condition condition, int limit = 20'000) {
    for (int i = 0; i < limit && !condition(); ++i) turn();
    return condition();
  }
  uint64_t file_bytes() const { return leader.node->snapshots().list().front().file_bytes; }
  uint64_t received() const {
    uint64_t most = 0;
    for (const std::string& name : follower.files.names("data/snapshots")) {
      if (name.ends_with(".partial")) {
        most = std::max(most, follower.files.content("data/snapshots/" + name).size());
      }
    }
    return most;
  }
  bool caught_up() const {
    return follower.node && follower.node->applied_index() == leader.node->applied_index();
  }

  std::vector<OnTheWire> wire;
  Time now{seconds(1000)};
  StrictSupervisor supervisor;
  Machine leader{*this, 1};
  Machine follower{*this, 2};
  std::function<bool(const wire::PeerMessage&)> drop;
  std::vector<uint64_t> chunks;  // offsets, as they were sent
  uint64_t chunk_bytes = 0;
};

TEST_F(Transfer, GoesOnWhereItBroke) {
  start(follower);
  const uint64_t size = file_bytes();
  int breaks = 0;
  for (uint64_t part = 1; part < 8; ++part) {
    ASSERT_TRUE(until([&] { return received() >= size * part / 8; })) << part;
    switch (part % 3) {
      case 0:
        disconnect();
        connect();
        break;
      case 1:
        kill(follower);
        start(follower);
        break;
      default:
        kill(leader);
        start(leader);
    }
    ++breaks;
  }
  ASSERT_TRUE(until([&] { return caught_up(); }));
  EXPECT_EQ(follower.node->snapshots_installed(), 1u);
  EXPECT_EQ(follower.node->digest(), leader.node->digest());
  // Only the chunks in flight at each break were sent twice.
  EXPECT_LE(chunk_bytes,
            size + breaks * (kStreamWindowChunks + 1) * leader.options.chunk_bytes + breaks * 300);
  EXPECT_FALSE(follower.node->snapshots().partial());
  // Catalogue row 56.
  kill(follower);
  start(follower);
  ASSERT_TRUE(until([&] { return caught_up(); }));
  EXPECT_EQ(follower.node->snapshots_installed(), 0u);
}

// The leader has taken a newer snapshot meanwhile, and the store has dropped the one in transfer.
TEST_F(Transfer, GoesOnInTheFileThatItBeganWith) {
  start(follower);
  ASSERT_TRUE(until([&] { return received() >= file_bytes() / 2; }));
  const Index began = leader.node->snapshot_index();
  const size_t sent = chunks.size();
  disconnect();
  for (int i = 0; i < 3; ++i) fill();
  ASSERT_GT(leader.node->snapshots().list().back().mark.index, began);
  connect();
  ASSERT_TRUE(until([&] { return follower.node->snapshots_installed() == 1; }));
  EXPECT_EQ(follower.node->snapshot_index(), began);
  EXPECT_GT(chunks[sent], 0u);
  // ... and the log after it was kept, so that this was the only one.
  ASSERT_TRUE(until([&] { return caught_up(); }));
  EXPECT_EQ(follower.node->snapshots_installed(), 1u);
}

// Another node's file of the same index, as after a change of leader: with another compression it
// has other bytes. The follower lives on, with a part of the first one.
TEST_F(Transfer, NeverMixesTwoFilesOfTheSameIndex) {
  start(follower);
  ASSERT_TRUE(until([&] { return received() >= file_bytes() / 2; }));
  kill(leader);
  raft::SnapshotMark mark;
  {
    auto store = *storage::SnapshotStore::open(leader.files, "data/snapshots",
                                               {.compression_level = 0, .block_bytes = 100});
    mark = store->list().front().mark;
    auto reader = *store->open_reader(mark);
    auto writer = *store->begin(mark, as_bytes(reader->metadata()));
    std::vector<uint8_t> block(1000);
    while (size_t got = *reader->read(block)) {
      ASSERT_TRUE(writer->write(ByteView(block).first(got)));
    }
    ASSERT_TRUE(writer->finish());
  }
  start(leader);
  chunks.clear();
  ASSERT_TRUE(until([&] { return caught_up(); }));
  ASSERT_FALSE(chunks.empty());
  EXPECT_EQ(chunks.front(), 0u) << "it goes on with bytes of another file";
  EXPECT_EQ(follower.node->snapshot_index(), mark.index);
  EXPECT_EQ(follower.node->digest(), leader.node->digest());
}

// Catalogue row 50: the leader's log is trimmed faster than the snapshot travels.
TEST_F(Transfer, LogBehindItIsKeptUntilTheFollowerHasIt) {
  start(follower);
  ASSERT_TRUE(until([&] { return received() > 0; }));
  const Index began = leader.node->snapshot_index();
  for (int i = 0; i < 3; ++i) {
    fill();
    EXPECT_LE(leader.node->core().first_index(), began + 1) << "a receiver needs it";
  }
  ASSERT_TRUE(until([&] { return caught_up(); }));
  EXPECT_EQ(follower.node->snapshots_installed(), 1u);
  ASSERT_TRUE(until([&] { return leader.node->core().first_index() > began + 1; }))
      << "nobody needs it any more";
}

TEST_F(Transfer, LogIsNotKeptForEver) {
  start(follower);
  ASSERT_TRUE(until([&] { return received() > 0; }));
  const Index began = leader.node->snapshot_index();
  kill(follower);
  for (int i = 0; i < 3; ++i) fill();
  EXPECT_LE(leader.node->core().first_index(), began + 1);
  // By time ...
  now += kResumePatience;
  ASSERT_TRUE(until([&] { return leader.node->core().first_index() > began + 1; }, 200));
  // ... and by bytes.
  leader.options.snapshot.held_log_bytes = 1000;
  leader.options.snapshot.log_ratio = 0;
  kill(leader);
  start(leader);
  start(follower);
  chunks.clear();
  ASSERT_TRUE(until([&] { return !chunks.empty(); }));
  const Index again = leader.node->snapshot_index();
  drop = [](const wire::PeerMessage& m) { return std::holds_alternative<wire::SnapshotAck>(m); };
  for (int i = 0; i < 3; ++i) fill();
  ASSERT_TRUE(until([&] { return leader.node->core().first_index() > again + 1; }, 200));
  drop = nullptr;
  ASSERT_TRUE(until([&] { return caught_up(); }));
}

TEST_F(Transfer, LosesChunksAndAnswersAndComesToItsEnd) {
  Random random(7);
  drop = [&](const wire::PeerMessage& m) {
    return random.chance(30) && (std::holds_alternative<wire::SnapshotAck>(m) ||
                                 std::holds_alternative<wire::SnapshotChunk>(m) ||
                                 std::holds_alternative<wire::SnapshotOffer>(m));
  };
  start(follower);
  ASSERT_TRUE(until([&] { return caught_up(); }, 1'000'000));
  EXPECT_EQ(follower.node->snapshots_installed(), 1u);
}

// It would be the newest one at the next start, and stop it.
TEST_F(Transfer, SnapshotThePluginRejectsIsNotPublished) {
  restore_fails = true;
  start(follower);
  const uint64_t size = file_bytes();
  ASSERT_TRUE(until([&] { return received() == size; }));
  const uint64_t sent = chunk_bytes;
  for (int i = 0; i < 5000; ++i) turn();
  EXPECT_TRUE(follower.node->snapshots().list().empty());
  EXPECT_EQ(follower.node->snapshots_installed(), 0u);
  EXPECT_EQ(chunk_bytes, sent) << "it need not be sent again to be tried again";
  kill(follower);
  start(follower);
  restore_fails = false;
  ASSERT_TRUE(until([&] { return caught_up(); }, 60'000));
  EXPECT_EQ(chunk_bytes, sent);
}

TEST_F(Transfer, PartIsGoneWhenTheNodeHasCaughtUpOtherwise) {
  start(follower);
  ASSERT_TRUE(until([&] { return received() > 1000; }));
  kill(follower);
  // The same state comes whole: a copy of the leader's own file and log, as an operator might put
  // it there.
  for (const std::string& name : follower.files.names("data/log")) {
    follower.files.erase("data/log/" + name);
  }
  for (const char* directory : {"data/log", "data/snapshots"}) {
    for (const std::string& name : leader.files.names(directory)) {
      const std::string path = std::string(directory) + "/" + name;
      follower.files.put(path, leader.files.content(path));
    }
  }
  start(follower);
  EXPECT_TRUE(follower.node->snapshots().partial());
  ASSERT_TRUE(until([&] { return !follower.node->snapshots().partial(); }, 500));
  EXPECT_EQ(received(), 0u);
}

TEST_F(Transfer, IsRefusedWithoutSpaceAndGoesOnWhenThereIs) {
  start(follower);
  follower.files.set_free(file_bytes() / 2);
  for (int i = 0; i < 3000; ++i) turn();
  EXPECT_EQ(received(), 0u);
  EXPECT_EQ(leader.chunks_sent, 0u);
  follower.files.set_free(1 << 30);
  ASSERT_TRUE(until([&] { return caught_up(); }, 60'000));
  EXPECT_GT(leader.chunks_sent, 0u);
}

TEST_F(Transfer, KeepsToItsRate) {
  leader.options.snapshot_rate = 8 << 10;
  kill(leader);
  start(leader);
  ASSERT_TRUE(until([&] { return leader.node->core().leader_is_ready(); }));
  start(follower);
  ASSERT_TRUE(until([&] { return !chunks.empty(); }));
  const Time began = now;
  chunk_bytes = 0;
  ASSERT_TRUE(until([&] { return follower.node->snapshots_installed() == 1; }, 100'000));
  const double took = std::chrono::duration<double>(now - began).count();
  const double due = static_cast<double>(chunk_bytes) / static_cast<double>(8 << 10);
  EXPECT_GT(took, due * 0.9 - 0.3);
  EXPECT_LT(took, due * 1.2 + 0.5);
}

TEST_F(Transfer, RateCanBeLiftedWhileItIsUnderWay) {
  leader.node->set_snapshot_rate(1 << 10);
  start(follower);
  for (int i = 0; i < 2000; ++i) turn();
  EXPECT_LT(chunk_bytes, 4000u);
  leader.node->set_snapshot_rate(0);
  ASSERT_TRUE(until([&] { return caught_up(); }, 1000));
}

TEST(RateLimit, LetsThroughWhatTimeBrings) {
  RateLimit limit;
  Time now{seconds(5)};
  EXPECT_TRUE(limit.take(1 << 30, now));
  EXPECT_EQ(limit.largest(1000), 1000u);
  limit.set(1000, now);
  EXPECT_EQ(limit.largest(100'000), 125u);
  uint64_t passed = 0;
  for (int i = 0; i < 1000; ++i) {
    while (limit.take(100, now)) passed += 100;
    EXPECT_GT(limit.next(), now);
    EXPECT_LE(limit.next(), now + milliseconds(101));
    now = limit.next();
    EXPECT_TRUE(limit.take(100, now)) << "as it said";
    passed += 100;
  }
  const double time = std::chrono::duration<double>(now - Time(seconds(5))).count();
  EXPECT_NEAR(static_cast<double>(passed), time * 1000, 300);
}

}  // namespace
}  // namespace connectd::node
