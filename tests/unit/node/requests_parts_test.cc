// What the holder is made of, each alone: a connection's order, the numbers of writes, the indexes
// of reads. How they play together is in holder_test.cc and holder_random_test.cc.
#include <gmock/gmock.h>

#include "base/log.h"
#include "node/requests/classifier.h"
#include "node/requests/reads.h"
#include "node/requests/stream.h"
#include "node/requests/writes.h"
#include "tests/unit/node/holder_harness.h"
#include "tests/unit/node/tape_plugin.h"

namespace connectd::node {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::Not;

constexpr size_t kCost = 300;

// ---- PluginClassifier

std::shared_ptr<plugin::Instance> instance_of(const connectd_plugin* table) {
  auto plugin = plugin::Plugin::wrap(table);
  CHECK(plugin.has_value()) << plugin.error().text;
  auto instance = plugin::Instance::create(*plugin, plugin::Options());
  CHECK(instance.has_value()) << instance.error().text;
  return std::move(*instance);
}

TEST(PluginClassifierTest, UsesTheCurrentInstance) {
  connectd_plugin refuses = tape::kTable;
  refuses.classify = [](const void*, connectd_bytes, const connectd_sink*) -> int32_t {
    return CONNECTD_E_FAULT;
  };
  const auto first = instance_of(&tape::kTable);
  PluginClassifier classifier(first);
  EXPECT_EQ(classifier.classify(as_bytes("read")).kind, RequestKind::kRead);
  EXPECT_EQ(classifier.classify(as_bytes("add")).kind, RequestKind::kWrite);
  EXPECT_FALSE(classifier.classify(as_bytes("add")).plugin_failed);

  EXPECT_EQ(classifier.replace(instance_of(&refuses)), first);
  const Classified failed = classifier.classify(as_bytes("add"));
  EXPECT_TRUE(failed.plugin_failed);
  EXPECT_FALSE(failed.reply.empty()) << "the log needs a text";
}

// ---- Stream

class StreamTest : public ::testing::Test {
 protected:
  void push(RequestKind kind, ReadOptions read = {}) {
    stream.push(kind, Slice::copy_of("x"), read, Time(seconds(1)), Time(seconds(5)), kCost);
  }
  std::vector<uint64_t> start() {
    std::vector<uint64_t> ordinals;
    while (auto started = stream.start_next()) ordinals.push_back(started->ordinal);
    return ordinals;
  }
  size_t answer(uint64_t ordinal, std::string_view text) {
    return stream.answer(ordinal, {ReplyCode::kOk, as_bytes(text), false, 0, Index()}).cost;
  }

  RecordingClient client;
  Stream stream{&client};
};

TEST_F(StreamTest, BarrierBetweenKinds) {
  push(RequestKind::kWrite);
  push(RequestKind::kWrite);
  push(RequestKind::kRead);
  EXPECT_THAT(start(), ElementsAre(0, 1));
  answer(0, "a");
  EXPECT_THAT(start(), IsEmpty());
  answer(1, "b");
  EXPECT_THAT(start(), ElementsAre(2));
}

TEST_F(StreamTest, BarrierBetweenReadLevels) {
  push(RequestKind::kRead);
  push(RequestKind::kRead, {ReadLevel::kLease});
  EXPECT_THAT(start(), ElementsAre(0));
}

TEST_F(StreamTest, RepliesInOrderOfSubmission) {
  push(RequestKind::kWrite);
  push(RequestKind::kWrite);
  stream.push_answered(ReplyCode::kRejected, "no", kCost);
  start();
  EXPECT_EQ(answer(1, "b"), kCost);
  EXPECT_THAT(client.texts, IsEmpty());
  EXPECT_FALSE(stream.take_replied());
  answer(0, "a");
  EXPECT_THAT(client.texts, ElementsAre("a", "b", "no"));
  EXPECT_EQ(stream.pending(), 0u);
  EXPECT_EQ(stream.pending_bytes(), 0u);
  EXPECT_TRUE(stream.take_replied());
  EXPECT_FALSE(stream.take_replied()) << "told once";
  stream.end_replies();
  EXPECT_EQ(client.ends, 1);
}

TEST_F(StreamTest, CongestedClientStartsNothing) {
  client.congested = true;
  push(RequestKind::kWrite);
  EXPECT_THAT(start(), IsEmpty());
  client.congested = false;
  EXPECT_THAT(start(), ElementsAre(0));
}

TEST_F(StreamTest, OneRunOfReadsAtATime) {
  for (uint64_t i = 0; i < 300; ++i) stream.add_ready({{nullptr, i}, {}, {}});
  EXPECT_TRUE(stream.becomes_ready());
  EXPECT_FALSE(stream.becomes_ready()) << "it is in the queue already";
  std::vector<ReadTask> reads;
  stream.take_ready(reads);
  ASSERT_EQ(reads.size(), 256u);
  EXPECT_FALSE(stream.becomes_ready()) << "the run is not back";
  for (int i = 0; i < 255; ++i) stream.executed();
  EXPECT_FALSE(stream.becomes_ready());
  stream.executed();
  // The rest of the run could not be executed: it stands before all else.
  for (size_t i = 256; i-- > 200;) stream.put_back(std::move(reads[i]));
  EXPECT_TRUE(stream.becomes_ready());
  reads.clear();
  stream.take_ready(reads);
  ASSERT_EQ(reads.size(), 100u);
  for (size_t i = 0; i < reads.size(); ++i) EXPECT_EQ(reads[i].ref.ordinal, 200 + i);
}

// Their replies cannot wait: until they are known to be small, few are in progress.
TEST_F(StreamTest, WritesInProgressDependOnTheirReplies) {
  for (int i = 0; i < 200; ++i) push(RequestKind::kWrite);
  EXPECT_EQ(start().size(), 64u);
  answer(0, std::string(1 << 20, 'x'));
  for (uint64_t i = 1; i < 60; ++i) answer(i, std::string(1 << 20, 'x'));
  EXPECT_THAT(start(), IsEmpty()) << "4 of 1 MiB are in progress";
  answer(60, std::string(1 << 20, 'x'));
  EXPECT_THAT(start(), ElementsAre(64));
  for (uint64_t i = 61; i < 65; ++i) answer(i, "small");
  EXPECT_GE(start().size(), 4u);
}

TEST_F(StreamTest, ClosedClientHearsNothing) {
  push(RequestKind::kWrite);
  start();
  stream.close();
  answer(0, "a");
  EXPECT_THAT(client.texts, IsEmpty());
}

// ---- Writes

class WritesTest : public ::testing::Test {
 protected:
  WritesTest() { writes.leader_changed(NodeId(1), Term(5), true); }

  void add(std::string_view text, Duration deadline = seconds(5)) {
    writes.add({stream, next++}, Slice::copy_of(text), now + deadline);
  }
  // "open", or "sequence:payload", of each forwarded proposal.
  std::vector<std::string> forward_queued(bool settle_only = false) {
    Effects out;
    writes.forward_queued(now, progress, settle_only, out);
    std::vector<std::string> texts;
    for (const WritesToLeader& handed : out.writes) {
      for (const raft::Proposal& proposal : handed.proposals) {
        texts.push_back(proposal.kind == raft::EntryKind::kSessionOpen
                            ? "open"
                            : fmt::format("{}:{}", proposal.sequence, proposal.payload.text()));
      }
    }
    return texts;
  }
  void open() {
    EXPECT_THAT(forward_queued(), ElementsAre("open"));
    writes.session_opened(SessionId(10), kIncarnation);
  }

  Time now{seconds(100)};
  Progress progress;
  std::shared_ptr<Stream> stream = std::make_shared<Stream>(nullptr);
  uint64_t next = 0;
  Writes writes{kSelf, kIncarnation, {}};
};

TEST_F(WritesTest, OpensASessionThenNumbers) {
  add("a");
  open();
  add("b");
  EXPECT_THAT(forward_queued(), ElementsAre("1:a", "2:b"));
  EXPECT_THAT(forward_queued(), IsEmpty());
  auto ref = writes.applied(SessionId(10), Sequence(1), now);
  ASSERT_TRUE(ref);
  EXPECT_EQ(ref->ordinal, 0u);
}

TEST_F(WritesTest, NewLeaderMeansNewSessionAndNewNumbers) {
  open();
  add("a");
  add("b");
  forward_queued();
  EXPECT_TRUE(writes.applied(SessionId(10), Sequence(1), now));
  writes.leader_changed(NodeId(3), Term(6), true);
  EXPECT_THAT(forward_queued(), ElementsAre("open"));
  writes.session_opened(SessionId(20), kIncarnation);
  EXPECT_THAT(forward_queued(), ElementsAre("1:b"));
}

TEST_F(WritesTest, TellingTheSameLeaderAgainChangesNothing) {
  open();
  add("a");
  forward_queued();
  writes.leader_changed(NodeId(1), Term(5), true);
  EXPECT_TRUE(writes.has_session());
}

TEST_F(WritesTest, ExpiredNumberedIsGivenOnceAndSettledLater) {
  open();
  add("a");
  forward_queued();
  EXPECT_THAT(writes.expire_numbered(now), IsEmpty());
  now += seconds(5);
  EXPECT_EQ(writes.expire_numbered(now).size(), 1u);
  EXPECT_THAT(writes.expire_numbered(now), IsEmpty());
  EXPECT_FALSE(writes.applied(SessionId(10), Sequence(1), now)) << "it was answered";
}

TEST_F(WritesTest, LostWriteIsSettledByANewSession) {
  open();
  add("a");
  forward_queued();
  now += milliseconds(999);
  EXPECT_THAT(forward_queued(), IsEmpty());
  now += milliseconds(2);
  EXPECT_THAT(forward_queued(), ElementsAre("open"));
  now += milliseconds(249);
  EXPECT_THAT(forward_queued(), IsEmpty());
  now += milliseconds(1);
  EXPECT_THAT(forward_queued(), ElementsAre("open"));
}

// It may be among the entries that wait: each further session would be one more entry behind them.
TEST_F(WritesTest, BusyPluginIsNoLostWrite) {
  open();
  add("a");
  forward_queued();
  progress = {Index(20), Index(15)};
  for (int second = 0; second < 10; ++second) {
    now += seconds(1);
    EXPECT_THAT(forward_queued(), IsEmpty());
    ++progress.committed;
  }
  progress.applied = Index(20);
  EXPECT_THAT(forward_queued(), ElementsAre("open")) << "it was not among them";
  for (int second = 0; second < 10; ++second) {
    now += seconds(1);
    EXPECT_THAT(forward_queued(), IsEmpty());
  }
  progress.applied = progress.committed;
  EXPECT_THAT(forward_queued(), ElementsAre("open"));
}

TEST_F(WritesTest, SettleOnlyOpensNoSessionForNothing) {
  add("a");
  EXPECT_THAT(forward_queued(true), IsEmpty());
}

TEST_F(WritesTest, OlderDeadlinesGoFirst) {
  open();
  add("late", seconds(5));
  add("early", seconds(1));
  EXPECT_THAT(forward_queued(), ElementsAre("1:early", "2:late"));
}

// It is first in the queue again, and holds up the timeout of nobody.
TEST_F(WritesTest, ReturnedWriteHidesNoExpiredOne) {
  open();
  add("a", seconds(9));
  forward_queued();
  writes.leader_changed(NodeId(3), Term(6), true);
  add("b", seconds(2));
  forward_queued();
  writes.session_opened(SessionId(20), kIncarnation);
  now += seconds(2);
  const auto expired = writes.expire_queued(now);
  ASSERT_EQ(expired.size(), 1u);
  EXPECT_EQ(expired[0].ordinal, 1u);
  EXPECT_THAT(forward_queued(), ElementsAre("1:a"));
}

// ---- Reads

class ReadsTest : public ::testing::Test {
 protected:
  void add(ReadLevel level) {
    ReadTask task;
    task.ref = {nullptr, next++};
    task.deadline = now + seconds(5);
    task.options.level = level;
    reads.add(std::move(task), false);
  }
  std::vector<raft::ReadRequest> ask() {
    Effects out;
    reads.ask(true, now, out);
    std::vector<raft::ReadRequest> questions;
    for (const raft::Event& event : out.events) {
      questions.push_back(std::get<raft::ReadRequest>(event));
    }
    return questions;
  }
  std::vector<uint64_t> reached(uint64_t handed) {
    std::vector<ReadTask> out;
    reads.take_reached(Index(handed), out);
    std::vector<uint64_t> ordinals;
    for (const ReadTask& task : out) ordinals.push_back(task.ref.ordinal);
    return ordinals;
  }

  Time now{seconds(100)};
  uint64_t next = 0;
  Reads reads{{std::chrono::milliseconds(250), std::chrono::milliseconds(10)}};
};

TEST(ForwardedWrites, SessionOpensOnlyOfTheSenderAndAlone) {
  auto forward = [](std::vector<uint64_t> owners, bool with_write = false) {
    wire::ForwardProposals writes{Term(5), {}};
    for (uint64_t owner : owners) {
      auto& open = writes.proposals.emplace_back();
      open.kind = raft::EntryKind::kSessionOpen;
      open.payload = Slice::copy_of(wire::SessionOwner{NodeId(owner), 77}.encode());
    }
    if (with_write) writes.proposals.emplace_back().kind = raft::EntryKind::kCommand;
    return writes;
  };
  auto fault_of = [](const wire::ForwardProposals& writes) {
    return Writes::fault_of(writes, NodeId(2));
  };
  EXPECT_THAT(fault_of(forward({2})), IsEmpty());
  EXPECT_THAT(fault_of(forward({}, true)), IsEmpty());
  EXPECT_THAT(fault_of(forward({3})), Not(IsEmpty()));
  EXPECT_THAT(fault_of(forward({2, 2})), Not(IsEmpty()));
  EXPECT_THAT(fault_of(forward({2}, true)), Not(IsEmpty()));
  auto empty = forward({2});
  empty.proposals[0].payload = Slice();
  EXPECT_THAT(fault_of(empty), Not(IsEmpty()));
}

TEST_F(ReadsTest, OneQuestionForAllOfATurn) {
  add(ReadLevel::kLinearizable);
  add(ReadLevel::kLinearizable);
  const auto questions = ask();
  ASSERT_EQ(questions.size(), 1u);
  EXPECT_THAT(ask(), IsEmpty());
  reads.read_index(questions[0].context, Index(7));
  EXPECT_THAT(reached(6), IsEmpty());
  EXPECT_THAT(reached(7), ElementsAre(0, 1));
}

TEST_F(ReadsTest, LeaseAnswersLeaseReadsOnly) {
  add(ReadLevel::kLinearizable);
  const auto round = ask();
  add(ReadLevel::kLease);
  const auto lease = ask();
  ASSERT_EQ(lease.size(), 1u);
  EXPECT_TRUE(lease[0].lease);
  reads.read_index(lease[0].context, Index(3));
  EXPECT_THAT(reached(9), ElementsAre(1));
  reads.read_index(round[0].context, Index(5));
  EXPECT_THAT(reached(9), ElementsAre(0));
}

TEST_F(ReadsTest, LostQuestionIsAskedAgain) {
  add(ReadLevel::kLinearizable);
  const auto first = ask();
  now += HolderLimits().retry_interval;
  const auto again = ask();
  ASSERT_EQ(again.size(), 1u);
  EXPECT_EQ(again[0].context, first[0].context);
}

TEST_F(ReadsTest, ExpiredReadSaysWhy) {
  add(ReadLevel::kLinearizable);
  ask();
  now += seconds(5);
  std::vector<Refused> expired;
  reads.expire(now, expired);
  ASSERT_EQ(expired.size(), 1u);
  EXPECT_EQ(expired[0].code, ReplyCode::kNoLeader);
}

TEST_F(ReadsTest, UnaskedAreTakenAtTheEnd) {
  add(ReadLevel::kLinearizable);
  add(ReadLevel::kStale);
  EXPECT_EQ(reads.take_unasked().size(), 2u);
  EXPECT_THAT(ask(), IsEmpty());
}

}  // namespace
}  // namespace connectd::node
