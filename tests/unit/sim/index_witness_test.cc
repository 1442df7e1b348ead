// The index witness: for each rule histories that only this rule refuses, and the witness beside
// the search on drawn histories.
#include "sim/index_witness.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>

#include "base/log.h"
#include "sim/linearizability.h"
#include "tests/unit/sim/histories.h"
#include "tests/unit/sim/support.h"

namespace connectd::sim {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

const Request kA{"incr a", "", ""};
const Request kB{"incr b", "", ""};
const Request kC{"incr c", "", ""};
constexpr int64_t kSecond = 1'000'000'000;

WitnessLog& add(WitnessLog& log, raft::EntryKind kind, std::string_view payload = {},
                int64_t stamp_ns = 0) {
  WitnessEntry& added = log.emplace_back();
  added.entry.index = Index(log.size());
  added.entry.term = Term(1);
  added.entry.kind = kind;
  added.entry.stamp_ns = stamp_ns == 0 ? static_cast<int64_t>(log.size()) : stamp_ns;
  added.entry.payload = Slice::copy_of(payload);
  added.is_applied = kind == raft::EntryKind::kCommand;
  return log;
}

// Index 1 is the genesis; the commands follow from 2 on.
WitnessLog log_of(const std::vector<Request>& commands) {
  WitnessLog log;
  add(log, raft::EntryKind::kGenesis);
  for (const Request& request : commands) {
    add(log, raft::EntryKind::kCommand, request.bytes());
  }
  return log;
}

std::unique_ptr<PluginReplayer> replayer_of(const std::string& plugin) {
  auto replayer = PluginReplayer::make(load_plugin("plugins/lib" + plugin + ".so"), {});
  CHECK(replayer.has_value()) << replayer.error().text;
  return std::move(*replayer);
}

std::vector<WitnessRule> rules_broken(const History& history, const WitnessLog& log,
                                      const std::string& plugin = "counter") {
  std::vector<WitnessRule> rules;
  for (const BrokenRule& broken : check_index_witness(history, log, *replayer_of(plugin))) {
    EXPECT_THAT(broken.text, HasSubstr(rule_name(broken.rule)));
    rules.push_back(broken.rule);
  }
  return rules;
}

// ---- rules

TEST(Witness, GoodHistoryBreaksNoRule) {
  EXPECT_THAT(rules_broken({}, log_of({})), IsEmpty());
  History history = {answered(1, kA, 1, 2, "1\n", 2),
                     answered(2, kGet, 3, 6, "1\n", 2),  // sees the earlier value, and waits
                     answered(1, kB, 4, 5, "2\n", 3),
                     unanswered(3, kC, 7),
                     answered(1, kGet, 8, 9, "3\n", 4),
                     answered(2, kGet, 10, 11, "3\n", 4),
                     unanswered(2, {"incr d", "", ""}, 12, kRefused),
                     unanswered(2, {"incr e", "", ""}, 13)};
  EXPECT_THAT(rules_broken(history, log_of({kA, kB, kC})), IsEmpty());
}

TEST(Witness, AcknowledgedWriteHasAnIndexOfTheLog) {
  EXPECT_THAT(rules_broken({answered(1, kA, 1, 2, "1\n", 0)}, log_of({kA})),
              ElementsAre(WitnessRule::kLabel));
  EXPECT_THAT(rules_broken({answered(1, kA, 1, 2, "1\n", 9)}, log_of({kA})),
              ElementsAre(WitnessRule::kLabel));
  // Lost: acknowledged, and in no log.
  EXPECT_THAT(rules_broken({answered(1, kA, 1, 2, "1\n", 2)}, log_of({})),
              ElementsAre(WitnessRule::kLabel));
  // An answer that looks at no state has no index, a read that looks at one is never beyond the
  // log.
  EXPECT_THAT(rules_broken({answered(1, kGet, 1, 2, "hello\n", 0)}, log_of({})), IsEmpty());
  EXPECT_THAT(rules_broken({answered(1, kGet, 1, 2, "0\n", 2)}, log_of({})),
              ElementsAre(WitnessRule::kLabel));
}

TEST(Witness, IndexesOfWritesAreDistinct) {
  EXPECT_THAT(rules_broken({answered(1, kA, 1, 3, "1\n", 2), answered(2, kA, 2, 4, "1\n", 2)},
                           log_of({kA})),
              ElementsAre(WitnessRule::kDistinct));
}

TEST(Witness, EntryAtTheIndexIsTheWrite) {
  EXPECT_THAT(
      rules_broken({unanswered(2, kB, 1), answered(1, kA, 2, 3, "2\n", 3)}, log_of({kA, kB})),
      ElementsAre(WitnessRule::kOwnEntry));
  WitnessLog log = log_of({kA});
  log.back().is_applied = false;  // the sessions dropped it
  EXPECT_THAT(rules_broken({answered(1, kA, 1, 2, "1\n", 2)}, log),
              ElementsAre(WitnessRule::kOwnEntry));
}

TEST(Witness, NothingIsAppliedMoreOftenThanItWasCalled) {
  EXPECT_THAT(rules_broken({answered(1, kA, 1, 2, "1\n", 2)}, log_of({kA, kA})),
              ElementsAre(WitnessRule::kOnce));
  EXPECT_THAT(rules_broken({unanswered(1, kA, 1)}, log_of({kA, kA})),
              ElementsAre(WitnessRule::kOnce));
  // Called twice, it may be there twice, in a session's duplicate as often as it likes.
  EXPECT_THAT(
      rules_broken({answered(1, kA, 1, 2, "1\n", 2), unanswered(1, kA, 3)}, log_of({kA, kA})),
      IsEmpty());
  WitnessLog log = log_of({kA, kA});
  log.back().is_applied = false;
  EXPECT_THAT(rules_broken({answered(1, kA, 1, 2, "1\n", 2)}, log), IsEmpty());
}

TEST(Witness, RefusedCallIsNotApplied) {
  EXPECT_THAT(rules_broken({unanswered(1, kA, 1, kRefused)}, log_of({kA})),
              ElementsAre(WitnessRule::kRefused));
  EXPECT_THAT(rules_broken({unanswered(1, kA, 1, kRefused)}, log_of({})), IsEmpty());
}

TEST(Witness, AppliedCommandMustBeCalled) {
  EXPECT_THAT(rules_broken({answered(1, kA, 1, 2, "1\n", 2)}, log_of({kA, kB})),
              ElementsAre(WitnessRule::kAskedFor));
}

TEST(Witness, UnknownWriteFollowsEarlierReplies) {
  EXPECT_THAT(
      rules_broken({answered(1, kB, 1, 2, "2\n", 3), unanswered(2, kA, 3)}, log_of({kA, kB})),
      ElementsAre(WitnessRule::kUnknownInTime));
  EXPECT_THAT(rules_broken({answered(1, kGet, 1, 2, "1\n", 2), unanswered(2, kA, 3)}, log_of({kA})),
              ElementsAre(WitnessRule::kUnknownInTime));
  // On its own connection, also after what was called before it.
  auto pipelined = [](uint64_t client) -> History {
    return {answered(1, kB, 1, 9, "2\n", 3), unanswered(client, kA, 2)};
  };
  EXPECT_THAT(rules_broken(pipelined(1), log_of({kA, kB})),
              ElementsAre(WitnessRule::kUnknownInTime));
  EXPECT_THAT(rules_broken(pipelined(2), log_of({kA, kB})), IsEmpty());
}

TEST(Witness, CallAfterAReplyIsAppliedAfterIt) {
  // Writes, of one another.
  EXPECT_THAT(rules_broken({answered(1, kB, 1, 2, "2\n", 3), answered(2, kA, 3, 4, "1\n", 2)},
                           log_of({kA, kB})),
              ElementsAre(WitnessRule::kRealTime));
  // A stale read; it is not stale if it overlaps the write.
  EXPECT_THAT(rules_broken({answered(1, kA, 1, 2, "1\n", 2), answered(2, kGet, 3, 4, "0\n", 1)},
                           log_of({kA})),
              ElementsAre(WitnessRule::kRealTime));
  EXPECT_THAT(rules_broken({answered(1, kA, 1, 3, "1\n", 2), answered(2, kGet, 2, 4, "0\n", 1)},
                           log_of({kA})),
              IsEmpty());
  // Later reads with older values during a write; a write after a read that saw it.
  EXPECT_THAT(rules_broken({answered(1, kA, 1, 9, "1\n", 2), answered(2, kGet, 2, 3, "1\n", 2),
                            answered(3, kGet, 4, 5, "0\n", 1)},
                           log_of({kA})),
              ElementsAre(WitnessRule::kRealTime));
  EXPECT_THAT(rules_broken({answered(1, kGet, 1, 2, "1\n", 2), answered(2, kA, 3, 4, "1\n", 2)},
                           log_of({kA})),
              ElementsAre(WitnessRule::kRealTime));
}

TEST(Witness, ReadSeesTheWriteBeforeItOnItsConnection) {
  auto history = [](uint64_t client) -> History {
    return {answered(1, kA, 1, 3, "1\n", 2), answered(client, kGet, 2, 4, "0\n", 1)};
  };
  EXPECT_THAT(rules_broken(history(1), log_of({kA})), ElementsAre(WitnessRule::kReadAfterWrite));
  EXPECT_THAT(rules_broken(history(2), log_of({kA})), IsEmpty());
}

TEST(Witness, WriteComesBehindTheReadBeforeItOnItsConnection) {
  auto history = [](uint64_t client) -> History {
    return {answered(1, kGet, 1, 3, "1\n", 2), answered(client, kA, 2, 4, "1\n", 2)};
  };
  EXPECT_THAT(rules_broken(history(1), log_of({kA})), ElementsAre(WitnessRule::kWriteAfterRead));
  EXPECT_THAT(rules_broken(history(2), log_of({kA})), IsEmpty());
}

TEST(Witness, PipelinedRequestsOfOneKindKeepTheirOrder) {
  auto writes = [](uint64_t client) -> History {
    return {answered(1, kB, 1, 3, "2\n", 3), answered(client, kA, 2, 4, "1\n", 2)};
  };
  EXPECT_THAT(rules_broken(writes(1), log_of({kA, kB})), ElementsAre(WitnessRule::kPipeline));
  EXPECT_THAT(rules_broken(writes(2), log_of({kA, kB})), IsEmpty());
  auto reads = [](uint64_t client) -> History {
    return {answered(9, kA, 1, 8, "1\n", 2), answered(1, kGet, 2, 4, "1\n", 2),
            answered(client, kGet, 3, 5, "0\n", 1)};
  };
  EXPECT_THAT(rules_broken(reads(1), log_of({kA})), ElementsAre(WitnessRule::kPipeline));
  EXPECT_THAT(rules_broken(reads(2), log_of({kA})), IsEmpty());
}

TEST(Witness, ReplayGivesEveryReply) {
  EXPECT_THAT(rules_broken({answered(1, kA, 1, 2, "2\n", 2)}, log_of({kA})),
              ElementsAre(WitnessRule::kReplayedWrite));
  EXPECT_THAT(rules_broken({unanswered(1, kA, 1), answered(1, kGet, 2, 3, "0\n", 2)}, log_of({kA})),
              ElementsAre(WitnessRule::kReplayedRead));
  History history = {answered(1, kA, 1, 2, "1\n", 2), answered(1, kGet, 3, 4, "1\n", 2)};
  history[0].status = 3;
  EXPECT_THAT(rules_broken(history, log_of({kA})), ElementsAre(WitnessRule::kReplayedWrite));
  std::swap(history[0].status, history[1].status);
  EXPECT_THAT(rules_broken(history, log_of({kA})), ElementsAre(WitnessRule::kReplayedRead));
}

TEST(Witness, LogThatCannotBeReplayedIsNoWitness) {
  struct Broken final : Replayer {
    Result<Answer> apply(const WitnessEntry& entry) override {
      if (entry.entry.index < Index(3)) return Answer{0, "1\n"};
      return failure(ErrorKind::kPluginFailed, "it gave up");
    }
    Result<Answer> read(const WitnessEntry&, const std::string&) override { return Answer(); }
  } replayer;
  auto broken = check_index_witness({answered(1, kA, 1, 2, "1\n", 2), unanswered(1, kB, 3)},
                                    log_of({kA, kB}), replayer);
  ASSERT_EQ(broken.size(), 1u);
  EXPECT_EQ(broken[0].text, "replay: index 3: it gave up");
}

TEST(Witness, MessageNamesBothOperations) {
  auto broken =
      check_index_witness({answered(1, kA, 1, 2, "1\n", 2), answered(2, kGet, 3, 4, "0\n", 1)},
                          log_of({kA}), *replayer_of("counter"));
  ASSERT_EQ(broken.size(), 1u);
  EXPECT_EQ(broken[0].text,
            "real time: client 1: 'incr a' [#1, #2] -> '1\\n' index 2, then client 2: 'get' [#3, "
            "#4] -> '0\\n' index 1");
}

// Time is the log's, in ticks and in all other entries: what has expired at an index is told by it.
TEST(Witness, ReplayExpiresKeysByTheTimeOfTheLog) {
  Request set{"SET", "k", "v"};
  std::string with_life = resp({"SET", "k", "v", "PX", "400"});
  WitnessLog log;
  add(log, raft::EntryKind::kGenesis, {}, kSecond);
  add(log, raft::EntryKind::kCommand, with_life, 2 * kSecond);
  add(log, raft::EntryKind::kNoop, {}, 2 * kSecond + 400'000'000);
  add(log, raft::EntryKind::kNoop, {}, 2 * kSecond + 401'000'000);
  add(log, raft::EntryKind::kTick, {}, 3 * kSecond);
  Operation write = answered(1, set, 1, 2, "+OK\r\n", 2);
  write.request = with_life;
  auto read = [](uint64_t index, const std::string& reply) {
    return answered(1, {"GET", "k", ""}, 2 * index, 2 * index + 1, reply, index);
  };
  EXPECT_THAT(rules_broken({write, read(3, bulk("v")), read(4, kNull), read(5, kNull)}, log, "kv"),
              IsEmpty());
  EXPECT_THAT(rules_broken({write, read(3, kNull)}, log, "kv"),
              ElementsAre(WitnessRule::kReplayedRead));
  EXPECT_THAT(rules_broken({write, read(4, bulk("v"))}, log, "kv"),
              ElementsAre(WitnessRule::kReplayedRead));
}

// A tick removes what has expired, and what is held counts against the limit of the founding
// document: without ticks, or without the options, a replay replies otherwise.
TEST(Witness, ReplayTicksAndHasTheOptionsOfTheCluster) {
  node::Genesis genesis;
  genesis.plugin_options["limits.memory"] = "90";
  std::string with_life = resp({"SET", "k", "v", "PX", "400"});
  auto broken = [&](bool ticks, const std::string& second_reply) {
    WitnessLog log;
    add(log, raft::EntryKind::kGenesis, {}, kSecond);
    add(log, raft::EntryKind::kCommand, with_life, 2 * kSecond);
    add(log, ticks ? raft::EntryKind::kTick : raft::EntryKind::kNoop, {}, 3 * kSecond);
    add(log, raft::EntryKind::kCommand, resp({"SET", "other", "v"}), 4 * kSecond);
    Operation first = answered(1, {"SET", "k", "v"}, 1, 2, "+OK\r\n", 2);
    first.request = with_life;
    Operation second = answered(1, {"SET", "other", "v"}, 3, 4, second_reply, 4);
    second.status = second_reply.starts_with('-') ? 1 : 0;
    auto replayer = PluginReplayer::make(load_plugin("plugins/libkv.so"), genesis);
    CHECK(replayer.has_value());
    return check_index_witness({first, second}, log, **replayer).size();
  };
  const std::string full = "-OOM command not allowed when used memory > 'maxmemory'.\r\n";
  EXPECT_EQ(broken(true, "+OK\r\n"), 0u);
  EXPECT_EQ(broken(true, full), 1u);
  EXPECT_EQ(broken(false, full), 0u);
  EXPECT_EQ(broken(false, "+OK\r\n"), 1u);
}

TEST(Witness, ReplayGoesThroughEveryKindOfEntry) {
  WitnessLog log = log_of({kA});
  for (raft::EntryKind kind :
       {raft::EntryKind::kNoop, raft::EntryKind::kSessionOpen, raft::EntryKind::kConfChange,
        raft::EntryKind::kTick, raft::EntryKind::kCompare}) {
    add(log, kind);
  }
  EXPECT_THAT(
      rules_broken({answered(1, kA, 1, 2, "1\n", 2), answered(1, kGet, 3, 4, "1\n", 7)}, log),
      IsEmpty());
}

// ---- beside the search

struct DrawnRun {
  Drawn drawn;
  WitnessLog log;
};

// A drawn history with its log: the effects in their order, other entries between them, and every
// write different from every other.
DrawnRun draw_run(Random& random, DrawOptions options) {
  uint64_t number = 0;
  auto request = options.request;
  options.request = [&](Random& r) {
    Request drawn = request(r);
    if (drawn.is_write()) drawn.name += " " + std::to_string(++number);
    return drawn;
  };
  DrawnRun run;
  run.drawn = draw_history(random, options);
  add(run.log, raft::EntryKind::kGenesis);
  for (size_t at : run.drawn.effects) {
    Operation& operation = run.drawn.history[at];
    if (random.chance(20)) add(run.log, raft::EntryKind::kNoop);
    if (operation.is_write) add(run.log, raft::EntryKind::kCommand, operation.request);
    if (operation.outcome == OutcomeKind::kOk) operation.index = Index(run.log.size());
  }
  return run;
}

// Something that a broken cluster would have shown.
void spoil(Random& random, DrawnRun& run) {
  History& history = run.drawn.history;
  std::vector<Operation*> answered;
  for (Operation& operation : history) {
    if (operation.outcome == OutcomeKind::kOk) answered.push_back(&operation);
  }
  if (answered.empty()) return;
  Operation& a = *answered[random.below(answered.size())];
  Operation& b = *answered[random.below(answered.size())];
  switch (random.below(6)) {
    case 0:
      std::swap(a.reply, b.reply);
      break;
    case 1:
      std::swap(a.reply, b.reply);
      std::swap(a.index, b.index);
      break;
    case 2:
      a.index = Index(1 + random.below(run.log.size()));
      break;
    case 3:
      a.outcome = OutcomeKind::kRefused;
      break;
    case 4:
      a.reply = std::to_string(random.below(answered.size() + 1)) + "\n";
      break;
    default: {  // a read of another moment, with its label
      SimpleMachine machine;
      Index moment(1 + random.below(run.log.size()));
      for (const WitnessEntry& entry : run.log) {
        if (entry.is_applied && entry.entry.index <= moment) machine.execute(kA);
      }
      if (a.is_write) break;
      a.reply = std::to_string(machine.count) + "\n";
      a.index = moment;
    }
  }
}

TEST(WitnessAndSearch, AgreeAndWitnessFindsEveryViolation) {
  size_t good = 0, both = 0, only_witness = 0;
  for (uint64_t seed = 1; seed <= 4000; ++seed) {
    Random random(seed);
    DrawOptions options;
    options.operations = 1 + random.below(30);
    options.clients = 1 + random.below(5);
    options.pipelined_max = 1 + random.below(4);
    options.unknown_percent = static_cast<double>(random.below(30));
    options.request = counter_request;
    DrawnRun run = draw_run(random, options);
    bool spoiled = random.chance(60);
    if (spoiled) spoil(random, run);
    auto broken = check_index_witness(run.drawn.history, run.log, *replayer_of("counter"));
    auto searched = check_linearizable(run.drawn.history, CounterModel());
    ASSERT_TRUE(searched.has_value());
    ASSERT_NE(searched->verdict, Verdict::kBudgetExhausted);
    bool found = searched->verdict == Verdict::kNotLinearizable;
    if (!spoiled) {
      ASSERT_TRUE(broken.empty()) << "seed " << seed << ": " << broken[0].text;
      ASSERT_FALSE(found) << "seed " << seed << ": " << searched->text;
    }
    ASSERT_FALSE(found && broken.empty()) << "seed " << seed << ": " << searched->text;
    good += broken.empty() ? 1 : 0;
    both += found ? 1 : 0;
    only_witness += !found && !broken.empty() ? 1 : 0;
  }
  EXPECT_GT(good, 1500u);
  EXPECT_GT(both, 800u);
  EXPECT_GT(only_witness, 100u);  // labels that are wrong, replies that are not
}

TEST(WitnessCost, HundredThousandOperations) {
  Random random(3);
  DrawOptions options;
  options.operations = 100'000;
  options.clients = 20;
  options.pipelined_max = 20;
  options.request = counter_request;
  DrawnRun run = draw_run(random, options);
  auto replayer = replayer_of("counter");
  auto before = std::chrono::steady_clock::now();
  EXPECT_THAT(check_index_witness(run.drawn.history, run.log, *replayer), IsEmpty());
  auto took = std::chrono::steady_clock::now() - before;
  std::printf("%zu operations, %zu entries: %ld ms\n", run.drawn.history.size(), run.log.size(),
              took / std::chrono::milliseconds(1));
  EXPECT_LT(took, std::chrono::seconds(10));  // quadratic would be minutes
}

}  // namespace
}  // namespace connectd::sim
