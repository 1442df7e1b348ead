// The applier: the same results inline and on its thread, sessions, failures of the plugin,
// snapshots.
#include "node/apply/applier.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <thread>

#include "base/checksum.h"
#include "base/random.h"
#include "node/disk/worker.h"
#include "node/requests/stream.h"
#include "sim/faulty_file_system.h"
#include "tests/unit/base/supervisors.h"
#include "tests/unit/node/tape_plugin.h"

namespace connectd::node {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

const NodeId kOwnId(1);
constexpr uint64_t kOwnIncarnation = 5;

Genesis genesis_of_tape() {
  Genesis genesis;
  genesis.cluster_id.bytes[0] = 9;
  genesis.cluster_name = "demo";
  genesis.plugin_name = "tape";
  genesis.plugin_level = 1;
  genesis.members.push_back({kOwnId, DiskId(), "", "", ""});
  return genesis;
}

class Bench {
 public:
  explicit Bench(bool allow_inline = true) : Bench(fresh(), allow_inline) {}
  Bench(RestoredState start, bool allow_inline, size_t replies_max = 4 << 20)
      : store(*storage::SnapshotStore::open(files, "snapshots", {})),
        applier({.self = kOwnId,
                 .incarnation = kOwnIncarnation,
                 .allow_inline = allow_inline,
                 .inline_ns_max = replies_max < (4 << 20) ? INT64_MAX : 200'000,
                 .wall_clock = [] { return int64_t{1}; },
                 .replies_max = replies_max,
                 .run_replies_max = replies_max / 2},
                std::move(start), *store, supervisor) {}

  static RestoredState fresh(bool canonical = false) {
    auto instance = plugin::Instance::create(tape_plugin(canonical), {});
    return {ReplicatedState::at_genesis(genesis_of_tape()), std::move(*instance)};
  }

  // What the loop takes now: "11:1" for a command's index and reply, "read:text", "opened 10",
  // "snapshot 12", "replaced".
  std::vector<std::string> take() {
    std::vector<std::string> lines;
    results.clear();
    ApplyResults* taken_results = applier.take_results();
    if (taken_results == nullptr) return lines;
    results = std::move(*taken_results);
    for (const ApplyResults::Item& item : results.items) {
      if (auto* command = std::get_if<ApplyResults::CommandApplied>(&item)) {
        lines.push_back(
            fmt::format("{}:{}{}", command->index,
                        results.bytes.substr(command->reply_offset, command->reply_size),
                        command->status == 0 ? "" : fmt::format("/{}", command->status)));
      } else if (auto* read = std::get_if<ApplyResults::ReadDone>(&item)) {
        lines.push_back(fmt::format("{}:{}", read->code == ReplyCode::kOk ? "read" : "error",
                                    results.bytes.substr(read->reply_offset, read->reply_size)));
      } else if (auto* left = std::get_if<ApplyResults::ReadsLeft>(&item)) {
        for (const ReadTask& task : left->tasks) {
          lines.push_back(fmt::format("left:{}", task.request.text()));
        }
      } else if (auto* opened = std::get_if<ApplyResults::SessionOpened>(&item)) {
        lines.push_back(fmt::format("opened {}", opened->id));
      } else if (auto* taken = std::get_if<ApplyResults::SnapshotTaken>(&item)) {
        lines.push_back(fmt::format("snapshot {}", taken->mark.index));
      } else if (auto* hashed = std::get_if<ApplyResults::StateHashed>(&item)) {
        lines.push_back(fmt::format("hashed {} {:016x}", hashed->index, hashed->hash));
      } else {
        lines.push_back("replaced");
      }
    }
    if (results.applied) applied = results.applied;
    digest = results.digest;
    return lines;
  }
  // The same until there are so many, from an applier with a thread.
  std::vector<std::string> take_at_least(size_t count) {
    std::vector<std::string> lines = take();
    const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(20);
    while (lines.size() < count && std::chrono::steady_clock::now() < end) {
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
      std::ranges::move(take(), std::back_inserter(lines));
    }
    return lines;
  }
  std::string read() {
    applier.read(read_of("r"));
    while (applier.poll_once()) {
    }
    auto lines = take();
    return lines.empty() ? "(nothing)" : lines.back();
  }
  static std::vector<ReadTask> read_of(std::string_view text) {
    std::vector<ReadTask> tasks;
    tasks.push_back({RequestRef(), Slice::copy_of(text), Time()});
    return tasks;
  }

  sim::FaultyFileSystem files;
  std::unique_ptr<storage::SnapshotStore> store;
  RecordingSupervisor supervisor;
  Applier applier;
  ApplyResults results;
  Index applied;
  uint64_t digest = 0;
};

// The entries of one log, in order.
class LogMaker {
 public:
  raft::Entry make(raft::EntryKind kind, std::string_view payload, SessionId session = {},
                   uint64_t sequence = 0) {
    raft::Entry entry;
    entry.index = Index(++last_);
    entry.term = Term(1);
    entry.kind = kind;
    entry.session = session;
    entry.sequence = Sequence(sequence);
    entry.stamp_ns = static_cast<int64_t>(last_);
    entry.payload = Slice::copy_of(payload);
    entry.checksum = raft::entry_checksum(entry);
    return entry;
  }
  raft::Entry open(NodeId node = kOwnId, uint64_t incarnation = kOwnIncarnation) {
    return make(raft::EntryKind::kSessionOpen, wire::SessionOwner{node, incarnation}.encode());
  }
  raft::Entry command(uint64_t session, uint64_t sequence, std::string_view text) {
    return make(raft::EntryKind::kCommand, text, SessionId(session), sequence);
  }

 private:
  uint64_t last_ = 0;
};

std::vector<raft::Entry> some_log(size_t commands) {
  LogMaker log;
  std::vector<raft::Entry> entries;
  entries.push_back(log.make(raft::EntryKind::kGenesis, "g"));
  entries.push_back(log.open());
  entries.push_back(log.open(NodeId(2), 1));
  for (size_t i = 1; i <= commands; ++i) {
    entries.push_back(log.command(2, i, fmt::format("a{}", i)));
    entries.push_back(log.command(3, i, i % 3 == 0 ? "status" : "b"));
    if (i % 4 == 0) entries.push_back(log.command(2, i, "again"));
    if (i % 5 == 0) entries.push_back(log.make(raft::EntryKind::kNoop, ""));
  }
  return entries;
}

TEST(Applier, RepliesToOwnSessionAppliesSequenceOnce) {
  Bench bench;
  LogMaker log;
  std::vector<raft::Entry> entries;
  entries.push_back(log.make(raft::EntryKind::kGenesis, "g"));
  entries.push_back(log.open());
  entries.push_back(log.open(NodeId(2), 1));
  entries.push_back(log.command(2, 1, "a"));
  entries.push_back(log.command(3, 1, "b"));   // another node's
  entries.push_back(log.command(2, 1, "a"));   // twice
  entries.push_back(log.command(2, 3, "c"));   // 2 is missing
  entries.push_back(log.command(77, 1, "d"));  // unknown
  entries.push_back(log.command(2, 2, "status"));
  bench.applier.apply(std::move(entries));
  ASSERT_TRUE(bench.applier.poll_once());
  EXPECT_THAT(bench.take(), ElementsAre("opened 2", "4:1", "9:3/7"));
  EXPECT_EQ(bench.applied, Index(9));
  EXPECT_EQ(bench.read(), "read:a;b;status;");
}

TEST(Applier, SessionFromBeforeARestartIsNotItsOwn) {
  Bench bench;
  LogMaker log;
  std::vector<raft::Entry> entries;
  entries.push_back(log.open(kOwnId, kOwnIncarnation - 1));
  entries.push_back(log.command(1, 1, "a"));
  bench.applier.apply(std::move(entries));
  bench.applier.poll_once();
  EXPECT_THAT(bench.take(), ElementsAre("opened 1"));
  EXPECT_EQ(bench.read(), "read:a;");
}

TEST(Applier, InlineOnTheThreadAndInAnyBatchesGiveTheSame) {
  std::vector<raft::Entry> log = some_log(200);
  auto lines_of = [&](uint64_t seed, bool thread) {
    Bench bench(!thread);
    Random random(seed);
    std::thread worker;
    if (thread) worker = std::thread([&] { bench.applier.run(); });
    std::vector<std::string> lines;
    for (size_t at = 0; at < log.size();) {
      size_t end = std::min(log.size(), at + 1 + random.below(40));
      bench.applier.apply(
          {log.begin() + static_cast<ptrdiff_t>(at), log.begin() + static_cast<ptrdiff_t>(end)});
      at = end;
      bench.applier.advance();
      // Not after each: what waits is merged.
      if (random.chance(30)) std::ranges::move(bench.take(), std::back_inserter(lines));
    }
    bench.applier.close();
    if (thread) worker.join();
    while (bench.applier.poll_once()) {
    }
    std::ranges::move(bench.take(), std::back_inserter(lines));
    EXPECT_EQ(bench.applied, log.back().index);
    EXPECT_FALSE(bench.supervisor.error);
    lines.push_back(fmt::format("{:x}", bench.digest));
    return lines;
  };
  auto expected = lines_of(1, false);
  EXPECT_EQ(expected.size(), 202u);
  for (uint64_t seed = 2; seed < 8; ++seed) {
    EXPECT_EQ(lines_of(seed, false), expected);
    EXPECT_EQ(lines_of(seed, true), expected);
  }
}

// Whoever applies stops when so many bytes of replies wait for the loop, and goes on when it has
// taken them. All results are the same as without a limit.
TEST(Applier, MakesRepliesAsFastAsTheLoopTakesThem) {
  Bench whole(false);
  whole.applier.apply(some_log(200));
  while (whole.applier.poll_once()) {
  }
  const auto expected = whole.take();
  for (bool is_inline : {true, false}) {
    Bench bench(Bench::fresh(), is_inline, 20);
    auto entries = some_log(200);
    for (size_t at = 0; at < entries.size(); at += 40) {
      const size_t end = std::min(at + 40, entries.size());
      bench.applier.apply({entries.begin() + static_cast<ptrdiff_t>(at),
                           entries.begin() + static_cast<ptrdiff_t>(end)});
    }
    std::vector<std::string> lines;
    size_t rounds = 0;
    for (;; ++rounds) {
      bench.applier.advance();
      while (!is_inline && bench.applier.has_work()) bench.applier.poll_once();
      auto some = bench.take();
      if (some.empty()) break;
      EXPECT_LT(bench.results.bytes.size(), 20u + 10);
      lines.insert(lines.end(), some.begin(), some.end());
    }
    EXPECT_GT(rounds, 10u);
    EXPECT_EQ(lines, expected);
    EXPECT_EQ(bench.applied, whole.applied);
    EXPECT_EQ(bench.digest, whole.digest);
  }
}

TEST(Applier, ReadsThatWouldGiveTooMuchGoBack) {
  Bench bench(Bench::fresh(), false, 200);
  LogMaker log;
  bench.applier.apply({log.make(raft::EntryKind::kGenesis, "g"), log.open(),
                       log.command(2, 1, std::string(59, 'x'))});
  bench.applier.poll_once();
  bench.take();
  // Two clients: a run of one is a hundred bytes, two replies of 60; all together 200.
  auto stream = [] { return std::make_shared<Stream>(nullptr); };
  std::vector<ReadTask> reads;
  for (const auto& of : {stream(), stream()}) {
    for (const char* text : {"r1", "r2", "r3"}) {
      reads.push_back({{of, 0}, Slice::copy_of(text), Time()});
    }
  }
  bench.applier.read(std::move(reads));
  bench.applier.poll_once();
  std::vector<std::string> lines = bench.take();
  for (std::string& line : lines) line = line.substr(0, 7);
  EXPECT_THAT(lines, ElementsAre("read:xx", "read:xx", "read:xx", "read:xx", "left:r3", "left:r3"));
}

TEST(Applier, FailingApplyStopsTheReplicaBeforeTheEntry) {
  Bench bench;
  LogMaker log;
  std::vector<raft::Entry> entries;
  entries.push_back(log.open());
  entries.push_back(log.command(1, 1, "a"));
  entries.push_back(log.command(1, 2, "fault"));
  entries.push_back(log.command(1, 3, "b"));
  bench.applier.apply(std::move(entries));
  bench.applier.read(Bench::read_of("r"));
  bench.applier.take_snapshot();
  bench.applier.poll_once();
  ASSERT_TRUE(bench.supervisor.error);
  EXPECT_EQ(bench.supervisor.error->kind, ErrorKind::kPluginFailed);
  EXPECT_THAT(bench.supervisor.error->text, HasSubstr("on purpose"));
  EXPECT_THAT(bench.take(), ElementsAre("opened 1", "2:1"));
  EXPECT_EQ(bench.applied, Index(2));
  // Nothing reaches the instance any more (it would end the process).
  std::vector<raft::Entry> more;
  more.push_back(log.command(1, 4, "c"));
  bench.applier.apply(std::move(more));
  bench.applier.read(Bench::read_of("r"));
  bench.applier.poll_once();
  EXPECT_TRUE(bench.take().empty());
  EXPECT_EQ(bench.applied, Index(2));
  EXPECT_EQ(bench.supervisor.failures, 1);
}

TEST(Applier, FailedReadIsAnsweredCorruptionStopsReplica) {
  Bench bench;
  bench.applier.read(Bench::read_of("r-bad"));
  bench.applier.poll_once();
  auto lines = bench.take();
  ASSERT_EQ(lines.size(), 1u);
  EXPECT_THAT(lines[0], ::testing::AllOf(::testing::StartsWith("error:"), HasSubstr("bad read")));
  EXPECT_FALSE(bench.supervisor.error);

  auto tasks = Bench::read_of("r-corrupt");
  for (const char* text : {"r", "r-corrupt"}) {
    tasks.push_back({RequestRef(), Slice::copy_of(text), Time()});
  }
  bench.applier.read(std::move(tasks));
  bench.applier.poll_once();
  EXPECT_EQ(bench.supervisor.failures, 1) << "the instance was asked again";
  ASSERT_TRUE(bench.supervisor.error);
  EXPECT_EQ(bench.supervisor.error->kind, ErrorKind::kPluginFailed);
  EXPECT_EQ(bench.take().size(), 1u);
}

TEST(Applier, SlowPluginIsNotCalledInlineAgain) {
  Bench bench;
  LogMaker log;
  auto apply = [&](raft::Entry entry) {
    std::vector<raft::Entry> entries;
    entries.push_back(std::move(entry));
    bench.applier.apply(std::move(entries));
    bench.applier.advance();
    return !bench.take().empty();
  };
  EXPECT_TRUE(apply(log.open()));
  EXPECT_TRUE(apply(log.command(1, 1, "slow")));
  EXPECT_FALSE(apply(log.command(1, 2, "a")));
  bench.applier.poll_once();
  EXPECT_THAT(bench.take(), ElementsAre("3:2"));
}

// The first call that is too slow is the only one that holds the loop.
TEST(Applier, LoopStopsAtTheFirstSlowCall) {
  LogMaker log;
  const std::vector<raft::Entry> entries{log.open(), log.command(1, 1, "a"),
                                         log.command(1, 2, "slow"), log.command(1, 3, "slow"),
                                         log.command(1, 4, "b")};
  Bench whole(false);
  whole.applier.apply(entries);
  whole.applier.poll_once();
  const auto expected = whole.take();
  Bench bench;
  bench.applier.apply({entries.begin(), entries.begin() + 4});
  bench.applier.apply({entries[4]});
  bench.applier.advance();
  auto lines = bench.take();
  EXPECT_THAT(lines, ElementsAre("opened 1", "2:1", "3:2"));
  EXPECT_EQ(bench.applied, Index(3));
  bench.applier.advance();
  EXPECT_TRUE(bench.take().empty());
  EXPECT_TRUE(bench.applier.poll_once());
  std::ranges::move(bench.take(), std::back_inserter(lines));
  EXPECT_EQ(lines, expected);
  EXPECT_EQ(bench.applied, whole.applied);
  EXPECT_EQ(bench.digest, whole.digest);
}

// The plugin's deadline after it, too, is a call that the loop no longer makes.
TEST(Applier, LoopLeavesTheDeadlineAfterASlowCall) {
  Bench bench;
  LogMaker log;
  bench.applier.apply({log.open(), log.command(1, 1, "slow")});
  bench.applier.advance();
  EXPECT_THAT(bench.take(), ElementsAre("opened 1", "2:1"));
  EXPECT_TRUE(bench.applier.poll_once());
  bench.take();
  EXPECT_EQ(bench.results.stamp_ns, 2);
  EXPECT_FALSE(bench.applier.poll_once());
}

TEST(Applier, LoopStopsAtTheFirstReadThatWaits) {
  Bench bench;
  auto reads = Bench::read_of("r");
  for (const char* text : {"r-sleep", "r-sleep", "r"}) {
    reads.push_back({RequestRef(), Slice::copy_of(text), Time()});
  }
  bench.applier.read(std::move(reads));
  bench.applier.advance();
  EXPECT_THAT(bench.take(), ElementsAre("read:", "read:"));
  bench.applier.poll_once();
  EXPECT_THAT(bench.take(), ElementsAre("read:", "read:"));
}

// Without another event: the apply thread is woken.
TEST(Applier, ThreadContinuesWhereTheLoopStopped) {
  Bench bench;
  std::thread worker([&] { bench.applier.run(); });
  LogMaker log;
  bench.applier.apply({log.open(), log.command(1, 1, "slow"), log.command(1, 2, "a")});
  bench.applier.advance();
  EXPECT_THAT(bench.take_at_least(3), ElementsAre("opened 1", "2:1", "3:2"));
  bench.applier.close();
  worker.join();
}

TEST(Applier, QuickRepliesDoNotWaitForSlowCalls) {
  Bench bench(false);
  std::thread worker([&] { bench.applier.run(); });
  LogMaker log;
  tape::gate_is_open = false;
  auto open_gate = [] {
    tape::gate_is_open = true;
    tape::gate_is_open.notify_all();
  };
  bench.applier.apply(
      {log.open(), log.command(1, 1, "sleep"), log.command(1, 2, "a"), log.command(1, 3, "gate")});
  bench.applier.advance();
  EXPECT_THAT(bench.take_at_least(3), ElementsAre("opened 1", "2:1", "3:2"));
  EXPECT_GT(bench.supervisor.wakes, 0);
  open_gate();
  EXPECT_THAT(bench.take_at_least(1), ElementsAre("4:3"));
  // Later batches: a slow call may come again, and nothing waits for it.
  tape::gate_is_open = false;
  bench.applier.apply({log.command(1, 4, "b"), log.command(1, 5, "gate")});
  bench.applier.advance();
  EXPECT_THAT(bench.take_at_least(1), ElementsAre("5:4"));
  open_gate();
  EXPECT_THAT(bench.take_at_least(1), ElementsAre("6:5"));
  bench.applier.close();
  worker.join();
}

TEST(Applier, ReadsThatNobodyWaitsForAreNotExecuted) {
  Bench bench(false);
  auto at = [](int64_t seconds) { return Time(std::chrono::seconds(seconds)); };
  auto client = std::make_shared<Stream>(nullptr);
  auto gone = std::make_shared<Stream>(nullptr);
  gone->close();
  std::vector<ReadTask> reads;
  reads.push_back({{client, 1}, Slice::copy_of("r"), at(10)});
  reads.push_back({{client, 2}, Slice::copy_of("r"), at(11)});
  reads.push_back({{gone, 1}, Slice::copy_of("r"), at(11)});
  const int before = tape::reads_executed;
  bench.applier.set_now(at(10));
  bench.applier.read(std::move(reads));
  bench.applier.poll_once();
  const std::string expired = fmt::format("error:{}", kNotExecuted);
  EXPECT_THAT(bench.take(), ElementsAre(expired, "read:", expired));
  EXPECT_EQ(tape::reads_executed, before + 1);
}

// A node is up to date when it would execute a read, and not when it would only hand it out.
TEST(Applier, QuestionIsAnsweredWhenItsTurnComes) {
  Bench bench(false);
  auto at = [](int64_t seconds) { return Time(std::chrono::seconds(seconds)); };
  bench.applier.read({});
  EXPECT_FALSE(bench.applier.has_work());
  EXPECT_FALSE(bench.applier.is_asked());
  bench.applier.read({}, at(1));
  bench.applier.read(Bench::read_of("r"), at(2));
  EXPECT_TRUE(bench.applier.is_asked());
  EXPECT_EQ(bench.applier.fresh_since(), std::nullopt);
  bench.applier.poll_once();
  EXPECT_EQ(bench.applier.fresh_since(), std::nullopt);
  EXPECT_THAT(bench.take(), ElementsAre("read:"));
  EXPECT_EQ(bench.applier.fresh_since(), at(2));
  EXPECT_FALSE(bench.applier.is_asked());
  bench.applier.read(Bench::read_of("r"));
  bench.applier.poll_once();
  bench.take();
  EXPECT_EQ(bench.applier.fresh_since(), at(2)) << "a client's read is no question";
}

// One that is written here takes long.
TEST(Applier, SnapshotHoldsUpNoReplies) {
  Bench bench(Bench::fresh(true), false);
  LogMaker log;
  bench.applier.apply({log.open(), log.command(1, 1, "a")});
  bench.applier.take_snapshot();
  bench.applier.apply({log.command(1, 2, "b"), log.make(raft::EntryKind::kCompare, "")});
  std::vector<std::vector<std::string>> before;
  tape::on_snapshot = [&] { before.push_back(bench.take()); };
  bench.applier.poll_once();
  tape::on_snapshot = nullptr;
  ASSERT_EQ(before.size(), 2u);
  EXPECT_THAT(before[0], ElementsAre("opened 1", "2:1"));
  EXPECT_THAT(before[1], ElementsAre("snapshot 2", "3:2"));
}

TEST(Applier, WhenNotAllowedNothingIsInline) {
  Bench bench(false);
  bench.applier.read(Bench::read_of("r"));
  bench.applier.advance();
  EXPECT_TRUE(bench.applier.has_work());
}

// A snapshot may take seconds. One that the apply thread has not begun yet must not be taken on the
// loop thread because a small read is queued behind it.
TEST(Applier, SnapshotIsNeverTakenInline) {
  Bench bench;
  LogMaker log;
  std::vector<raft::Entry> entries;
  entries.push_back(log.open());
  bench.applier.apply(std::move(entries));
  bench.applier.take_snapshot();
  bench.applier.advance();
  EXPECT_TRUE(bench.take().empty());
  bench.applier.read(Bench::read_of("r"));  // the next turn's
  bench.applier.advance();
  EXPECT_TRUE(bench.take().empty()) << "done on the loop thread";
  bench.applier.poll_once();
  EXPECT_THAT(bench.take(), ElementsAre("opened 1", "snapshot 1", "read:"));
  bench.applier.read(Bench::read_of("r"));
  bench.applier.advance();
  EXPECT_THAT(bench.take(), ElementsAre("read:"));
}

TEST(Applier, SnapshotRestoresTheStateTheSessionsAndTheDigest) {
  std::vector<raft::Entry> log = some_log(20);
  Bench bench;
  bench.applier.apply({log.begin(), log.begin() + 20});
  bench.applier.take_snapshot();
  bench.applier.poll_once();
  EXPECT_EQ(bench.take().back(), "snapshot 20");
  std::vector<std::string> warnings;
  auto reader = bench.store->open_newest(warnings);
  ASSERT_TRUE(reader && *reader);
  auto state = restore_snapshot(**reader, tape_plugin());
  ASSERT_TRUE(state) << state.error().text;
  EXPECT_EQ(state->state.applied, Index(20));
  EXPECT_EQ(state->state.digest, bench.digest);
  EXPECT_EQ(state->state.plugin_version, "1.0.0");

  Bench other(std::move(*state), true);
  for (Bench* each : {&bench, &other}) {
    each->applier.apply({log.begin() + 20, log.end()});
    each->applier.poll_once();
    each->take();
  }
  EXPECT_EQ(other.digest, bench.digest);
  EXPECT_EQ(other.applied, bench.applied);
  EXPECT_EQ(other.read(), bench.read());
}

TEST(Applier, SnapshotThatCannotBeWrittenEndsTheProcess) {
  Bench bench;
  bench.applier.apply(some_log(1));
  bench.applier.poll_once();
  bench.take();
  bench.files.fail_nth_change(3, 5);
  bench.applier.take_snapshot();
  bench.applier.poll_once();
  ASSERT_TRUE(bench.supervisor.error);
  EXPECT_EQ(bench.supervisor.error->kind, ErrorKind::kDisk);
  EXPECT_TRUE(bench.take().empty());
}

// The comparison of replicas requires this: one value for each entry, in order, none twice.
TEST(Applier, TellsTheDigestBehindEachEntry) {
  std::vector<raft::Entry> log = some_log(9);
  std::vector<uint64_t> one_by_one;
  {
    Bench bench;
    for (const raft::Entry& entry : log) {
      bench.applier.apply({entry});
      bench.applier.poll_once();
      bench.take();
      ASSERT_EQ(bench.results.digests.size(), 1u);
      EXPECT_EQ(bench.results.digests.back(), bench.digest);
      one_by_one.push_back(bench.digest);
    }
  }
  // In batches, some of which wait for the loop together.
  Bench bench;
  bench.applier.apply({log.begin(), log.begin() + 3});
  bench.applier.poll_once();
  bench.applier.read(Bench::read_of("r"));
  bench.applier.poll_once();
  bench.applier.apply({log.begin() + 3, log.end()});
  bench.applier.poll_once();
  bench.take();
  EXPECT_EQ(bench.applied, log.back().index);
  EXPECT_EQ(bench.results.digests, one_by_one);
  bench.applier.read(Bench::read_of("r"));
  bench.applier.poll_once();
  bench.take();
  EXPECT_TRUE(bench.results.digests.empty());
}

TEST(Applier, DigestsInFrontOfAReplacedStateAreLeftOut) {
  std::vector<raft::Entry> log = some_log(9);
  Bench leader;
  leader.applier.apply({log.begin(), log.begin() + 8});
  leader.applier.take_snapshot();
  leader.applier.poll_once();
  leader.take();
  for (bool together : {true, false}) {
    std::vector<std::string> warnings;
    auto reader = leader.store->open_newest(warnings);
    auto state = restore_snapshot(**reader, tape_plugin());
    ASSERT_TRUE(state);
    Bench bench;
    bench.applier.apply({log.begin(), log.begin() + 4});
    if (!together) bench.applier.poll_once();
    bench.applier.replace(std::move(*state));
    if (!together) bench.applier.poll_once();
    bench.applier.apply({log[8]});
    bench.applier.poll_once();
    bench.take();
    EXPECT_EQ(bench.applied, log[8].index);
    EXPECT_EQ(bench.results.digests, (std::vector<uint64_t>{leader.digest, bench.digest}));
  }
}

TEST(Applier, CompareEntryHashesStateOutsideTheChain) {
  auto hash_of = [](bool canonical, std::vector<std::string> commands) {
    Bench bench(Bench::fresh(canonical), false);
    LogMaker maker;
    std::vector<raft::Entry> entries;
    entries.push_back(maker.open());
    uint64_t sequence = 0;
    for (const std::string& text : commands) entries.push_back(maker.command(1, ++sequence, text));
    entries.push_back(maker.make(raft::EntryKind::kCompare, ""));
    bench.applier.apply(std::move(entries));
    bench.applier.poll_once();
    auto lines = bench.take();
    return std::pair(lines.back(), bench.digest);
  };
  auto [hash, digest] = hash_of(true, {"a", "b"});
  std::string bytes("\2\0\0\0\0\0\0\0a;b;", 12);  // the tape's snapshot
  EXPECT_EQ(hash, fmt::format("hashed 4 {:016x}", checksum64(as_bytes(bytes))));
  EXPECT_EQ(hash_of(true, {"a", "b"}).first, hash);
  EXPECT_NE(hash_of(true, {"a", "c"}).first, hash);
  // Without the plugin's permission there is no hash, and the chain is the same.
  auto [none, same] = hash_of(false, {"a", "b"});
  EXPECT_THAT(none, testing::Not(HasSubstr("hashed")));
  EXPECT_EQ(same, digest);
}

TEST(Applier, LoopHashesNothingItself) {
  Bench bench(Bench::fresh(true), true);
  LogMaker maker;
  bench.applier.apply({maker.make(raft::EntryKind::kNoop, "")});
  bench.applier.advance();
  EXPECT_TRUE(bench.applier.has_results());
  bench.take();
  bench.applier.apply({maker.make(raft::EntryKind::kCompare, "")});
  bench.applier.advance();
  EXPECT_FALSE(bench.applier.has_results()) << "a snapshot was written on the loop thread";
  EXPECT_TRUE(bench.applier.poll_once());
  EXPECT_THAT(bench.take(), ElementsAre(HasSubstr("hashed 2")));
}

TEST(Applier, ReplacedStateKeepsTheSessionOnlyIfItIsStillThere) {
  std::vector<raft::Entry> log = some_log(8);
  for (bool there : {true, false}) {
    Bench bench;
    bench.applier.apply({log.begin(), log.begin() + 4});
    bench.applier.poll_once();
    bench.take();
    Bench leader;
    leader.applier.apply({log.begin(), log.begin() + 8});
    LogMaker more;
    for (int i = 0; i < 8; ++i) more.make(raft::EntryKind::kNoop, "");
    if (!there) {
      std::vector<raft::Entry> entries;
      entries.push_back(more.open(kOwnId, kOwnIncarnation + 1));
      leader.applier.apply(std::move(entries));
    }
    leader.applier.take_snapshot();
    leader.applier.poll_once();
    leader.take();
    std::vector<std::string> warnings;
    auto reader = leader.store->open_newest(warnings);
    auto state = restore_snapshot(**reader, tape_plugin());
    ASSERT_TRUE(state);
    bench.applier.replace(std::move(*state));
    bench.applier.poll_once();
    EXPECT_THAT(bench.take(), ElementsAre("replaced"));
    EXPECT_EQ(bench.applied, leader.applied);
    EXPECT_EQ(bench.digest, leader.digest);
    uint64_t next = bench.applied.value() + 1;
    raft::Entry entry = more.command(2, 4, "after");
    ASSERT_EQ(entry.index.value(), next);
    std::vector<raft::Entry> entries;
    entries.push_back(std::move(entry));
    bench.applier.apply(std::move(entries));
    bench.applier.poll_once();
    if (there) {
      EXPECT_EQ(bench.take().size(), 1u);
    } else {
      EXPECT_TRUE(bench.take().empty());
    }
  }
}

}  // namespace
}  // namespace connectd::node
