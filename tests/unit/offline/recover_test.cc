// What an operator does to data directories when Raft alone goes no further: which log is taken,
// who agrees on what, what is refused and leaves the directory as it was, and what a crash leaves.
#include "offline/recover.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cerrno>

#include "node/node.h"
#include "sim/faulty_file_system.h"
#include "storage/log.h"
#include "storage/snapshot_store.h"
#include "tests/unit/node/hello.h"
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
using ::testing::IsEmpty;

DiskId disk(uint64_t node) {
  DiskId id;
  id.bytes[0] = static_cast<uint8_t>(node);
  return id;
}

Genesis five_members() {
  Genesis genesis;
  genesis.cluster_id.bytes = {7, 7};
  genesis.cluster_name = "demo";
  genesis.max_request = 64;
  genesis.plugin_name = "tape";
  genesis.plugin_level = 1;
  for (uint64_t id = 1; id <= 5; ++id) {
    genesis.members.push_back({NodeId(id), disk(id), fmt::format("h{}:1", id), "", ""});
  }
  return genesis;
}

std::string directory(uint64_t node) { return fmt::format("n{}", node); }

raft::Entry entry(uint64_t index, uint64_t term, raft::EntryKind kind, std::string_view payload) {
  raft::Entry entry;
  entry.index = Index(index);
  entry.term = Term(term);
  entry.kind = kind;
  entry.stamp_ns = static_cast<int64_t>(index) + 100;
  entry.payload = Slice::copy_of(payload);
  entry.checksum = raft::entry_checksum(entry);
  return entry;
}
raft::Entry session_of(uint64_t index, uint64_t term, uint64_t node) {
  return entry(index, term, raft::EntryKind::kSessionOpen,
               wire::SessionOwner{NodeId(node), 5}.encode());
}

// A node's directory: the founding entry, a session of each of nodes 1 and 2, then commands of term
// 2 and of `last_term` up to `last`.
void make_directory(FaultyFileSystem& files, uint64_t node, uint64_t last, uint64_t last_term,
                    uint64_t term, uint64_t commit) {
  const Genesis genesis = five_members();
  ASSERT_TRUE(files.make_directory(directory(node)));
  storage::Identity identity{NodeId(node), disk(node), genesis.cluster_id, genesis.encode(), true};
  ASSERT_TRUE(storage::save_identity(files, directory(node), identity));
  storage::Recovered recovered;
  auto log =
      storage::Log::open(files, directory(node) + "/log", {.segment_bytes = 4096}, {}, recovered);
  ASSERT_TRUE(log) << log.error().text;
  std::vector<raft::Entry> entries{genesis.entry(), session_of(2, 2, 1), session_of(3, 2, 2)};
  for (uint64_t index = 4; index <= last; ++index) {
    raft::Entry command = entry(index, index < last ? 2 : last_term, raft::EntryKind::kCommand,
                                fmt::format("w{}", index));
    command.session = SessionId(3);
    command.sequence = Sequence(index - 3);
    command.checksum = raft::entry_checksum(command);
    entries.push_back(std::move(command));
  }
  for (auto part : {std::span(entries).first(3), std::span(entries).subspan(3)}) {
    storage::LogBatch batch{{Term(term), NodeId(), Index(commit)}, std::nullopt, part};
    ASSERT_TRUE((*log)->append(std::span(&batch, 1)));
  }
}

// Nodes 2 and 3 live: node 3 has the longer log, node 2 the newer one.
struct TwoOfFive {
  explicit TwoOfFive(uint64_t seed = 1) : files(seed) {
    make_directory(files, 2, 8, 7, 7, 6);
    make_directory(files, 3, 11, 2, 9, 5);
    files.crash({100, 100});
  }
  Survivor look(uint64_t node) {
    auto survivor = look_at_survivor(files, directory(node));
    if (!survivor) {
      ADD_FAILURE() << survivor.error().text;
      return {};
    }
    return *survivor;
  }
  std::vector<GivenSurvivor> both() {
    std::vector<GivenSurvivor> given;
    for (uint64_t node : {3, 2}) {
      const Survivor survivor = look(node);
      auto one = parse_survivor(survivor_text(survivor));
      if (one) given.push_back(*one);
    }
    return given;
  }
  Result<void> recover(uint64_t node, const std::vector<GivenSurvivor>& given) {
    auto survivor = look_at_survivor(files, directory(node));
    if (!survivor) return failure(survivor.error());
    auto plan = plan_recovery(*survivor, given, 1234);
    if (!plan) return failure(plan.error());
    return carry_out(files, directory(node), *survivor, *plan);
  }
  // Everything in a directory, byte for byte.
  std::string all(uint64_t node) {
    std::string text;
    for (const std::string part : {"", "/log", "/snapshots"}) {
      const std::string in = directory(node) + part;
      for (const std::string& name : files.names(in)) {
        if (files.has(in + "/" + name)) text += name + files.content(in + "/" + name);
      }
    }
    return text;
  }

  FaultyFileSystem files;
};

// The nodes whose sessions are open after each entry.
struct SeenSessions final : ApplyObserver {
  void on_applied(const raft::Entry& entry, int32_t, ByteView,
                  const ReplicatedState& state) override {
    of_node_1[entry.index] = state.sessions.find(SessionId(2)) != nullptr;
    of_node_2[entry.index] = state.sessions.find(SessionId(3)) != nullptr;
  }
  void on_restored(const ReplicatedState&) override {}
  std::map<Index, bool> of_node_1;
  std::map<Index, bool> of_node_2;
};

// A node on a directory, turned by hand.
struct RunningNode final : Supervisor {
  explicit RunningNode(FaultyFileSystem& files, uint64_t id) {
    auto identity = storage::load_identity(files, directory(id));
    if (!identity || !*identity) return;
    NodeOptions options;
    options.id = NodeId(id);
    options.disk_id = disk(id);
    options.cluster_id = (*identity)->cluster_id;
    options.former_cluster_ids = (*identity)->former_cluster_ids;
    options.skips = (*identity)->skips;
    options.may_begin_log = false;
    options.log.segment_bytes = 4096;
    options.incarnation = options.seed = 77 + id;
    options.wall_clock = [] { return int64_t{1'700'000'000'000'000'000}; };
    options.apply_observer = &sessions;
    Node::Host host;
    host.files = &files;
    host.data_dir = directory(id);
    host.plugin = tape_plugin();
    host.transport = &transport;
    host.supervisor = this;
    auto opened = Node::open(options, five_members(), std::move(host), clocks());
    if (opened) {
      node = std::move(*opened);
    } else {
      fatal = opened.error();
    }
  }
  void wake() override {}
  void fail(Error error) override { fatal = std::move(error); }
  Now clocks() const { return {now, 1'700'000'000'000'000'000}; }
  template <class Condition>
  bool until(Condition condition, int limit = 20'000) {
    for (int i = 0; i < limit && !fatal && !condition(); ++i) {
      now += milliseconds(1);
      node->turn(clocks());
      node->writer().poll_once();
      node->applier().poll_once();
      node->worker().poll_once();
    }
    return !fatal && condition();
  }
  std::string call(std::string_view request) {
    RecordingClient client;
    client.stream = node->open_stream(client);
    client.submit(request);
    if (!until([&] { return !client.codes.empty(); })) return "(dead)";
    return client.reply(0);
  }

  SeenSessions sessions;
  NoPeers transport;
  Time now{seconds(1000)};
  std::optional<Error> fatal;
  std::unique_ptr<Node> node;
};

// The hello of the node of a directory.
wire::Hello hello_of(FaultyFileSystem& files, uint64_t node, uint64_t to) {
  wire::Hello hello;
  auto identity = storage::load_identity(files, directory(node));
  if (!identity || !*identity) {
    ADD_FAILURE() << "no identity in " << directory(node);
    return hello;
  }
  hello.cluster_name = "demo";
  hello.plugin_name = "tape";
  hello.plugin_level_min = hello.plugin_level_max = hello.plugin_level = 1;
  hello.node_id = NodeId(node);
  hello.to = NodeId(to);
  hello.cluster_id = (*identity)->cluster_id;
  hello.former_cluster_ids = (*identity)->former_cluster_ids;
  hello.skipped_entries = (*identity)->skips;
  return hello;
}
wire::RefusalCode verdict(FaultyFileSystem& files, uint64_t mine, uint64_t theirs) {
  auto refusal = wire::check_hello(hello_of(files, mine, theirs), hello_of(files, theirs, mine));
  return refusal ? refusal->code : wire::RefusalCode::kOther;
}

// ---- looking

TEST(Recover, TellsHowALogEndsAndTouchesNothing) {
  TwoOfFive two;
  const std::string before = two.all(2);
  auto changes = [&] {
    uint64_t calls = 0;
    for (auto call : {sim::FileCall::kWrite, sim::FileCall::kFill, sim::FileCall::kSync,
                      sim::FileCall::kRename, sim::FileCall::kRemove}) {
      calls += two.files.calls(call);
    }
    return calls;
  };
  const uint64_t before_changes = changes();
  const Survivor survivor = two.look(2);
  EXPECT_EQ(survivor.end, (SurvivorEnd{NodeId(2), Term(7), Index(8), Term(7)}));
  EXPECT_EQ(survivor.commit, Index(6));
  EXPECT_EQ(survivor.conf.voters.size(), 5u);
  EXPECT_FALSE(survivor.is_interrupted());
  EXPECT_EQ(survivor_text(survivor), "2:7:8:7:07070000:1+2+3+4+5");
  EXPECT_EQ(two.all(2), before);
  EXPECT_EQ(changes(), before_changes);
}

TEST(Recover, TornEndIsLookedOverAndStays) {
  TwoOfFive two;
  const std::string path = "n2/log/0000000000000001.wal";
  std::string content = two.files.content(path);
  const size_t end = content.find_last_not_of('\0') + 1;
  // The last entry's checksum: the batch is incomplete, and nothing shows that it was durable.
  two.files.flip(path, end - 20, 0xff);
  const std::string before = two.all(2);
  const Survivor survivor = two.look(2);
  EXPECT_EQ(survivor.end.last_index, Index(3));
  EXPECT_THAT(survivor.warnings, ElementsAre(HasSubstr("cut the incomplete end")));
  EXPECT_EQ(two.all(2), before);
}

// A disk's log was copied beside the identity of another cluster's node.
TEST(Recover, LogOfAnotherClusterIsRefused) {
  TwoOfFive two;
  Genesis other = five_members();
  other.cluster_id.bytes = {8, 8};
  storage::Identity identity{NodeId(2), disk(2), other.cluster_id, other.encode(), true};
  ASSERT_TRUE(storage::save_identity(two.files, directory(2), identity));
  auto survivor = look_at_survivor(two.files, directory(2));
  ASSERT_FALSE(survivor);
  EXPECT_EQ(survivor.error().kind, ErrorKind::kCorrupt);
  EXPECT_THAT(survivor.error().text, HasSubstr("belong to different clusters"));
}

TEST(Recover, NonSurvivorIsReported) {
  TwoOfFive two;
  auto nobody = look_at_survivor(two.files, "elsewhere");
  ASSERT_FALSE(nobody);
  EXPECT_EQ(nobody.error().kind, ErrorKind::kNotFound);
  for (const std::string& name : two.files.names("n3/log")) two.files.erase("n3/log/" + name);
  auto empty = look_at_survivor(two.files, "n3");
  ASSERT_FALSE(empty);
  EXPECT_EQ(empty.error().kind, ErrorKind::kCorrupt);
  EXPECT_THAT(empty.error().text, HasSubstr("the log is empty"));
}

// ---- the loss of a majority

TEST(Recover, SurvivorsAgreeOnTheNewerLog) {
  TwoOfFive two;
  const auto given = two.both();
  auto best = plan_recovery(two.look(2), given, 1234);
  auto other = plan_recovery(two.look(3), given, 5678);
  ASSERT_TRUE(best) << best.error().text;
  ASSERT_TRUE(other) << other.error().text;
  EXPECT_TRUE(best->is_best);
  EXPECT_FALSE(other->is_best);
  EXPECT_EQ(best->best.node, NodeId(2));
  EXPECT_EQ(other->best.node, NodeId(2));
  EXPECT_EQ(best->id, other->id);
  EXPECT_NE(best->id, five_members().cluster_id);
  EXPECT_THAT(best->lost, ElementsAre(NodeId(1), NodeId(4), NodeId(5)));
  ASSERT_TRUE(two.recover(3, given));
  ASSERT_TRUE(two.recover(2, given));
  two.files.crash({0, 0});

  const Survivor after = two.look(2);
  // Above every term that a survivor has seen.
  EXPECT_EQ(after.end, (SurvivorEnd{NodeId(2), Term(10), Index(9), Term(10)}));
  EXPECT_EQ(after.commit, Index(9));
  EXPECT_EQ(after.identity.cluster_id, best->id);
  EXPECT_THAT(after.identity.former_cluster_ids, ElementsAre(five_members().cluster_id));
  EXPECT_THAT(after.conf.voters, ElementsAre(NodeId(2)));
  EXPECT_THAT(after.conf.learners, ElementsAre(NodeId(3)));
  EXPECT_FALSE(after.conf.is_joint());
  EXPECT_THAT(after.members.promote, ElementsAre(NodeId(3)));
  EXPECT_THAT(after.members.removed, ElementsAre(NodeId(1), NodeId(4), NodeId(5)));
  ASSERT_EQ(after.members.recoveries.size(), 1u);
  const RecoveryRecord& record = after.members.recoveries.front();
  EXPECT_EQ(record.former, five_members().cluster_id);
  EXPECT_EQ(record.id, best->id);
  EXPECT_EQ(record.best, NodeId(2));
  EXPECT_EQ(record.wall_ns, 1234);
  EXPECT_EQ(record.survivors.size(), 2u);
  EXPECT_EQ(after.last_stamp_ns, 109);

  // The other one's log is as it was; it belongs to the new cluster.
  const Survivor follower = two.look(3);
  EXPECT_EQ(follower.end, (SurvivorEnd{NodeId(3), Term(2), Index(11), Term(9)}));
  EXPECT_EQ(follower.identity.cluster_id, best->id);
  EXPECT_FALSE(follower.is_interrupted());

  // The same again changes nothing.
  for (uint64_t node : {2, 3}) {
    const std::string before = two.all(node);
    auto again = plan_recovery(two.look(node), given, 9);
    ASSERT_TRUE(again) << again.error().text;
    EXPECT_TRUE(again->is_done);
    EXPECT_EQ(again->id, best->id);
    ASSERT_TRUE(two.recover(node, given));
    EXPECT_EQ(two.all(node), before);
  }
}

TEST(Recover, LostAndForgottenNodesAreRejected) {
  TwoOfFive two;
  make_directory(two.files, 1, 9, 7, 7, 6);
  EXPECT_EQ(verdict(two.files, 2, 1), wire::RefusalCode::kOther);
  const auto given = two.both();
  ASSERT_TRUE(two.recover(2, given));
  EXPECT_EQ(verdict(two.files, 2, 1), wire::RefusalCode::kRecovered);
  EXPECT_EQ(verdict(two.files, 1, 2), wire::RefusalCode::kLeftBehind);
  EXPECT_EQ(verdict(two.files, 2, 3), wire::RefusalCode::kRecovered);
  ASSERT_TRUE(two.recover(3, given));
  EXPECT_EQ(verdict(two.files, 2, 3), wire::RefusalCode::kOther);
  EXPECT_EQ(verdict(two.files, 3, 1), wire::RefusalCode::kRecovered);
}

TEST(Recover, RunsWithDifferentListsMakeDifferentClusters) {
  TwoOfFive two;
  ASSERT_TRUE(two.recover(2, two.both()));
  ASSERT_TRUE(two.recover(3, {*parse_survivor("3")}));
  EXPECT_EQ(verdict(two.files, 2, 3), wire::RefusalCode::kClusterId);
}

TEST(Recover, BestOneServesAndTheLostOnesSessionsAreClosed) {
  TwoOfFive two;
  const auto given = two.both();
  ASSERT_TRUE(two.recover(2, given));
  RunningNode best(two.files, 2);
  ASSERT_FALSE(best.fatal) << best.fatal->text;
  ASSERT_TRUE(best.until([&] { return best.node->core().role() == raft::Role::kLeader; }));
  EXPECT_GT(best.node->core().term(), Term(10));
  // Five commands of a session of node 2, the last of them not known to be committed before.
  EXPECT_EQ(best.call("more"), "OK 6");
  EXPECT_EQ(best.call("r"), "OK w4;w5;w6;w7;w8;more;");
  EXPECT_TRUE(best.node->members().is_removed(NodeId(1)));
  EXPECT_TRUE(best.sessions.of_node_1.at(Index(8)));
  EXPECT_FALSE(best.sessions.of_node_1.at(Index(9)));
  EXPECT_TRUE(best.sessions.of_node_2.at(Index(9))) << "a survivor's session goes on";
  EXPECT_EQ(best.node->cluster_id(), two.look(2).identity.cluster_id);
}

TEST(Recover, NodeWithoutTheRecordDoesNotVote) {
  TwoOfFive two;
  ASSERT_TRUE(two.recover(3, two.both()));
  RunningNode other(two.files, 3);
  ASSERT_FALSE(other.fatal) << other.fatal->text;
  const Term term = other.node->core().term();
  EXPECT_FALSE(
      other.until([&] { return other.node->core().role() != raft::Role::kFollower; }, 5000));
  EXPECT_EQ(other.node->core().term(), term);
  EXPECT_FALSE(other.fatal);
  // Nor does it give its vote.
  EXPECT_EQ(other.node->on_message(node::hello_of(NodeId(4)),
                                   raft::Envelope{NodeId(4), NodeId(3), Term(50),
                                                  raft::VoteRequest{Index(99), Term(40), true}}),
            "");
  other.until([] { return false; }, 10);
  EXPECT_FALSE(other.node->core().hard_state().vote);
}

TEST(Recover, SingleSurvivorNeedsNoReports) {
  TwoOfFive two;
  auto alone = parse_survivor("2");
  ASSERT_TRUE(alone);
  ASSERT_TRUE(two.recover(2, {*alone}));
  const Survivor after = two.look(2);
  EXPECT_THAT(after.conf.voters, ElementsAre(NodeId(2)));
  EXPECT_THAT(after.conf.learners, IsEmpty());
  EXPECT_EQ(after.members.removed.size(), 4u);
  const std::string before = two.all(2);
  ASSERT_TRUE(two.recover(2, {*alone}));
  EXPECT_EQ(two.all(2), before) << "the same again changes nothing";
}

// A snapshot from the leader that the log has not reached: a start begins the log anew behind it,
// and so does what the survivor counts with.
TEST(Recover, SurvivorMayHaveItsStateFromASnapshotAlone) {
  TwoOfFive two;
  ReplicatedState state = ReplicatedState::at_genesis(five_members());
  state.applied = Index(20);
  state.applied_term = Term(8);
  state.stamp_ns = 500;
  state.skipped = {{Index(12), Term(7), 5}};
  const uint64_t writes = 3;
  {
    auto store = storage::SnapshotStore::open(two.files, "n2/snapshots", {});
    ASSERT_TRUE(store);
    auto writer = (*store)->begin({Index(20), Term(8)}, as_bytes(state.encode()));
    ASSERT_TRUE(writer);
    ASSERT_TRUE(
        (*writer)->write(ByteView(reinterpret_cast<const uint8_t*>(&writes), sizeof writes)));
    ASSERT_TRUE((*writer)->write(as_bytes("a;b;c;")));
    ASSERT_TRUE((*writer)->finish());
  }
  const std::string before = two.all(2);
  const Survivor survivor = two.look(2);
  EXPECT_EQ(survivor.end, (SurvivorEnd{NodeId(2), Term(8), Index(20), Term(8)}));
  EXPECT_EQ(survivor.commit, Index(20));
  EXPECT_THAT(survivor.warnings, ElementsAre(HasSubstr("starting a new log after the snapshot")));
  EXPECT_EQ(two.all(2), before);
  auto covered = plan_skip(two.files, "n2", survivor, {Index(11), {}});
  ASSERT_FALSE(covered);
  EXPECT_THAT(covered.error().text, HasSubstr("cannot be undone"));
  auto known = plan_skip(two.files, "n2", survivor, {Index(12), {}});
  ASSERT_TRUE(known);
  EXPECT_TRUE(known->is_done);

  ASSERT_TRUE(two.recover(2, two.both()));
  two.files.crash({0, 0});
  const Survivor after = two.look(2);
  EXPECT_EQ(after.end, (SurvivorEnd{NodeId(2), Term(10), Index(21), Term(10)}));
  EXPECT_EQ(after.members_index, Index(21));
  RunningNode best(two.files, 2);
  ASSERT_TRUE(best.node) << best.fatal->text;
  EXPECT_EQ(best.call("d"), "OK 4");
  EXPECT_EQ(best.call("r"), "OK a;b;c;d;");
}

TEST(Recover, SecondRecoveryWorksWithoutTheFirst) {
  TwoOfFive two;
  const auto given = two.both();
  ASSERT_TRUE(two.recover(2, given));
  ASSERT_TRUE(two.recover(3, given));
  // Node 2 alone votes: it is a majority, and there is nothing to recover.
  auto refused = two.recover(2, {*parse_survivor("2")});
  ASSERT_FALSE(refused);
  EXPECT_THAT(refused.error().text, HasSubstr("a majority of the voters"));
  // It is lost before node 3 had its log.
  const ClusterId first = two.look(3).identity.cluster_id;
  ASSERT_TRUE(two.recover(3, {*parse_survivor("3")}));
  const Survivor after = two.look(3);
  // It had no part in the first one.
  EXPECT_THAT(after.identity.former_cluster_ids, ElementsAre(five_members().cluster_id));
  EXPECT_EQ(after.members.recoveries.back().former, five_members().cluster_id);
  EXPECT_NE(after.identity.cluster_id, first);
  RunningNode runs(two.files, 3);
  ASSERT_TRUE(runs.node) << runs.fatal->text;
  EXPECT_EQ(runs.call("more"), "OK 9");
}

// Node 3's end was mistyped, and the mistake is found on node 3 only, when node 2 believes already
// that node 3's log counts.
TEST(Recover, ListThatWasMistypedCanBeCorrected) {
  TwoOfFive two;
  const std::string right = "3:2:11:9:07070000";
  auto given = [&](std::string_view third) {
    return std::vector<GivenSurvivor>{*parse_survivor("2:7:8:7:07070000"), *parse_survivor(third)};
  };
  ASSERT_TRUE(two.recover(2, given("3:8:11:9:07070000")));
  ASSERT_FALSE(two.recover(3, given("3:8:11:9:07070000")));
  const Survivor believes = two.look(2);
  EXPECT_NE(believes.identity.cluster_id, five_members().cluster_id);
  EXPECT_EQ(believes.cluster, five_members().cluster_id) << "its log has no record of that";
  // Also when that is interrupted, between the record and the identity.
  for (uint64_t nth = 1; !two.look(2).is_interrupted(); ++nth) {
    ASSERT_LT(nth, 100u);
    two.files.fail_nth_change(nth, EIO, true);
    ASSERT_FALSE(two.recover(2, given(right)));
    two.files.clear_failures();
    two.files.restart_process();
  }
  ASSERT_TRUE(two.recover(2, given(right)));
  ASSERT_TRUE(two.recover(3, given(right)));
  EXPECT_EQ(verdict(two.files, 2, 3), wire::RefusalCode::kOther);
  EXPECT_THAT(two.look(2).identity.former_cluster_ids, ElementsAre(five_members().cluster_id));
  EXPECT_EQ(two.look(2).end.last_index, Index(9));
  RunningNode best(two.files, 2);
  ASSERT_TRUE(best.node) << best.fatal->text;
  EXPECT_EQ(best.call("more"), "OK 6");
}

TEST(Recover, WrongUseIsRefusedAndLeavesTheDirectoryAsItWas) {
  TwoOfFive two;
  const std::string before = two.all(2);
  auto refusal = [&](const std::vector<std::string>& texts, uint64_t node = 2) {
    std::vector<GivenSurvivor> given;
    for (const std::string& text : texts) {
      auto one = parse_survivor(text);
      if (!one) return one.error().text;
      given.push_back(*one);
    }
    auto done = two.recover(node, given);
    return done ? std::string("done") : done.error().text;
  };
  const std::string own = "2:7:8:7:07070000";
  const std::string other = "3:2:11:9:07070000";
  EXPECT_THAT(refusal({"two"}), HasSubstr("must be a node id or a survivor"));
  EXPECT_THAT(refusal({"2:7:8:7"}), HasSubstr("must be a node id or a survivor"));
  EXPECT_THAT(refusal({"0"}), HasSubstr("must be a node id or a survivor"));
  EXPECT_THAT(refusal({own, own}), HasSubstr("lists node 2 twice"));
  EXPECT_THAT(refusal({own, "3"}), HasSubstr("missing the end of node 3's log"));
  EXPECT_THAT(refusal({other}), HasSubstr("--members does not list it"));
  EXPECT_THAT(refusal({"2:7:9:7:07070000", other}), HasSubstr("but its log is 2:7:8:7:07070000"));
  EXPECT_THAT(refusal({own, "3:2:11:9:08080000"}), HasSubstr("of different clusters"));
  EXPECT_THAT(refusal({own, "9:2:4:2:07070000"}), HasSubstr("node 9 is not a member"));
  EXPECT_THAT(refusal({own, other, "1:2:4:2:07070000"}), HasSubstr("a majority of the voters"));
  EXPECT_THAT(refusal({own + ":1+2+x", other}), HasSubstr("must be a node id or a survivor"));
  EXPECT_THAT(refusal({own + ":1+2+2", other}), HasSubstr("must be a node id or a survivor"));
  EXPECT_THAT(refusal({own + ":1+2/1+2/3", other}), HasSubstr("must be a node id or a survivor"));
  EXPECT_THAT(refusal({own + ":1+2+3+4+6", other}),
              HasSubstr("but its log is 2:7:8:7:07070000:1+2+3+4+5"));
  EXPECT_EQ(two.all(2), before);
}

// A survivor that is recovered while the others refuse is lost to its cluster.
TEST(Recover, ListOfAMajorityIsRefusedOnEveryNode) {
  TwoOfFive two;
  const std::string before[] = {two.all(2), two.all(3)};
  auto outcome = [&](uint64_t node, const std::string& voters, std::string_view third) {
    std::vector<GivenSurvivor> given{*parse_survivor("2:7:8:7:07070000" + voters),
                                     *parse_survivor("3:2:11:9:07070000")};
    if (!third.empty()) given.push_back(*parse_survivor(third));
    auto done = two.recover(node, given);
    return done ? std::string("done") : done.error().text;
  };
  const std::string_view first = "1:2:4:2:07070000";
  for (uint64_t node : {2, 3}) {
    for (const std::string voters : {"", ":1+2+3+4+5"}) {
      EXPECT_THAT(outcome(node, voters, first), HasSubstr("a majority of the voters")) << node;
    }
  }
  // Node 3's log may be older: the voters in the best one count, in both halves of a joint change.
  EXPECT_THAT(outcome(3, ":1+2+3", ""), HasSubstr("a majority of the voters"));
  EXPECT_THAT(outcome(3, ":1+2+3/2+3+4", ""), HasSubstr("a majority of the voters"));
  EXPECT_EQ(two.all(2), before[0]);
  EXPECT_EQ(two.all(3), before[1]);
  EXPECT_EQ(outcome(3, ":1+2+3/2+4+5", ""), "done");
  EXPECT_EQ(outcome(3, ":1+2+3+4+5+6+7", first), "done");
}

// At every call that changes the disk, once and for good, and the
// power that goes there.
TEST(Recover, RepeatingAFailedRecoveryCompletesIt) {
  uint64_t hit = 0;
  uint64_t interrupted = 0;
  uint64_t untouched = 0;
  for (uint64_t nth = 1;; ++nth) {
    bool any = false;
    for (int how = 0; how < 3; ++how) {
      for (uint64_t node : {2, 3}) {
        TwoOfFive two(nth * 10 + how);
        const auto given = two.both();
        const Survivor before = two.look(node);
        if (how == 2) {
          two.files.power_off_at_change(nth);
        } else {
          two.files.fail_nth_change(nth, EIO, how == 1);
        }
        const bool done = two.recover(node, given).has_value();
        const bool was_hit = two.files.failure_hit() || two.files.is_off();
        ASSERT_TRUE(done || was_hit);
        any |= was_hit;
        hit += was_hit;
        two.files.clear_failures();
        // After a failure the process ends, or the power goes.
        if (how == 0) {
          two.files.restart_process();
        } else {
          two.files.crash();
        }
        const Survivor between = two.look(node);
        if (done) {
          EXPECT_NE(between.identity.cluster_id, before.identity.cluster_id) << nth;
        } else if (between.is_interrupted()) {
          ++interrupted;
          EXPECT_EQ(between.identity, before.identity);
          EXPECT_EQ(between.end.last_index, before.end.last_index + 1);
          // On a copy, because a start makes everything that it reads durable.
          auto copy = two.files.clone(nth);
          RunningNode refused(*copy, node);
          EXPECT_FALSE(refused.node) << "it must not run as the cluster that it was";
          ASSERT_TRUE(refused.fatal);
          EXPECT_THAT(refused.fatal->text, HasSubstr("was interrupted"));
          // With other arguments it is not another recovery.
          auto other = two.recover(node, {*parse_survivor("2")});
          ASSERT_FALSE(other);
          EXPECT_THAT(other.error().text,
                      HasSubstr("--members 2:7:8:7:07070000,3:2:11:9:07070000"));
        } else if (between.identity == before.identity) {
          ++untouched;
          EXPECT_EQ(between.end, before.end) << nth;
          EXPECT_EQ(between.members, before.members);
        }
        auto again = two.recover(node, given);
        ASSERT_TRUE(again) << again.error().text << " at " << nth << " " << how;
        two.files.crash({0, 0});
        const Survivor after = two.look(node);
        EXPECT_NE(after.identity.cluster_id, before.identity.cluster_id);
        EXPECT_EQ(after.end.last_index, before.end.last_index + (node == 2 ? 1 : 0));
        RunningNode runs(two.files, node);
        EXPECT_TRUE(runs.node) << runs.fatal->text;
      }
    }
    if (!any) break;
  }
  EXPECT_GT(hit, 30u);
  EXPECT_GT(interrupted, 5u);
  EXPECT_GT(untouched, 10u);
}

// ---- an entry that is skipped

TEST(SkipEntry, IsAboutThisVeryEntry) {
  TwoOfFive two;
  const Survivor survivor = two.look(2);
  auto plan = plan_skip(two.files, "n2", survivor, {Index(5), {}});
  ASSERT_TRUE(plan) << plan.error().text;
  ASSERT_TRUE(plan->entry);
  EXPECT_EQ(plan->entry->payload.text(), "w5");
  EXPECT_EQ(plan->id.term, Term(2));
  EXPECT_EQ(verdict(two.files, 2, 3), wire::RefusalCode::kOther);
  ASSERT_TRUE(carry_out(two.files, "n2", survivor, *plan));
  two.files.crash({0, 0});
  EXPECT_EQ(verdict(two.files, 2, 3), wire::RefusalCode::kSkips);
  EXPECT_EQ(verdict(two.files, 3, 2), wire::RefusalCode::kSkips);
  EXPECT_THAT(two.look(2).identity.skips, ElementsAre(plan->id));
  auto again = plan_skip(two.files, "n2", two.look(2), {Index(5), {}});
  ASSERT_TRUE(again);
  EXPECT_TRUE(again->is_done);

  RunningNode best(two.files, 2);
  ASSERT_TRUE(best.node) << best.fatal->text;
  EXPECT_THAT(best.node->skips(), ElementsAre(plan->id));
  // Node 3's log has the same entry there, and node 2's end is another one than node 3's at 8.
  auto same = plan_skip(two.files, "n3", two.look(3), {Index(5), plan->id});
  ASSERT_TRUE(same);
  EXPECT_EQ(same->id, plan->id);
  best.node.reset();
  ASSERT_TRUE(carry_out(two.files, "n3", two.look(3), *same));
  EXPECT_EQ(verdict(two.files, 2, 3), wire::RefusalCode::kOther);
}

TEST(SkipEntry, AnotherEntryAtItsIndexIsGivenToThePlugin) {
  TwoOfFive two;
  raft::EntryId id{Index(8), Term(2), 1};
  auto plan = plan_skip(two.files, "n2", two.look(2), {Index(8), id});
  ASSERT_TRUE(plan) << plan.error().text;
  EXPECT_FALSE(plan->entry);
  EXPECT_THAT(plan->notice, HasSubstr("another entry at index 8"));
  ASSERT_TRUE(carry_out(two.files, "n2", two.look(2), *plan));
  ASSERT_TRUE(two.recover(2, {*parse_survivor("2")}));
  RunningNode best(two.files, 2);
  ASSERT_TRUE(best.node) << best.fatal->text;
  EXPECT_EQ(best.call("r"), "OK w4;w5;w6;w7;w8;");
}

TEST(SkipEntry, SkippedOneIsWithoutEffectAndItsSessionGoesOn) {
  TwoOfFive two;
  auto plan = plan_skip(two.files, "n2", two.look(2), {Index(6), {}});
  ASSERT_TRUE(plan);
  ASSERT_TRUE(carry_out(two.files, "n2", two.look(2), *plan));
  ASSERT_TRUE(two.recover(2, {*parse_survivor("2")}));
  RunningNode best(two.files, 2);
  ASSERT_TRUE(best.node) << best.fatal->text;
  EXPECT_EQ(best.call("r"), "OK w4;w5;w7;w8;");
}

TEST(SkipEntry, WrongUseIsRefusedAndLeavesTheDirectoryAsItWas) {
  TwoOfFive two;
  const std::string before = two.all(2);
  auto refusal = [&](std::string_view text) {
    auto given = parse_entry(text);
    if (!given) return given.error().text;
    auto plan = plan_skip(two.files, "n2", two.look(2), *given);
    return plan ? std::string("done") : plan.error().text;
  };
  EXPECT_THAT(refusal("x"), HasSubstr("must be an index, or INDEX:TERM:CHECKSUM"));
  EXPECT_THAT(refusal("0"), HasSubstr("must be an index, or INDEX:TERM:CHECKSUM"));
  EXPECT_THAT(refusal("5:2"), HasSubstr("must be an index, or INDEX:TERM:CHECKSUM"));
  EXPECT_THAT(refusal("5:2:12"), HasSubstr("must be an index, or INDEX:TERM:CHECKSUM"));
  EXPECT_THAT(refusal("1"), HasSubstr("only commands and ticks"));
  EXPECT_THAT(refusal("3"), HasSubstr("only commands and ticks"));
  EXPECT_THAT(refusal("9"), HasSubstr("ends at index 8"));
  EXPECT_THAT(refusal("5:2:0123456789abcdef"), HasSubstr("has committed another entry at index 5"));
  EXPECT_EQ(refusal("9:7:0123456789abcdef"), "done");
  EXPECT_EQ(two.all(2), before);
}

}  // namespace
}  // namespace connectd::offline
