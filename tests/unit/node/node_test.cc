// One whole node, a cluster of its own, on a disk that fails: what it acknowledged is there when it
// comes back. Several nodes are the simulator's business (tests/sim).
#include "node/node.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cerrno>

#include "sim/faulty_file_system.h"
#include "tests/unit/base/supervisors.h"
#include "tests/unit/node/hello.h"
#include "tests/unit/node/holder_harness.h"
#include "tests/unit/node/scripted_capture.h"
#include "tests/unit/node/tape_plugin.h"

namespace connectd::node {
namespace {

using sim::FaultyFileSystem;
using ::testing::HasSubstr;
using ::testing::StartsWith;

class NoPeers final : public wire::Transport {
 public:
  void send(NodeId, wire::PeerMessage message) override {
    if (const auto* ack = std::get_if<wire::SnapshotAck>(&message)) snapshot_acks.push_back(*ack);
  }
  void flush() override {}

  std::vector<wire::SnapshotAck> snapshot_acks;
};

Genesis genesis_of(uint8_t cluster = 1) {
  Genesis genesis;
  genesis.cluster_id.bytes[0] = cluster;
  genesis.cluster_name = "demo";
  genesis.max_request = 64;
  genesis.plugin_name = "tape";
  genesis.plugin_level = 1;
  genesis.members.push_back({NodeId(1), DiskId(), "h:1", "h:2", "h:3"});
  return genesis;
}

class NodeBench final : public Supervisor {
 public:
  explicit NodeBench(uint64_t seed = 1) : files(seed) {
    options.id = NodeId(1);
    options.wall_clock = [] { return int64_t{1'700'000'000'000'000'000}; };
    options.log.segment_bytes = storage::kMinSegmentBytes;
  }

  void wake() override {}
  void fail(Error error) override {
    if (!fatal) fatal = std::move(error);
  }

  bool open(const Genesis& genesis = genesis_of()) {
    fatal.reset();
    options.seed = ++life;
    options.incarnation = 1000 + life;
    options.may_begin_log = !has_run;
    Node::Host host;
    host.files = &files;
    host.data_dir = "data";
    host.plugin = tape_plugin(canonical);
    host.transport = &transport;
    host.capturer = capturer.get();
    host.supervisor = this;
    auto opened = Node::open(options, genesis, std::move(host), clocks());
    if (!opened) {
      fatal = opened.error();
      return false;
    }
    node = std::move(*opened);
    has_run = true;
    return true;
  }

  Now clocks() const { return {now, 1'700'000'000'000'000'000 + now.time_since_epoch().count()}; }

  // What the node says against it; empty: nothing.
  std::string deliver(NodeId from, wire::PeerMessage message) {
    return node->on_message(hello_of(from), std::move(message));
  }

  // One turn and what the threads do meanwhile; false when the process would be dead.
  bool turn() {
    if (fatal) return false;
    now += milliseconds(1);
    node->turn(clocks());
    if (fatal) return false;
    if (++turns % writer_every == 0) {
      node->writer().poll_once();
      if (fatal) return false;
      node->writer().idle(now);
      if (fatal) return false;
    }
    node->applier().poll_once();
    if (fatal) return false;
    node->worker().poll_once();
    if (fatal) return false;
    if (!snapshotter_waits) node->snapshotter().poll_once();
    return !fatal;
  }
  template <class Condition>
  bool until(Condition condition, int limit = 5000) {
    for (int i = 0; i < limit; ++i) {
      if (condition()) return true;
      if (!turn()) return false;
    }
    return condition();
  }

  std::unique_ptr<RecordingClient> connect() {
    auto client = std::make_unique<RecordingClient>();
    client->stream = node->open_stream(*client);
    return client;
  }
  // The reply to one request on a connection of its own; "(dead)" when the process ends before.
  std::string call(std::string_view request) {
    auto client = connect();
    client->submit(request);
    if (space_returns && !until([&] { return !client->codes.empty(); }, 1500) && !fatal) {
      files.clear_failures();
    }
    if (!until([&] { return !client->codes.empty(); })) return "(dead)";
    return client->reply(0);
  }
  void die(bool power_loss) {
    node.reset();
    files.clear_failures();
    if (power_loss) {
      files.crash();
    } else {
      files.restart_process();
    }
  }

  bool canonical = false;                      // the plugin's snapshots
  std::unique_ptr<ScriptedCapturer> capturer;  // none: on the apply thread
  bool snapshotter_waits = false;
  // A node that waits for space instead of ending gets it after a while.
  bool space_returns = false;
  FaultyFileSystem files;
  NoPeers transport;
  NodeOptions options;
  Time now{seconds(1000)};
  uint64_t turns = 0;
  uint64_t writer_every = 1;  // the disk needs this many turns
  uint64_t life = 0;
  bool has_run = false;
  std::optional<Error> fatal;
  std::unique_ptr<Node> node;
};

// Small, so that snapshots, new segments and compactions all happen within a hundred writes.
void snapshot_often(NodeBench& bench) {
  bench.options.snapshot.log_min_bytes = 2048;
  bench.options.snapshot.log_ratio = 1;
  bench.options.snapshot.trailing_entries = 2;
}

TEST(Node, KeepsWhatItAcknowledgedThroughAPowerLoss) {
  NodeBench bench;
  ASSERT_TRUE(bench.open()) << bench.fatal->text;
  EXPECT_EQ(bench.call("one"), "OK 1");
  EXPECT_EQ(bench.call("two"), "OK 2");
  EXPECT_EQ(bench.call("r"), "OK one;two;");
  uint64_t digest = bench.node->digest();
  Index applied = bench.node->applied_index();
  EXPECT_NE(digest, 0u);
  bench.die(true);
  ASSERT_TRUE(bench.open()) << bench.fatal->text;
  ASSERT_TRUE(bench.until([&] { return bench.node->applied_index() >= applied; }));
  EXPECT_EQ(bench.call("r"), "OK one;two;");
  EXPECT_EQ(bench.call("three"), "OK 3");
  EXPECT_EQ(bench.call("r"), "OK one;two;three;");
}

TEST(Node, TellsWhatItsPluginAndItsDocumentSay) {
  NodeBench bench;
  ASSERT_TRUE(bench.open());
  EXPECT_EQ(bench.node->framing(), Framing::kLine);
  EXPECT_EQ(bench.node->max_request(), 64u);
  EXPECT_THAT(bench.call(std::string(65, 'w')), StartsWith("TOOLARGE"));
  EXPECT_THAT(bench.call("r-bad"), StartsWith("PLUGIN "));
  EXPECT_FALSE(bench.fatal);
}

TEST(Node, RequestBeforeTheFirstTurnHasItsWholeTime) {
  NodeBench bench;
  ASSERT_TRUE(bench.open());
  auto client = bench.connect();
  client->submit("early");
  ASSERT_TRUE(bench.until([&] { return !client->codes.empty(); }));
  EXPECT_EQ(client->reply(0), "OK 1");
}

TEST(Node, TakesSnapshotsDropsItsLogAndComesBackFromThem) {
  NodeBench bench;
  snapshot_often(bench);
  ASSERT_TRUE(bench.open());
  std::string tape;
  for (int i = 1; i <= 200; ++i) {
    std::string text = fmt::format("w{}", i);
    ASSERT_EQ(bench.call(text), fmt::format("OK {}", i));
    tape += text + ";";
    // Snapshots are looked for now and then only.
    for (int idle = 0; idle < 10; ++idle) ASSERT_TRUE(bench.turn());
  }
  EXPECT_GT(bench.node->snapshot_index(), Index(100));
  EXPECT_GT(bench.node->core().first_index(), Index(50));
  uint64_t digest = bench.node->digest();
  Index applied = bench.node->applied_index();
  Index snapshot = bench.node->snapshot_index();
  bench.die(true);
  ASSERT_TRUE(bench.open()) << bench.fatal->text;
  EXPECT_EQ(bench.node->snapshot_index(), snapshot);
  EXPECT_EQ(bench.node->applied_index(), snapshot);
  // The digest continues from its value: two entries follow automatically.
  ReplicatedState state;
  state.digest = digest;
  state.extend_digest(applied + 1, raft::EntryKind::kNoop, 0, {});
  state.extend_digest(applied + 2, raft::EntryKind::kSessionOpen, 0, {});
  ASSERT_TRUE(bench.until([&] { return bench.node->applied_index() >= applied + 2; }));
  ASSERT_EQ(bench.node->applied_index(), applied + 2);
  EXPECT_EQ(bench.node->digest(), state.digest);
  EXPECT_EQ(bench.call("r"), "OK " + tape);
}

// ---- snapshots that are captured, and written later

class CapturingNode : public ::testing::Test {
 protected:
  using Step = ScriptedCapturer::Step;
  using Cause = ScriptedCapturer::Cause;

  void SetUp() override {
    snapshot_often(bench);
    bench.capturer = std::make_unique<ScriptedCapturer>();
    ASSERT_TRUE(bench.open());
  }
  void write(int count) {
    for (int i = 0; i < count; ++i) {
      std::string text = fmt::format("w{}", ++writes);
      ASSERT_EQ(bench.call(text), fmt::format("OK {}", writes));
      tape += text + ";";
    }
  }
  // Until a snapshot is captured and waits for its thread, which sleeps from here on.
  void capture() {
    bench.snapshotter_waits = true;
    for (int i = 0; i < 1000 && !bench.node->snapshotter().has_work(); ++i) write(1);
    ASSERT_TRUE(bench.node->snapshotter().has_work());
  }
  void write_until(const std::function<bool()>& condition) {
    for (int i = 0; i < 1000 && !condition(); ++i) write(1);
    ASSERT_TRUE(condition());
  }
  void idle(Duration time) {
    for (Time end = bench.now + time; bench.now < end;) ASSERT_TRUE(bench.turn());
  }
  std::vector<std::string> files() { return bench.files.names("data/snapshots"); }

  NodeBench bench;
  int writes = 0;
  std::string tape;
};

// Rows 54 and 58: writes go on while a snapshot is written; it is of the moment of its beginning;
// and the log stays until it is durable.
TEST_F(CapturingNode, SlowSnapshotDelaysNoWriteKeepsLog) {
  capture();
  const Index applied_at_begin = bench.node->applied_index();
  EXPECT_TRUE(bench.node->is_taking_snapshot());
  EXPECT_EQ(bench.node->begin_snapshot(), applied_at_begin);
  write(300);
  EXPECT_EQ(bench.node->snapshot_index(), Index());
  EXPECT_EQ(bench.node->core().first_index(), Index(1));
  EXPECT_EQ(bench.capturer->begun(), 1) << "one at a time";
  bench.snapshotter_waits = false;
  ASSERT_TRUE(bench.until([&] { return bench.node->snapshot_index() > Index(0); }, 10));
  EXPECT_LE(bench.node->snapshot_index(), applied_at_begin);
  EXPECT_GT(bench.node->snapshot_index() + 30, applied_at_begin);
  bench.die(true);
  ASSERT_TRUE(bench.open()) << bench.fatal->text;
  EXPECT_EQ(bench.call("r"), "OK " + tape);
  EXPECT_EQ(bench.capturer->alive(), 0);
}

TEST_F(CapturingNode, EachSnapshotCompactsTheLog) {
  write_until([&] { return bench.node->core().first_index() > Index(50); });
  EXPECT_GE(bench.capturer->begun(), 2);
  bench.die(true);
  ASSERT_TRUE(bench.open()) << bench.fatal->text;
  EXPECT_EQ(bench.call("r"), "OK " + tape);
}

TEST_F(CapturingNode, ProcessMayEndWhileOneIsUnderWay) {
  capture();
  write(10);
  bench.die(true);
  EXPECT_EQ(bench.capturer->alive(), 0);
  ASSERT_TRUE(bench.open()) << bench.fatal->text;
  EXPECT_EQ(bench.node->snapshot_index(), Index());
  EXPECT_EQ(bench.call("r"), "OK " + tape);
}

TEST_F(CapturingNode, ByHandOneIsTakenOfWhatIsNew) {
  write(3);
  bench.node->begin_snapshot();
  EXPECT_TRUE(bench.node->is_taking_snapshot());
  idle(milliseconds(20));
  EXPECT_EQ(bench.node->snapshot_index(), bench.node->applied_index());
  bench.node->begin_snapshot();
  EXPECT_FALSE(bench.node->is_taking_snapshot()) << "nothing is new";
}

// A failed capture is nothing: no file, no index, no end of the node.
TEST_F(CapturingNode, OneThatFailsLeavesNothingAndIsTriedAgain) {
  for (Step step : {Step::kNotBegun, Step::kNotWritten}) {
    const uint64_t failed = bench.node->snapshots_failed();
    const Index before = bench.node->snapshot_index();
    const size_t files_before = files().size();
    bench.capturer->plan(step, Cause::kPlugin);
    write_until([&] { return bench.node->snapshots_failed() > failed; });
    EXPECT_EQ(bench.node->snapshot_failure(), "as planned");
    EXPECT_EQ(bench.node->snapshot_index(), before);
    EXPECT_EQ(files().size(), files_before);
    const int begun = bench.capturer->begun();
    idle(milliseconds(800));
    EXPECT_EQ(bench.capturer->begun(), begun) << "it waits a moment";
    idle(milliseconds(500));
    EXPECT_GT(bench.node->snapshot_index(), before);
    EXPECT_EQ(bench.node->snapshot_failure(), "");
  }
  bench.die(true);
  ASSERT_TRUE(bench.open()) << bench.fatal->text;
  EXPECT_EQ(bench.call("r"), "OK " + tape);
}

TEST_F(CapturingNode, FailedCapturesFallBackToApplyThread) {
  for (int i = 0; i < 2; ++i) bench.capturer->plan(Step::kNotWritten, Cause::kMeans);
  write_until([&] { return bench.node->snapshots_failed() == 1; });
  idle(milliseconds(1100));
  EXPECT_EQ(bench.node->snapshots_failed(), 2u);
  EXPECT_EQ(bench.node->snapshot_index(), Index());
  idle(milliseconds(2100));
  EXPECT_GT(bench.node->snapshot_index(), Index());
  EXPECT_EQ(bench.capturer->begun(), 2);
  // The next one is captured again.
  Index before = bench.node->snapshot_index();
  write_until([&] { return bench.node->snapshot_index() > before; });
  EXPECT_EQ(bench.capturer->begun(), 3);
}

// A plugin that fails or crashes there would do so on the apply thread, and take the node with it.
TEST_F(CapturingNode, PluginThatFailsIsNotCalledOnTheApplyThread) {
  for (int i = 0; i < 4; ++i) bench.capturer->plan(Step::kNotWritten, Cause::kPlugin);
  write_until([&] { return bench.node->snapshots_failed() == 1; });
  idle(seconds(1 + 2 + 4 + 1));
  EXPECT_EQ(bench.node->snapshots_failed(), 4u);
  EXPECT_EQ(bench.capturer->begun(), 4);
  idle(seconds(9));
  EXPECT_GT(bench.node->snapshot_index(), Index());
  EXPECT_EQ(bench.capturer->begun(), 5);
}

TEST_F(CapturingNode, WithAModeThatIsSetItNeverFallsBack) {
  bench.die(false);
  bench.options.snapshot.falls_back = false;
  ASSERT_TRUE(bench.open());
  for (int i = 0; i < 4; ++i) bench.capturer->plan(Step::kNotBegun, Cause::kMeans);
  write_until([&] { return bench.node->snapshots_failed() == 1; });
  idle(seconds(1 + 2 + 4 + 8 + 1));
  EXPECT_GT(bench.node->snapshot_index(), Index());
  EXPECT_EQ(bench.capturer->begun(), 5);
}

TEST_F(CapturingNode, EnospcFailsSnapshotOtherErrorsFatal) {
  capture();
  bench.files.fail_nth(sim::FileCall::kWrite, 2, ENOSPC);
  bench.node->snapshotter().poll_once();
  ASSERT_TRUE(bench.files.failure_hit());
  bench.files.clear_failures();
  ASSERT_TRUE(bench.turn());
  EXPECT_EQ(bench.node->snapshots_failed(), 1u);
  EXPECT_THAT(bench.node->snapshot_failure(), HasSubstr("No space left"));
  EXPECT_THAT(files(), testing::IsEmpty());
  write(1);
  bench.snapshotter_waits = false;
  idle(milliseconds(1200));
  EXPECT_GT(bench.node->snapshot_index(), Index());

  capture();
  bench.files.fail_nth(sim::FileCall::kWrite, 2, EIO);
  bench.node->snapshotter().poll_once();
  ASSERT_TRUE(bench.fatal);
  EXPECT_EQ(bench.fatal->kind, ErrorKind::kDisk);
  bench.die(true);
  ASSERT_TRUE(bench.open()) << bench.fatal->text;
  EXPECT_EQ(bench.call("r"), "OK " + tape);
}

TEST(Node, FullDiskIsAFailedSnapshotOnTheApplyThreadToo) {
  NodeBench bench;
  ASSERT_TRUE(bench.open());
  ASSERT_EQ(bench.call("one"), "OK 1");
  bench.node->begin_snapshot();
  ASSERT_TRUE(bench.node->is_taking_snapshot());
  bench.files.fail_nth(sim::FileCall::kWrite, 1, ENOSPC);
  bench.node->applier().poll_once();
  ASSERT_TRUE(bench.files.failure_hit());
  bench.files.clear_failures();
  for (int i = 0; i < 10; ++i) ASSERT_TRUE(bench.turn()) << bench.fatal->text;
  EXPECT_EQ(bench.node->snapshots_failed(), 1u);
  EXPECT_EQ(bench.call("two"), "OK 2");
  bench.node->begin_snapshot();
  EXPECT_TRUE(bench.node->is_taking_snapshot());
  ASSERT_TRUE(bench.until([&] { return bench.node->snapshot_index() > Index(0); }, 10));
}

// Compare entries are captured as snapshots are; while one is, a snapshot waits for it.
TEST_F(CapturingNode, CompareEntryIsHashedLaterAndASnapshotWaitsForIt) {
  bench.die(false);
  bench.canonical = true;
  bench.options.compare_interval = seconds(1);
  ASSERT_TRUE(bench.open());
  write(3);
  bench.snapshotter_waits = true;
  idle(milliseconds(1200));
  ASSERT_TRUE(bench.node->snapshotter().has_work());
  write(20);
  bench.node->begin_snapshot();
  EXPECT_TRUE(bench.node->is_taking_snapshot());
  idle(milliseconds(300));
  EXPECT_EQ(bench.node->snapshot_index(), Index());
  EXPECT_EQ(bench.capturer->begun(), 1);
  EXPECT_EQ(bench.node->snapshots_failed(), 0u);
  bench.snapshotter_waits = false;
  idle(milliseconds(300));
  EXPECT_GT(bench.node->snapshot_index(), Index());
  EXPECT_EQ(bench.capturer->begun(), 2);
}

TEST(Node, FailingPluginStopsItEachTimeItMeetsTheEntry) {
  NodeBench bench;
  ASSERT_TRUE(bench.open());
  EXPECT_EQ(bench.call("one"), "OK 1");
  Index applied = bench.node->applied_index();
  EXPECT_EQ(bench.call("fault"), "(dead)");
  ASSERT_TRUE(bench.fatal);
  EXPECT_EQ(bench.fatal->kind, ErrorKind::kPluginFailed);
  bench.die(false);
  ASSERT_TRUE(bench.open());
  EXPECT_FALSE(bench.until([] { return false; }));
  ASSERT_TRUE(bench.fatal);
  EXPECT_EQ(bench.fatal->kind, ErrorKind::kPluginFailed);
  bench.fatal.reset();
  bench.node->turn(bench.clocks());
  EXPECT_EQ(bench.node->applied_index(), applied);
}

TEST(Node, SkippedEntryMissesPluginAndIsLogged) {
  NodeBench bench;
  snapshot_often(bench);
  ASSERT_TRUE(bench.open());
  EXPECT_EQ(bench.call("one"), "OK 1");
  const Index poison = bench.node->applied_index() + 1;
  EXPECT_EQ(bench.call("fault"), "(dead)");
  EXPECT_THAT(bench.fatal->text,
              HasSubstr(fmt::format("connectctl recover --data-dir DIR --skip-entry {}", poison)));
  bench.die(true);
  // The entry as the log has it.
  raft::EntryId id;
  {
    storage::Recovered recovered;
    auto log = storage::Log::open(bench.files, "data/log", bench.options.log, {}, recovered);
    ASSERT_TRUE(log);
    auto entries = (*log)->read(poison, poison + 1, 1);
    ASSERT_TRUE(entries && entries->size() == 1);
    id = {poison, entries->front().term, entries->front().checksum};
  }
  bench.files.restart_process();
  // Another entry at that index is not this one.
  bench.options.skips = {{poison, id.term, id.checksum + 1}};
  ASSERT_TRUE(bench.open());
  EXPECT_FALSE(bench.until([] { return false; }));
  EXPECT_EQ(bench.fatal->kind, ErrorKind::kPluginFailed);
  bench.die(false);

  bench.options.skips = {id};
  ASSERT_TRUE(bench.open());
  EXPECT_EQ(bench.call("two"), "OK 2");
  EXPECT_EQ(bench.call("r"), "OK one;two;");
  const Index there = bench.node->applied_index();
  const uint64_t digest = bench.node->digest();
  bench.die(true);
  ASSERT_TRUE(bench.open());
  ASSERT_TRUE(bench.until([&] { return bench.node->applied_index() >= there; }));
  EXPECT_EQ(bench.node->digest_at(there), digest) << "the same state, from the log again";

  // A snapshot carries the list, whatever becomes of the identity file.
  for (int i = 0; bench.node->snapshot_index() <= poison; ++i) {
    ASSERT_LT(i, 1000);
    ASSERT_NE(bench.call(fmt::format("w{}", i)), "(dead)");
    for (int idle = 0; idle < 10; ++idle) ASSERT_TRUE(bench.turn());
  }
  bench.die(true);
  bench.options.skips.clear();
  ASSERT_TRUE(bench.open());
  EXPECT_EQ(bench.node->skips(), std::vector<raft::EntryId>{id});
  EXPECT_THAT(bench.call("r"), StartsWith("OK one;two;w0;"));
}

TEST(Node, LostLogIsNotBegunAnew) {
  NodeBench bench;
  ASSERT_TRUE(bench.open());
  EXPECT_EQ(bench.call("one"), "OK 1");
  bench.die(false);
  for (const std::string& name : bench.files.names("data/log"))
    bench.files.erase("data/log/" + name);
  EXPECT_FALSE(bench.open());
  EXPECT_EQ(bench.fatal->kind, ErrorKind::kCorrupt);
  EXPECT_THAT(bench.fatal->text, HasSubstr("it must not vote again"));
}

TEST(Node, LogOfAnotherClusterIsRefused) {
  NodeBench bench;
  ASSERT_TRUE(bench.open());
  EXPECT_EQ(bench.call("one"), "OK 1");
  bench.die(false);
  EXPECT_FALSE(bench.open(genesis_of(2)));
  EXPECT_EQ(bench.fatal->kind, ErrorKind::kCorrupt);
  EXPECT_THAT(bench.fatal->text, HasSubstr("different clusters"));
  EXPECT_TRUE(bench.open(genesis_of(1)));
}

TEST(Node, SnapshotOfAnotherClusterIsRefused) {
  NodeBench bench;
  snapshot_often(bench);
  ASSERT_TRUE(bench.open());
  for (int i = 0; !bench.node->snapshot_index(); ++i) {
    ASSERT_LT(i, 1000);
    bench.call("w");
  }
  bench.die(false);
  EXPECT_FALSE(bench.open(genesis_of(2)));
  EXPECT_EQ(bench.fatal->kind, ErrorKind::kCorrupt);
  EXPECT_THAT(bench.fatal->text, HasSubstr("different clusters"));
}

// The disk that was seen last may be the replaced one; the new one has another id.
TEST(Node, MemberIsBoundToTheDiskThatItComesWith) {
  NodeBench bench;
  ASSERT_TRUE(bench.open());
  ASSERT_TRUE(bench.until([&] { return bench.node->core().leader_is_ready(); }));
  auto reached = [&](uint8_t disk) {
    wire::Hello hello;
    hello.node_id = NodeId(2);
    hello.disk_id.bytes[0] = disk;
    bench.node->on_peer_reached(NodeId(2), hello);
  };
  auto disk = [&] { return bench.node->members().find(NodeId(2))->disk_id.bytes[0]; };
  auto change = [&](MemberChange::Kind kind, bool force) {
    MemberChange wanted;
    wanted.kind = kind;
    wanted.member.id = NodeId(2);
    wanted.member.peer_address = "h:9";
    wanted.learner_only = true;
    wanted.force = force;
    ChangeOutcome outcome;
    bench.node->change_members(wanted, [&](ChangeOutcome o) { outcome = std::move(o); });
    for (int i = 0; i < 300; ++i) EXPECT_TRUE(bench.turn());
    return outcome;
  };
  EXPECT_TRUE(change(MemberChange::Kind::kAdd, false).done());
  EXPECT_EQ(disk(), 0);
  reached(7);
  for (int i = 0; i < 300; ++i) ASSERT_TRUE(bench.turn());
  EXPECT_EQ(disk(), 7);
  EXPECT_THAT(change(MemberChange::Kind::kReplace, false).text, HasSubstr("stop it first"));
  EXPECT_TRUE(change(MemberChange::Kind::kReplace, true).done());
  EXPECT_EQ(disk(), 0) << "that one was given up";
  reached(8);
  for (int i = 0; i < 300; ++i) ASSERT_TRUE(bench.turn());
  EXPECT_EQ(disk(), 8);
}

// Whoever sends it, this node does not end for it, and its log gets nothing that cannot be read
// back.
TEST(Node, ContradictionsAreRefused) {
  NodeBench bench;
  ASSERT_TRUE(bench.open());
  ASSERT_TRUE(bench.until([&] { return bench.node->core().leader_is_ready(); }));
  bench.node->set_now(bench.clocks());
  const raft::Core& core = bench.node->core();
  const Term term = core.term();
  // One that this node may not have heard of yet.
  wire::Hello sender = hello_of(NodeId(2));
  sender.members_index = core.last_index() + 10;
  auto refused = [&](wire::PeerMessage message) {
    return bench.node->on_message(sender, std::move(message));
  };
  auto envelope = [&](Term of, auto message) {
    return raft::Envelope{NodeId(2), NodeId(1), of, std::move(message)};
  };
  EXPECT_THAT(refused(envelope(term, raft::Heartbeat{Index(1), 1})), HasSubstr("two leaders"));
  wire::SnapshotOffer offer;
  offer.leader_term = term;
  EXPECT_THAT(refused(offer), HasSubstr("two leaders"));
  EXPECT_EQ(core.role(), raft::Role::kLeader);
  EXPECT_TRUE(bench.turn());

  offer.leader_term = term + 1;
  offer.file.mark = {core.commit_index(), core.term_at(core.commit_index()) + 1};
  EXPECT_THAT(refused(offer), HasSubstr("contradicts the committed log"));
  EXPECT_EQ(core.term(), term);

  raft::Entry entry;
  entry.index = core.last_index() + 1;
  entry.term = term + 1;
  entry.kind = raft::EntryKind::kConfChange;
  entry.payload = Slice::copy_of(core.conf().encode() + "this is no list of members");
  entry.checksum = raft::entry_checksum(entry);
  raft::AppendRequest append;
  append.prev_index = core.last_index();
  append.prev_term = term;
  append.entries = {entry};
  EXPECT_THAT(refused(envelope(term + 1, append)), HasSubstr("list of members"));
  EXPECT_TRUE(bench.turn());
  EXPECT_EQ(core.last_index(), append.prev_index);

  // Below the commit index prev_term is not looked at, so it proves nothing about what follows.
  ASSERT_GT(core.term_at(core.commit_index()), Term(1));
  append.prev_index = core.commit_index() - 1;
  append.prev_term = Term(1);
  append.entries.clear();
  for (uint64_t i : {1, 2}) {
    entry.index = append.prev_index + i;
    entry.term = Term(1);
    entry.kind = raft::EntryKind::kNoop;
    entry.payload = Slice();
    entry.checksum = raft::entry_checksum(entry);
    append.entries.push_back(entry);
  }
  EXPECT_THAT(refused(envelope(term + 1, append)), HasSubstr("committed log"));
  EXPECT_TRUE(bench.turn());
  EXPECT_EQ(core.last_index(), core.commit_index());
}

// Catalogue D45: the votes that were given from the disk before this one are forgotten.
TEST(Node, UnknownDiskNeitherVotesNorCampaigns) {
  for (bool known : {true, false}) {
    NodeBench bench;
    Genesis genesis = genesis_of();
    genesis.members[0].disk_id.bytes[0] = 1;
    genesis.members.push_back({NodeId(2), DiskId(), "h:4", "h:5", "h:6"});
    bench.options.disk_id.bytes[0] = known ? 1 : 2;
    ASSERT_TRUE(bench.open(genesis)) << bench.fatal->text;
    bench.node->set_now(bench.clocks());
    EXPECT_EQ(bench.deliver(NodeId(2), raft::Envelope{NodeId(2), NodeId(1), Term(5),
                                                      raft::VoteRequest{Index(9), Term(4), false}}),
              "");
    EXPECT_EQ(bench.node->core().hard_state().vote, known ? NodeId(2) : NodeId());
    for (int i = 0; i < 3000; ++i) ASSERT_TRUE(bench.turn());
    EXPECT_EQ(bench.node->core().role() == raft::Role::kPreCandidate, known);
  }
}

TEST(Node, ShutDownFinishesWhatIsOutAndTakesNothingNew) {
  NodeBench bench;
  ASSERT_TRUE(bench.open());
  EXPECT_EQ(bench.call("one"), "OK 1");
  auto client = bench.connect();
  client->submit("two");
  bench.node->turn(bench.clocks());  // handed on
  bench.node->shut_down();
  client->submit("three");
  ASSERT_TRUE(bench.until([&] { return client->codes.size() == 2; }));
  EXPECT_EQ(client->reply(0), "OK 2");
  EXPECT_THAT(client->reply(1), StartsWith("SHUTDOWN"));
  EXPECT_EQ(bench.node->holder().held(), 0u);
}

// A follower fed by hand: node 2, whose leader is node 1.
// Entries of term 2 that were not requested.
std::vector<raft::Entry> noops(uint64_t from, uint64_t to) {
  std::vector<raft::Entry> entries;
  for (uint64_t index = from; index <= to; ++index) {
    raft::Entry entry;
    entry.index = Index(index);
    entry.term = Term(2);
    entry.kind = raft::EntryKind::kNoop;
    entry.stamp_ns = static_cast<int64_t>(index);
    entry.checksum = raft::entry_checksum(entry);
    entries.push_back(std::move(entry));
  }
  return entries;
}

// Node 2 of two, applied up to index 40 and about to snapshot that, while node 1, which leads,
// sends its snapshot of index 100.
class FollowerOfASnapshot : public ::testing::Test {
 protected:
  void SetUp() override {
    genesis.members.push_back({NodeId(2), DiskId(), "h:4", "h:5", "h:6"});
    bench.options.id = NodeId(2);
    bench.options.apply_inline = false;
    bench.options.snapshot.log_min_bytes = 256;

    FaultyFileSystem leader_files;
    auto store = *storage::SnapshotStore::open(leader_files, "snapshots", {});
    auto instance = plugin::Instance::create(tape_plugin(), {});
    StrictSupervisor supervisor;
    Applier leader({NodeId(1), 1, false, 0, [] { return int64_t{1}; }, nullptr},
                   {ReplicatedState::at_genesis(genesis), std::move(*instance)}, *store,
                   supervisor);
    std::vector<raft::Entry> whole_log = noops(2, 100);
    whole_log.insert(whole_log.begin(), genesis.entry());
    leader.apply(whole_log);
    leader.take_snapshot();
    leader.poll_once();
    auto source = store->open_source({Index(100), Term(2)});
    ASSERT_TRUE(source) << source.error().text;
    auto bytes = (*source)->read(0, 1 << 20);
    ASSERT_TRUE(bytes);
    file_name = store->list()[0].name;
    chunk.file = (*source)->file();
    chunk.leader_term = Term(2);
    chunk.bytes = *bytes;

    ASSERT_TRUE(bench.open(genesis)) << bench.fatal->text;
    raft::AppendRequest append;
    append.prev_index = Index(1);
    append.prev_term = Term(1);
    append.commit = Index(40);
    append.round = 1;
    append.entries = noops(2, 40);
    bench.node->set_now(bench.clocks());
    EXPECT_EQ(bench.deliver(NodeId(1), raft::Envelope{NodeId(1), NodeId(2), Term(2), append}), "");
    ASSERT_TRUE(bench.until([&] { return bench.node->applied_index() == Index(40); }, 40));
    // From here on the apply thread sleeps: its snapshot is asked for, the leader's arrives.
    for (int i = 0; i < 100 && !bench.node->applier().has_work(); ++i) turn(true);
    ASSERT_TRUE(bench.node->applier().has_work());
  }
  // As the leader does: it offers the file, and sends it when it is asked to.
  void send_all() {
    EXPECT_EQ(bench.deliver(NodeId(1), wire::SnapshotOffer{chunk.file, chunk.leader_term}), "");
    EXPECT_EQ(bench.deliver(NodeId(1), chunk), "");
  }
  void turn(bool with_writer) {
    bench.now += milliseconds(1);
    bench.node->turn(bench.clocks());
    if (with_writer) bench.node->writer().poll_once();
    bench.node->worker().poll_once();
  }

  NodeBench bench;
  Genesis genesis = genesis_of();
  wire::SnapshotChunk chunk;  // all of the leader's snapshot
  std::string file_name;
};

TEST_F(FollowerOfASnapshot, LateOwnSnapshotKeepsNewerOfLeader) {
  send_all();
  for (int i = 0; i < 5; ++i) turn(true);
  EXPECT_EQ(bench.node->snapshots_installed(), 1u);
  EXPECT_EQ(bench.node->snapshot_index(), Index(100));
  for (int i = 0; i < 5; ++i) ASSERT_TRUE(bench.turn()) << bench.fatal->text;
  EXPECT_TRUE(bench.files.has("data/snapshots/" + file_name));
  EXPECT_EQ(bench.node->applied_index(), Index(100));
  EXPECT_EQ(bench.node->snapshot_index(), Index(100));
  bench.die(true);
  ASSERT_TRUE(bench.open(genesis)) << bench.fatal->text;
  EXPECT_EQ(bench.node->snapshot_index(), Index(100));
  EXPECT_EQ(bench.node->core().last_index(), Index(100));
}

// The same where snapshots are captured.
class CapturingFollower : public FollowerOfASnapshot {
 protected:
  CapturingFollower() { bench.capturer = std::make_unique<ScriptedCapturer>(); }
  void expect_the_leaders() {
    for (int i = 0; i < 5; ++i) ASSERT_TRUE(bench.turn()) << bench.fatal->text;
    EXPECT_FALSE(bench.node->is_taking_snapshot());
    EXPECT_EQ(bench.node->snapshot_index(), Index(100));
    EXPECT_EQ(bench.node->applied_index(), Index(100));
    EXPECT_EQ(bench.node->snapshots_failed(), 0u);
    EXPECT_EQ(bench.capturer->begun(), 1);
    EXPECT_EQ(bench.capturer->alive(), 0);
    EXPECT_EQ(bench.files.names("data/snapshots"), std::vector<std::string>{file_name});
    bench.die(true);
    ASSERT_TRUE(bench.open(genesis)) << bench.fatal->text;
    EXPECT_EQ(bench.node->snapshot_index(), Index(100));
  }
};

TEST_F(CapturingFollower, NewerSnapshotOfLeaderAbortsOwn) {
  bench.node->applier().poll_once();
  turn(true);
  ASSERT_TRUE(bench.node->snapshotter().has_work());
  send_all();
  for (int i = 0; i < 5; ++i) turn(true);
  ASSERT_EQ(bench.node->snapshots_installed(), 1u);
  expect_the_leaders();
}

TEST_F(CapturingFollower, OneThatIsCapturedAfterTheLeadersCameIsGivenUp) {
  send_all();
  for (int i = 0; i < 5; ++i) turn(true);
  ASSERT_EQ(bench.node->snapshots_installed(), 1u);
  ASSERT_EQ(bench.capturer->begun(), 0);
  expect_the_leaders();
}

// It acknowledged everything up to 100. The older snapshot and the log end at 40.
TEST_F(FollowerOfASnapshot, DamagedSnapshotIsSkippedOnlyIfTheLogHasAllOfIt) {
  send_all();
  for (int i = 0; i < 5; ++i) turn(false);
  ASSERT_EQ(bench.node->snapshot_index(), Index(100));
  bench.node->applier().poll_once();
  ASSERT_EQ(bench.files.names("data/snapshots").size(), 2u);
  bench.die(true);
  bench.files.flip("data/snapshots/" + file_name, chunk.file.bytes / 2);
  ASSERT_FALSE(bench.open(genesis));
  EXPECT_EQ(bench.fatal->kind, ErrorKind::kCorrupt);
  EXPECT_THAT(bench.fatal->text, HasSubstr(file_name + " is damaged"));
  EXPECT_THAT(bench.fatal->text, HasSubstr("the log ends at index 40"));
  // With the file as it was, all is well.
  bench.files.flip("data/snapshots/" + file_name, chunk.file.bytes / 2);
  ASSERT_TRUE(bench.open(genesis)) << bench.fatal->text;
  EXPECT_EQ(bench.node->core().last_index(), Index(100));
}

// Catalogue E54, F68: what is committed is applied before this node's own disk has it. "Installed"
// is a vote for the commit of everything that the snapshot covers, so it waits for the disk.
TEST_F(FollowerOfASnapshot, AppliedButNotDurableIsNotInstalled) {
  raft::AppendRequest append;
  append.prev_index = Index(40);
  append.prev_term = Term(2);
  append.commit = Index(100);
  append.round = 2;
  append.entries = noops(41, 100);
  EXPECT_EQ(bench.deliver(NodeId(1), raft::Envelope{NodeId(1), NodeId(2), Term(2), append}), "");
  turn(false);
  ASSERT_EQ(bench.node->core().commit_index(), Index(100));
  ASSERT_EQ(bench.node->core().durable_index(), Index(40));
  EXPECT_EQ(bench.deliver(NodeId(1), chunk), "");
  ASSERT_EQ(bench.transport.snapshot_acks.size(), 1u);
  EXPECT_EQ(bench.transport.snapshot_acks[0].state, wire::SnapshotAck::State::kWorking);
  turn(true);
  turn(true);
  EXPECT_EQ(bench.deliver(NodeId(1), chunk), "");
  ASSERT_EQ(bench.transport.snapshot_acks.size(), 2u);
  EXPECT_EQ(bench.transport.snapshot_acks[1].state, wire::SnapshotAck::State::kInstalled);
}

TEST_F(FollowerOfASnapshot, ItsVoteOutlivesTheLogThatASnapshotReplaces) {
  EXPECT_EQ(bench.deliver(NodeId(1), raft::Envelope{NodeId(1), NodeId(2), Term(3),
                                                    raft::VoteRequest{Index(200), Term(2),
                                                                      /*leader_transfer=*/true}}),
            "");
  turn(true);
  ASSERT_EQ(bench.node->core().hard_state().vote, NodeId(1));
  chunk.leader_term = Term(3);
  send_all();
  for (int i = 0; i < 5; ++i) turn(true);
  ASSERT_EQ(bench.node->snapshot_index(), Index(100));
  bench.die(true);
  ASSERT_TRUE(bench.open(genesis)) << bench.fatal->text;
  ASSERT_EQ(bench.node->core().last_index(), Index(100));
  EXPECT_EQ(bench.node->core().hard_state().term, Term(3));
  EXPECT_EQ(bench.node->core().hard_state().vote, NodeId(1));
}

TEST_F(FollowerOfASnapshot, ChunkTellsOfANewTerm) {
  chunk.leader_term = Term(7);
  EXPECT_EQ(bench.deliver(NodeId(1), chunk), "");
  EXPECT_EQ(bench.node->core().term(), Term(7));
  EXPECT_EQ(bench.node->core().leader(), NodeId(1));
}

// How the disk misbehaves, and at which call.
struct Mischief {
  enum class Kind { kCall, kChange, kPowerOff } kind = Kind::kChange;
  sim::FileCall call{};  // kCall
  bool sticky = false;
  int error_number = EIO;
  // During recovery after a run without faults; else while it begins, writes and takes snapshots.
  bool in_recovery = false;

  void arm(FaultyFileSystem& files, uint64_t nth) const {
    switch (kind) {
      case Kind::kCall:
        return files.fail_nth(call, nth, error_number, sticky);
      case Kind::kChange:
        return files.fail_nth_change(nth, error_number, sticky);
      case Kind::kPowerOff:
        return files.power_off_at_change(nth);
    }
  }
};

constexpr size_t kWrites = 120;

// Writes until all are acknowledged, or the process would be dead.
void write_all(NodeBench& bench, std::vector<std::string>& acknowledged) {
  while (acknowledged.size() < kWrites) {
    std::string text = fmt::format("w{:03}", acknowledged.size());
    std::string reply = bench.call(text);
    if (reply == "(dead)") return;
    EXPECT_THAT(reply, StartsWith("OK "));
    acknowledged.push_back(text);
    for (int idle = 0; idle < 10 && bench.turn(); ++idle) {
    }
    if (bench.fatal) return;
  }
}

// Runs the node with a disk that misbehaves at one point, then again with a good disk.
// Returns whether the point was reached. Everything acknowledged must be there, once, in order.
bool survives(uint64_t nth, const Mischief& mischief) {
  NodeBench bench(nth);
  snapshot_often(bench);
  bench.writer_every = 5;  // reveals code that does not wait for the disk
  bench.space_returns = mischief.error_number == ENOSPC;
  std::vector<std::string> acknowledged;
  if (mischief.in_recovery) {
    EXPECT_TRUE(bench.open());
    write_all(bench, acknowledged);
    EXPECT_EQ(acknowledged.size(), kWrites);
    bench.die(true);
  }
  mischief.arm(bench.files, nth);
  if (bench.open() && !mischief.in_recovery) {
    write_all(bench, acknowledged);
  }
  const bool hit = bench.files.failure_hit();
  if (bench.fatal) {
    EXPECT_TRUE(hit) << bench.fatal->text;
    EXPECT_TRUE(is_of_disk(bench.fatal->kind)) << bench.fatal->text;
  } else {
    EXPECT_EQ(acknowledged.size(), kWrites);
  }
  bench.die(true);
  EXPECT_TRUE(bench.open()) << bench.fatal->text;
  if (!bench.node) return hit;
  std::string tape = bench.call("r");
  EXPECT_THAT(tape, StartsWith("OK "));
  std::string expected = "OK ";
  for (const std::string& text : acknowledged) expected += text + ";";
  // The one that was out when it died may be there, too.
  if (tape != expected) {
    expected += fmt::format("w{:03};", acknowledged.size());
    EXPECT_EQ(tape, expected);
  }
  // It works again: it accepts a write, and keeps it.
  EXPECT_THAT(bench.call("after"), StartsWith("OK "));
  return hit;
}

// Every N, until a run makes fewer calls than N. Returns their number.
uint64_t survives_every_call(const Mischief& mischief, const std::string& what) {
  uint64_t nth = 1;
  for (; survives(nth, mischief); ++nth) {
    if (::testing::Test::HasFailure()) {
      ADD_FAILURE() << what << ", number " << nth;
      break;
    }
    if (nth >= 20'000) {
      ADD_FAILURE() << what << ": there is no end";
      break;
    }
  }
  return nth - 1;
}

TEST(Node, ComparesStateWhenDueAndWritten) {
  for (bool canonical : {true, false}) {
    NodeBench bench;
    bench.canonical = canonical;
    bench.options.compare_interval = milliseconds(500);
    ASSERT_TRUE(bench.open());
    auto client = bench.connect();
    client->submit("a");
    ASSERT_TRUE(bench.until([&] { return client->codes.size() == 1; }));
    Index last = bench.node->applied_index();
    for (int i = 0; i < 2000; ++i) ASSERT_TRUE(bench.turn());
    // One entry, and none of an idle cluster after it.
    EXPECT_EQ(bench.node->applied_index(), canonical ? last + 1 : last);
    client->submit("b");
    for (int i = 0; i < 2000; ++i) ASSERT_TRUE(bench.turn());
    EXPECT_EQ(bench.node->applied_index(), canonical ? last + 3 : last + 1);
    EXPECT_EQ(bench.node->digest_at(bench.node->applied_index()), bench.node->digest());
    EXPECT_NE(bench.node->digest_at(last), bench.node->digest());
    EXPECT_EQ(bench.node->digest_at(bench.node->applied_index() + 1), std::nullopt);
  }
}

// SQLite's loop: the 1st, 2nd, 3rd ... call fails, once and for good, while the node lives and
// while it recovers.
TEST(NodeOnABadDisk, AnyFailingChangeEndsItAndLosesNothing) {
  for (bool sticky : {false, true}) {
    Mischief mischief;
    mischief.sticky = sticky;
    EXPECT_GT(survives_every_call(mischief, "change"), 200u) << "nothing was tested";
    mischief.error_number = ENOSPC;
    EXPECT_GT(survives_every_call(mischief, "change without space"), 200u);
  }
}

TEST(NodeOnABadDisk, AnyFailingCallOfAnyKindEndsItAndLosesNothing) {
  constexpr std::pair<sim::FileCall, const char*> kCalls[] = {
      {sim::FileCall::kOpen, "open"},
      {sim::FileCall::kRead, "read"},
      {sim::FileCall::kWrite, "write"},
      {sim::FileCall::kFill, "fill"},
      {sim::FileCall::kSync, "sync"},
      {sim::FileCall::kSyncDirectory, "sync of a directory"},
      {sim::FileCall::kRename, "rename"},
      {sim::FileCall::kRemove, "remove"},
      {sim::FileCall::kMakeDirectory, "make a directory"},
      {sim::FileCall::kList, "list"}};
  static_assert(std::size(kCalls) == sim::kFileCalls);
  std::string counts;
  for (bool in_recovery : {false, true}) {
    for (const auto& [call, name] : kCalls) {
      for (bool sticky : {false, true}) {
        Mischief mischief;
        mischief.kind = Mischief::Kind::kCall;
        mischief.call = call;
        mischief.sticky = sticky;
        mischief.in_recovery = in_recovery;
        const std::string what = fmt::format("{}{}{}", name, sticky ? ", sticky" : "",
                                             in_recovery ? ", in recovery" : "");
        uint64_t calls = survives_every_call(mischief, what);
        if (::testing::Test::HasFailure()) return;
        // Recovery renames nothing, and removes only what a crash left.
        const bool may_be_none =
            in_recovery && (call == sim::FileCall::kRename || call == sim::FileCall::kRemove ||
                            call == sim::FileCall::kFill);
        EXPECT_TRUE(calls > 0 || may_be_none) << what << " was never called";
        if (!sticky) counts += fmt::format(" {}: {};", what, calls);
      }
    }
  }
  fmt::print("calls that failed, each once and once for good:{}\n", counts);
}

TEST(NodeOnABadDisk, PowerMayGoAtAnyChange) {
  Mischief mischief;
  mischief.kind = Mischief::Kind::kPowerOff;
  EXPECT_GT(survives_every_call(mischief, "power off at change"), 200u);
  mischief.in_recovery = true;
  EXPECT_GT(survives_every_call(mischief, "power off in recovery at change"), 3u);
}

}  // namespace
}  // namespace connectd::node
