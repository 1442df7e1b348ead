// The holder of requests, one rule per test. Its behaviour under random loss is in
// holder_random_test.cc.
#include <gmock/gmock.h>

#include "node/apply/replicated_state.h"
#include "tests/unit/node/holder_harness.h"

namespace connectd::node {
namespace {

using ::testing::Each;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;
using ::testing::StartsWith;

// ---- streams

TEST(Stream, AnswersWithoutConsensusComeAtOnceAndInOrder) {
  HolderBench bench;
  auto client = bench.connect();
  client->submit("p");
  client->submit("x");
  client->submit("Xno such command");
  client->submit("!");
  ASSERT_EQ(client->codes.size(), 4u);
  EXPECT_EQ(client->reply(0), "OK pong");
  EXPECT_EQ(client->reply(1), "REJECTED the plugin refused the request");
  EXPECT_FALSE(client->plugin_refused[1]);
  EXPECT_EQ(client->reply(2), "REJECTED no such command");
  EXPECT_TRUE(client->plugin_refused[2]);
  EXPECT_EQ(client->reply(3), "PLUGIN it broke");
  EXPECT_FALSE(client->plugin_refused[3]);
  EXPECT_EQ(client->stream->pending(), 0u);
  EXPECT_EQ(client->stream->pending_bytes(), 0u);
  EXPECT_EQ(client->ends, 0);
  bench.holder.end_replies();
  EXPECT_EQ(client->ends, 1);
  bench.holder.end_replies();
  EXPECT_EQ(client->ends, 1);
}

TEST(Holder, CountsAnswersAndTheirTimes) {
  HolderBench bench;
  bench.open_session();
  auto client = bench.connect();
  for (const char* request : {"p", "x", "w1", "w2"}) client->submit(request);
  bench.advance();
  bench.advance(milliseconds(3));
  bench.applied(10, 1, 11, "a");
  bench.advance(milliseconds(1000));
  bench.applied(10, 2, 12, "b");
  const Metrics::Loop& counts = bench.metrics->loop;
  const auto code = [&](ReplyCode of) { return counts.requests[static_cast<size_t>(of)].value(); };
  EXPECT_EQ(code(ReplyCode::kOk), 3u);
  EXPECT_EQ(code(ReplyCode::kRejected), 1u);
  EXPECT_EQ(code(ReplyCode::kPlugin), 0u);
  EXPECT_EQ(counts.write_time.buckets().sum(), 1'006'000'000u);  // 3 ms, and 1,003 ms
  EXPECT_EQ(counts.read_time.buckets().sum(), 0u);
}

// What classify says is a boundary: the kind decides, and only the requests from now on.
TEST(Stream, RightsAreOfWhatClassifySays) {
  struct Case {
    Rights rights;
    std::string_view refused, taken;
  };
  for (const Case& c : {Case{{true, true}, "", "wrl"}, Case{{true, false}, "w", "rl"},
                        Case{{false, true}, "rl", "w"}}) {
    for (char letter : std::string(c.refused) + std::string(c.taken)) {
      HolderBench bench;
      bench.open_session();
      auto client = bench.connect();
      client->stream->set_rights(c.rights);
      client->submit(std::string(1, letter));
      bench.advance();
      const bool is_refused = c.refused.find(letter) != std::string_view::npos;
      EXPECT_EQ(client->codes.size(), is_refused ? 1u : 0u) << letter;
      EXPECT_THAT(client->reply(0), StartsWith(is_refused ? "NOPERM the request is a " : "(none)"));
      EXPECT_EQ(client->stream->pending(), is_refused ? 0u : 1u);
      client->submit("p");
      EXPECT_EQ(client->codes.size(), is_refused ? 2u : 0u) << "what answers itself is answered";
    }
  }
}

TEST(Stream, WithoutRightsNothingIsClassified) {
  HolderBench bench;
  auto client = bench.connect();
  client->stream->set_rights({false, false});
  for (const char* request : {"p", "X", "!", "w", "r"}) client->submit(request);
  ASSERT_THAT(client->codes, SizeIs(5));
  EXPECT_THAT(client->codes, Each(ReplyCode::kNoPerm));
  client->stream->set_rights({});
  client->submit("p");
  EXPECT_EQ(client->reply(5), "OK pong");
}

TEST(Stream, AnswerWaitsForThoseBeforeIt) {
  HolderBench bench;
  bench.open_session();
  auto client = bench.connect();
  client->submit("w1");
  client->submit("p");
  bench.advance();
  EXPECT_TRUE(client->codes.empty());
  bench.applied(10, 1, 11, "one");
  EXPECT_THAT(client->texts, ElementsAre("one", "pong"));
}

TEST(Stream, SameKindIsPipelinedKindChangeIsBarrier) {
  HolderBench bench;
  bench.open_session();
  auto client = bench.connect();
  for (const char* request : {"w1", "w2", "r3", "r4", "w5", "l6"}) client->submit(request);
  bench.advance();
  EXPECT_EQ(bench.numbered(), "10/1:w1 10/2:w2");
  EXPECT_TRUE(bench.asked.empty());
  bench.applied(10, 1, 11, "a");
  bench.advance();
  EXPECT_TRUE(bench.asked.empty()) << "a read left before the write in front of it was answered";
  bench.applied(10, 2, 12, "b");
  bench.advance();
  ASSERT_EQ(bench.asked.size(), 1u) << "one read index for all reads of a turn";
  bench.holder.read_index(bench.asked[0], Index(12));
  EXPECT_TRUE(bench.take_reads(11).empty()) << "executed before its index was handed out";
  auto reads = bench.take_reads(12);
  ASSERT_EQ(reads.size(), 2u);
  EXPECT_EQ(reads[0].request.text(), "r3");
  EXPECT_EQ(reads[1].request.text(), "r4");
  bench.sent.clear();
  bench.advance();
  EXPECT_EQ(bench.numbered(), "") << "a write left before the reads in front of it were answered";
  // Whatever the order of the answers, the client sees its own.
  bench.holder.read_done(reads[1].ref, {ReplyCode::kOk, as_bytes("d"), false, 0, Index(12)});
  EXPECT_EQ(client->texts.size(), 2u);
  bench.holder.read_done(reads[0].ref, {ReplyCode::kOk, as_bytes("c"), false, 0, Index(12)});
  EXPECT_THAT(client->texts, ElementsAre("a", "b", "c", "d"));
  bench.advance();
  EXPECT_EQ(bench.numbered(), "10/3:w5");
  bench.applied(10, 3, 13, "e");
  reads = bench.take_reads(0);
  ASSERT_EQ(reads.size(), 1u) << "a local read waits for nothing but its turn";
  bench.holder.read_done(reads[0].ref, {ReplyCode::kOk, as_bytes("f"), false, 0, Index(13)});
  EXPECT_THAT(client->texts, ElementsAre("a", "b", "c", "d", "e", "f"));
  EXPECT_EQ(bench.holder.held(), 0u);
  EXPECT_EQ(bench.holder.held_bytes(), 0u);
}

TEST(Holder, NoSpaceRejectsWritesThenRecovers) {
  HolderBench bench;
  bench.open_session();
  auto client = bench.connect();
  bench.holder.set_disk_full("no space");
  client->submit("w1");
  EXPECT_EQ(client->reply(0), "DISKFULL no space");
  client->submit("r2");
  bench.advance();
  EXPECT_EQ(bench.numbered(), "") << "a refused write was handed on";
  ASSERT_EQ(bench.asked.size(), 1u) << "reads need no space";
  bench.holder.read_index(bench.asked[0], Index(10));
  auto reads = bench.take_reads(10);
  ASSERT_EQ(reads.size(), 1u);
  bench.holder.read_done(reads[0].ref, {ReplyCode::kOk, as_bytes("v"), false, 0, Index(10)});
  bench.holder.set_disk_full("");
  client->submit("w3");
  bench.advance();
  EXPECT_EQ(bench.numbered(), "10/1:w3");
}

// Another member sends a command in this node's session, with the number of its next write: that
// write would count as a duplicate, and not be applied.
TEST(Holder, ForeignWriteInItsSessionBeginsAnotherOne) {
  HolderBench bench;
  bench.open_session();
  auto client = bench.connect();
  client->submit("w1");
  bench.advance();
  bench.applied(10, 1, 11, "one");
  bench.sent.clear();
  bench.applied(10, 2, 12, "not ours");
  bench.applied(10, 3, 13, "nor this");
  client->submit("w2");
  bench.advance();
  EXPECT_EQ(bench.numbered(), "open");
  bench.holder.session_opened(SessionId(21), kIncarnation);
  bench.advance();
  EXPECT_EQ(bench.numbered(), "open 21/1:w2");
  bench.applied(21, 1, 22, "two");
  EXPECT_EQ(client->reply(1), "OK two");
}

TEST(Holder, SkippedWriteGetsFinalReplyAndNextRuns) {
  HolderBench bench;
  bench.open_session();
  auto client = bench.connect();
  client->submit("w1");
  client->submit("w2");
  bench.advance();
  bench.holder.applied(SessionId(10), Sequence(1), Index(11), kSkippedStatus, {});
  bench.applied(10, 2, 12, "two");
  ASSERT_EQ(client->codes.size(), 2u);
  EXPECT_EQ(client->codes[0], ReplyCode::kPlugin);
  EXPECT_THAT(client->texts[0], HasSubstr("it was not executed"));
  EXPECT_EQ(client->reply(1), "OK two");
}

// What is out is settled by a new session, which is opened for it; what comes back is refused like
// what nobody was handed, and so did not happen.
TEST(Holder, NoSpaceRejectsReturnedUnappliedWrites) {
  HolderLimits limits;
  limits.credit_bytes = 600;
  HolderBench bench(limits);
  bench.open_session();
  auto client = bench.connect();
  for (const char* text : {"w1", "w2", "w3", "w4"}) client->submit(text);
  bench.advance();
  EXPECT_EQ(bench.numbered(), "10/1:w1 10/2:w2");
  bench.holder.set_disk_full("no space");
  bench.holder.forward_refused(Term(5));
  bench.advance();
  EXPECT_TRUE(client->codes.empty()) << "those in front are not answered yet";
  bench.sent.clear();
  bench.advance(milliseconds(20));
  ASSERT_EQ(bench.sent.size(), 1u);
  EXPECT_EQ(bench.sent[0].proposals.at(0).kind, raft::EntryKind::kSessionOpen);
  bench.holder.applied(SessionId(10), Sequence(1), Index(20), 0, as_bytes("1"));
  bench.holder.session_opened(SessionId(21), kIncarnation);
  bench.advance();
  ASSERT_EQ(client->codes.size(), 4u);
  EXPECT_EQ(client->reply(0), "OK 1");
  for (size_t i = 1; i < 4; ++i) EXPECT_EQ(client->reply(i), "DISKFULL no space");
  EXPECT_EQ(bench.holder.held(), 0u);
}

// A session is not opened for nothing.
TEST(Holder, WithoutSpaceAndWithoutWritesNoSessionIsOpened) {
  HolderBench bench;
  bench.holder.set_disk_full("no space");
  bench.holder.leader_changed(NodeId(1), Term(5), true);
  bench.advance();
  EXPECT_TRUE(bench.sent.empty());
  bench.holder.set_disk_full("");
  bench.advance();
  EXPECT_EQ(bench.sent.size(), 1u);
}

TEST(Stream, DivergedReplicasRejectWritesServeReads) {
  HolderBench bench;
  bench.open_session();
  auto client = bench.connect();
  auto late = bench.connect();
  bench.holder.leader_changed(NodeId(), Term(9), false);
  // One waits for a leader, the next one for its barrier.
  client->submit("w1");
  client->submit("w2");
  bench.advance();
  EXPECT_TRUE(client->codes.empty());
  bench.holder.refuse_writes("they differ at 17");
  late->submit("w3");
  EXPECT_THAT(client->codes, ElementsAre(ReplyCode::kPlugin, ReplyCode::kPlugin));
  ASSERT_THAT(late->codes, ElementsAre(ReplyCode::kPlugin));
  EXPECT_EQ(late->texts.back(), "they differ at 17");
  bench.holder.leader_changed(NodeId(1), Term(9), true);
  late->submit("r4");
  bench.advance();
  EXPECT_EQ(bench.asked.size(), 1u) << "a read was refused";
  EXPECT_EQ(bench.numbered(), "") << "a refused write was handed on";
  bench.holder.refuse_writes("");
  client->submit("w5");
  bench.advance();
  EXPECT_EQ(client->codes.size(), 2u) << "a write was refused";
}

TEST(Stream, ReadsThatWereNotExecutedGoAgainInOrder) {
  HolderBench bench;
  bench.open_session();
  auto client = bench.connect();
  for (int i = 0; i < 100; ++i) client->submit("r");
  bench.advance();
  bench.holder.read_index(bench.asked.at(0), Index(10));
  auto reads = bench.take_reads(10);
  ASSERT_EQ(reads.size(), 100u);
  client->submit("r");
  bench.advance();
  bench.holder.read_index(bench.asked.at(1), Index(10));
  EXPECT_TRUE(bench.take_reads(10).empty()) << "more, while those are not executed";
  bench.holder.read_done(reads[0].ref, {ReplyCode::kOk, as_bytes("a"), false, 0, Index(10)});
  std::vector<ReadTask> left(std::make_move_iterator(reads.begin() + 1),
                             std::make_move_iterator(reads.end()));
  client->congested = true;
  bench.holder.reads_left(left);
  EXPECT_TRUE(bench.take_reads(10).empty()) << "its client has no room";
  client->congested = false;
  client->stream->resume();
  reads = bench.take_reads(10);
  ASSERT_EQ(reads.size(), 100u);
  for (size_t i = 0; i < reads.size(); ++i) EXPECT_EQ(reads[i].ref.ordinal, i + 1);
  for (ReadTask& read : reads) {
    bench.holder.read_done(read.ref, {ReplyCode::kOk, as_bytes("b"), false, 0, Index(10)});
  }
  EXPECT_EQ(client->codes.size(), 101u);
  EXPECT_EQ(bench.holder.held(), 0u);
}

TEST(Stream, StreamsDoNotWaitForEachOther) {
  HolderBench bench;
  bench.open_session();
  auto writer = bench.connect();
  auto reader = bench.connect();
  writer->submit("w1");
  reader->submit("r1");
  bench.advance();
  EXPECT_EQ(bench.numbered(), "10/1:w1");
  EXPECT_EQ(bench.asked.size(), 1u);
}

TEST(Stream, ClosedEarlyGetsNoReplyAndItsWritesGoOn) {
  HolderBench bench;
  bench.open_session();
  auto client = bench.connect();
  for (const char* request : {"w1", "r2", "w3"}) client->submit(request);
  bench.advance();
  client->stream.reset();
  bench.applied(10, 1, 11, "one");
  bench.advance();
  ASSERT_EQ(bench.asked.size(), 1u);
  bench.holder.read_index(bench.asked[0], Index(11));
  auto reads = bench.take_reads(11);
  ASSERT_EQ(reads.size(), 1u);
  bench.holder.read_done(reads[0].ref, {ReplyCode::kOk, as_bytes("two"), false, 0, Index(11)});
  reads.clear();
  bench.advance();
  EXPECT_EQ(bench.numbered(), "10/1:w1 10/2:w3");
  bench.applied(10, 2, 12, "three");
  bench.holder.end_replies();
  EXPECT_TRUE(client->codes.empty());
  EXPECT_EQ(client->ends, 0);
  EXPECT_EQ(bench.holder.held(), 0u);
  EXPECT_EQ(bench.holder.held_bytes(), 0u);
}

TEST(Stream, MayBeClosedFromTheEndOfATurn) {
  HolderBench bench;
  bench.open_session();
  auto first = bench.connect();
  auto second = bench.connect();
  first->close_at_end = second->close_at_end = true;
  first->submit("p");
  second->submit("p");
  bench.holder.end_replies();
  EXPECT_EQ(first->ends, 1);
  EXPECT_EQ(second->ends, 1);
  EXPECT_FALSE(first->stream);
}

TEST(Stream, CongestedClientPausesAndResumes) {
  HolderBench bench;
  bench.open_session();
  auto client = bench.connect();
  client->submit("r1");
  bench.advance();
  client->congested = true;
  bench.holder.read_index(bench.asked[0], Index(10));
  EXPECT_TRUE(bench.take_reads(10).empty());
  client->submit("w2");
  bench.advance(milliseconds(4000));
  EXPECT_EQ(bench.numbered(), "");
  client->congested = false;
  client->stream->resume();
  auto reads = bench.take_reads(10);
  ASSERT_EQ(reads.size(), 1u);
  bench.holder.read_done(reads[0].ref, {ReplyCode::kOk, as_bytes("one"), false, 0, Index(10)});
  bench.advance();
  EXPECT_EQ(bench.numbered(), "10/1:w2");
  bench.advance(milliseconds(4000));  // the time of the client does not count
  EXPECT_EQ(client->codes.size(), 1u);
  bench.applied(10, 1, 11, "two");
  EXPECT_THAT(client->texts, ElementsAre("one", "two"));
  EXPECT_EQ(bench.holder.held(), 0u);
}

// A client that takes 6 s to read the replies so far does not find errors behind them.
TEST(HolderTime, TimeOfASlowReaderCountsForNoRead) {
  HolderBench bench;
  bench.open_session();
  auto client = bench.connect();
  for (int i = 0; i < 3; ++i) client->submit("r");
  bench.advance();
  bench.holder.read_index(bench.asked.at(0), Index(10));
  for (int i = 0; i < 3; ++i) {
    auto reads = bench.take_reads(10);
    ASSERT_EQ(reads.size(), 3u - i);
    bench.advance(milliseconds(300));
    bench.holder.read_done(reads[0].ref, {ReplyCode::kOk, as_bytes("v"), false, 0, Index(10)});
    std::vector<ReadTask> left(std::make_move_iterator(reads.begin() + 1),
                               std::make_move_iterator(reads.end()));
    client->congested = true;
    bench.holder.reads_left(left);
    EXPECT_THAT(bench.take_reads(10), IsEmpty());
    bench.advance(milliseconds(6000));
    client->congested = false;  // room before resume(): other clients have read
    bench.advance(milliseconds(300));
    client->stream->resume();
  }
  EXPECT_THAT(client->codes, Each(ReplyCode::kOk));
  EXPECT_THAT(client->codes, SizeIs(3));
}

TEST(Stream, ResumedClientGetsLocalReplies) {
  HolderBench bench;
  auto client = bench.connect();
  client->congested = true;
  client->submit("p");
  client->submit("x");
  client->congested = false;
  client->stream->resume();
  EXPECT_EQ(client->codes.size(), 2u);
  EXPECT_EQ(client->stream->pending(), 0u);
}

TEST(Stream, ClosedWhileCongestedIsFinished) {
  HolderBench bench;
  bench.open_session();
  auto client = bench.connect();
  client->submit("r1");
  bench.advance();
  client->congested = true;
  bench.holder.read_index(bench.asked[0], Index(10));
  EXPECT_TRUE(bench.take_reads(10).empty());
  client->submit("w2");
  client->stream.reset();
  auto reads = bench.take_reads(10);
  ASSERT_EQ(reads.size(), 1u);
  bench.holder.read_done(reads[0].ref, {ReplyCode::kOk, as_bytes("one"), false, 0, Index(10)});
  bench.advance();
  bench.applied(10, 1, 11, "two");
  reads.clear();
  EXPECT_EQ(bench.holder.held(), 0u);
  EXPECT_TRUE(client->codes.empty());
}

TEST(Stream, OutlivesItsHolder) {
  auto bench = std::make_unique<HolderBench>();
  bench->open_session();
  auto client = bench->connect();
  client->submit("w1");
  bench->advance();
  bench.reset();
  client->submit("w2");
  EXPECT_TRUE(client->codes.empty());
  EXPECT_EQ(client->stream->pending(), 2u);
  client->stream.reset();
}

TEST(Stream, ThousandsInFlightKeepTheirOrder) {
  HolderLimits limits;
  limits.credit_bytes = 100 * (kRequestOverhead + 6);
  limits.forward_bytes = 7 * 6;
  HolderBench bench(limits);
  bench.open_session();
  auto client = bench.connect();
  constexpr uint64_t kRequests = 5000;
  for (uint64_t i = 0; i < kRequests; ++i) client->submit(fmt::format("w{:05}", i));
  EXPECT_EQ(client->stream->pending(), kRequests);
  uint64_t next = 0;
  while (next < kRequests) {
    bench.advance();
    ASSERT_FALSE(bench.sent.empty());
    for (auto& message : std::exchange(bench.sent, {})) {
      EXPECT_LE(message.proposals.size(), 7u) << "client.forward_bytes of one message";
      for (raft::Proposal& proposal : message.proposals) {
        ASSERT_EQ(proposal.sequence.value(), next + 1);
        EXPECT_LE(proposal.sequence - proposal.acked_below, 100u) << "more than the credit is out";
        ++next;
        bench.applied(10, next, 10 + next, proposal.payload.text());
      }
    }
  }
  ASSERT_EQ(client->texts.size(), kRequests);
  for (uint64_t i = 0; i < kRequests; ++i) ASSERT_EQ(client->texts[i], fmt::format("w{:05}", i));
  EXPECT_EQ(bench.holder.held_bytes(), 0u);
}

// ---- limits

TEST(HolderLimits, TooLargeIsRefusedByItsSizeAlone) {
  HolderLimits limits;
  limits.max_request = 4;
  HolderBench bench(limits);
  bench.open_session();
  auto client = bench.connect();
  client->submit("w234");
  client->submit("w2345");
  bench.advance();
  EXPECT_EQ(bench.numbered(), "10/1:w234");
  bench.applied(10, 1, 11, "ok");
  EXPECT_EQ(client->reply(0), "OK ok");
  EXPECT_EQ(client->reply(1), "TOOLARGE the request has 5 bytes, client.max_request is 4");
}

TEST(HolderLimits, OverloadedIsRefusedAndRoomComesBack) {
  HolderLimits limits;
  limits.max_inflight_bytes = 2 * (kRequestOverhead + 2);
  HolderBench bench(limits);
  bench.open_session();
  auto client = bench.connect();
  auto other = bench.connect();
  client->submit("w1");
  client->submit("w2");
  EXPECT_EQ(bench.holder.held_bytes(), limits.max_inflight_bytes);
  other->submit("w3");
  other->submit("p");  // costs nothing to hold
  EXPECT_THAT(other->reply(0), StartsWith("OVERLOADED this node holds client.max_inflight_bytes"));
  EXPECT_EQ(other->reply(1), "OK pong");
  bench.advance();
  EXPECT_EQ(bench.numbered(), "10/1:w1 10/2:w2");
  bench.applied(10, 1, 11, "1");
  other->submit("w4");
  EXPECT_EQ(other->codes.size(), 2u);
  bench.applied(10, 2, 12, "2");
  bench.advance();
  bench.applied(10, 3, 13, "4");
  EXPECT_EQ(other->reply(2), "OK 4");
  EXPECT_EQ(bench.holder.held(), 0u);
}

// ---- time

TEST(HolderTime, WithoutALeaderNothingWasExecuted) {
  HolderBench bench;
  auto client = bench.connect();
  client->submit("w1");
  client->submit("r2");
  bench.advance(milliseconds(4999));
  EXPECT_TRUE(client->codes.empty());
  bench.advance(milliseconds(1));
  EXPECT_THAT(client->reply(0), StartsWith("NOLEADER no leader accepted the request"));
  bench.advance(milliseconds(50));
  EXPECT_THAT(client->reply(1), StartsWith("NOLEADER no leader confirmed the read"));
  EXPECT_TRUE(bench.sent.empty());
  EXPECT_EQ(bench.holder.held_bytes(), 0u);
}

TEST(HolderTime, ExpiredForwardedWriteIsUnknownOnce) {
  HolderBench bench;
  bench.open_session();
  auto client = bench.connect();
  client->submit("w1");
  bench.advance();
  bench.advance(milliseconds(5100));
  EXPECT_THAT(client->reply(0), StartsWith("UNKNOWN the outcome was not learned"));
  // It is applied after all; the next one's reply is its own.
  client->submit("w2");
  bench.applied(10, 1, 11, "one");
  bench.advance();
  EXPECT_EQ(client->codes.size(), 1u);
  bench.holder.session_opened(SessionId(20), kIncarnation);
  bench.sent.clear();
  bench.advance();
  EXPECT_EQ(bench.numbered(), "20/1:w2");
  bench.applied(20, 1, 21, "two");
  EXPECT_EQ(client->reply(1), "OK two");
  EXPECT_EQ(client->codes.size(), 2u);
}

TEST(HolderTime, RenumberedWriteThatNobodyTookIsNotUnknown) {
  HolderBench bench;
  bench.open_session();
  auto client = bench.connect();
  client->submit("w1");
  bench.advance();
  bench.holder.leader_changed(NodeId(), Term(6), false);
  bench.holder.session_opened(SessionId(20),
                              kIncarnation);  // the old session is closed: it never was
  bench.advance(milliseconds(5100));
  EXPECT_THAT(client->reply(0), StartsWith("NOLEADER"));
}

TEST(HolderTime, ReadIndexThatIsLostIsAskedAgainAndAnsweredOnce) {
  HolderBench bench;
  bench.open_session();
  auto client = bench.connect();
  client->submit("r1");
  bench.advance();
  ASSERT_EQ(bench.asked.size(), 1u);
  bench.advance(milliseconds(249));
  EXPECT_EQ(bench.asked.size(), 1u);
  bench.advance(milliseconds(1));
  ASSERT_EQ(bench.asked.size(), 2u);
  EXPECT_EQ(bench.asked[0], bench.asked[1]);
  bench.holder.read_dropped(bench.asked[0]);
  bench.advance(milliseconds(10));
  EXPECT_EQ(bench.asked.size(), 3u);
  bench.holder.read_index(bench.asked[0], Index(10));
  bench.holder.read_index(bench.asked[0], Index(10));
  EXPECT_EQ(bench.take_reads(10).size(), 1u);
}

TEST(HolderTime, ReadsThatWaitForTheirIndexGiveUpToo) {
  HolderBench bench;
  bench.open_session();
  auto client = bench.connect();
  client->submit("r1");
  bench.advance();
  bench.holder.read_index(bench.asked[0], Index(99));
  bench.advance(milliseconds(5100));
  EXPECT_THAT(client->reply(0), StartsWith("NOLEADER"));
  EXPECT_TRUE(bench.take_reads(99).empty());
}

// A call of the plugin that does not come back must not hold the clients for ever.
TEST(HolderTime, ReadsBehindAPluginCallThatHangsGiveUp) {
  HolderBench bench;
  bench.open_session();
  auto client = bench.connect();
  auto slow_client = bench.connect();
  for (int i = 0; i < 257; ++i) client->submit("r");  // one more than a run
  slow_client->submit("r");
  bench.advance();
  bench.holder.read_index(bench.asked.at(0), Index(10));
  slow_client->congested = true;
  auto reads = bench.take_reads(10);
  ASSERT_EQ(reads.size(), 256u);
  bench.advance(milliseconds(4900));
  EXPECT_TRUE(client->codes.empty());
  client->submit("r");
  bench.advance();
  bench.holder.read_index(bench.asked.at(1), Index(10));
  EXPECT_TRUE(bench.take_reads(10).empty());
  bench.advance(milliseconds(200));
  EXPECT_THAT(client->codes, SizeIs(257)) << "those handed out, and the one behind them";
  EXPECT_THAT(client->codes, Each(ReplyCode::kPlugin));
  EXPECT_TRUE(slow_client->codes.empty()) << "it waits for its client, not for the plugin";
  bench.advance(milliseconds(5000));
  EXPECT_THAT(client->codes, SizeIs(258)) << "it came while the call was in progress";

  bench.holder.read_done(reads[0].ref, {ReplyCode::kOk, as_bytes("v"), false, 0, Index(10)});
  std::vector<ReadTask> left(std::make_move_iterator(reads.begin() + 1),
                             std::make_move_iterator(reads.end()));
  bench.holder.reads_left(left);
  EXPECT_THAT(client->codes, SizeIs(258)) << "answered twice";
  slow_client->congested = false;
  slow_client->stream->resume();
  EXPECT_THAT(bench.take_reads(10), SizeIs(1));
  EXPECT_EQ(bench.holder.held(), 1u);
}

// A read index holds for all that was asked before it: no stream sees an older state after a newer.
TEST(HolderTime, OvertakenReadIndexServesThoseBeforeIt) {
  HolderBench bench;
  bench.open_session();
  auto client = bench.connect();
  client->submit("r1");
  bench.advance();
  client->submit("r2");
  bench.advance();
  ASSERT_EQ(bench.asked.size(), 2u);
  bench.holder.read_index(bench.asked[1], Index(12));
  bench.holder.read_index(bench.asked[0], Index(11));  // late, and not needed any more
  EXPECT_TRUE(bench.take_reads(11).empty());
  auto reads = bench.take_reads(12);
  ASSERT_EQ(reads.size(), 2u);
  EXPECT_EQ(reads[0].request.text(), "r1");
}

TEST(HolderTime, ReadWaitsForEarlierReadOfHigherIndex) {
  HolderBench bench;
  bench.open_session();
  auto client = bench.connect();
  client->submit("r1");
  bench.advance();
  bench.holder.read_index(bench.asked[0], Index(15));
  client->submit("r2");
  bench.advance();
  bench.holder.read_index(bench.asked[1],
                          Index(12));  // an earlier leader's question, answered late
  EXPECT_TRUE(bench.take_reads(14).empty());
  EXPECT_EQ(bench.take_reads(15).size(), 2u);
}

// ---- sessions

TEST(HolderSession, OpensAtFirstLeaderReopensWhenLost) {
  HolderBench bench;
  EXPECT_TRUE(bench.sent.empty());
  bench.holder.leader_changed(NodeId(1), Term(5), true);
  bench.advance();
  ASSERT_EQ(bench.sent.size(), 1u);
  EXPECT_EQ(bench.sent[0].to, NodeId(1));
  EXPECT_EQ(bench.sent[0].term, Term(5));
  wire::SessionOwner owner;
  ASSERT_TRUE(wire::SessionOwner::decode(bench.sent[0].proposals.at(0).payload.view(), owner));
  EXPECT_EQ(owner, (wire::SessionOwner{kSelf, kIncarnation}));
  bench.advance(milliseconds(249));
  EXPECT_EQ(bench.sent.size(), 1u);
  bench.advance(milliseconds(1));
  EXPECT_EQ(bench.sent.size(), 2u);
  // The leader here: proposed, not sent.
  bench.holder.leader_changed(kSelf, Term(6), true);
  bench.advance();
  ASSERT_EQ(bench.sent.size(), 3u);
  EXPECT_EQ(bench.sent[2].to, kSelf);
  bench.holder.session_opened(SessionId(4), kIncarnation);
  EXPECT_TRUE(bench.holder.has_session());
  bench.advance(seconds(1));
  EXPECT_EQ(bench.sent.size(), 3u);
}

TEST(HolderSession, LeaderThatHandsOverGetsNothingNew) {
  HolderBench bench;
  bench.open_session();
  auto client = bench.connect();
  bench.holder.leader_changed(NodeId(1), Term(5), false);
  client->submit("w1");
  bench.advance(milliseconds(100));
  EXPECT_EQ(bench.numbered(), "");
  bench.holder.leader_changed(NodeId(1), Term(5), true);
  bench.advance();
  EXPECT_EQ(bench.numbered(), "10/1:w1");
}

TEST(HolderSession, NewLeaderRenumbersUnappliedWritesInOrder) {
  HolderBench bench;
  bench.open_session();
  auto client = bench.connect();
  for (const char* request : {"w1", "w2", "w3"}) client->submit(request);
  bench.advance();
  bench.holder.leader_changed(NodeId(3), Term(6), true);
  client->submit("w4");
  bench.sent.clear();
  bench.advance();
  EXPECT_EQ(bench.numbered(), "open") << "nothing goes before the new session is there";
  EXPECT_EQ(bench.sent[0].to, NodeId(3));
  // The first one had been appended in time.
  bench.applied(10, 1, 11, "one");
  EXPECT_EQ(client->reply(0), "OK one");
  bench.holder.session_opened(SessionId(12), kIncarnation);
  bench.sent.clear();
  bench.advance();
  EXPECT_EQ(bench.numbered(), "12/1:w2 12/2:w3 12/3:w4");
  // A result of the old session belongs to no request.
  bench.applied(10, 2, 13, "ghost");
  EXPECT_EQ(client->codes.size(), 1u);
  bench.applied(12, 1, 14, "two");
  bench.applied(12, 2, 15, "three");
  bench.applied(12, 3, 16, "four");
  EXPECT_THAT(client->texts, ElementsAre("one", "two", "three", "four"));
  EXPECT_THAT(client->indexes, ElementsAre(Index(11), Index(14), Index(15), Index(16)));
}

TEST(HolderSession, NewLeaderWithNothingOutChangesNothing) {
  HolderBench bench;
  bench.open_session();
  auto client = bench.connect();
  client->submit("w1");
  bench.advance();
  bench.applied(10, 1, 11, "one");
  bench.holder.leader_changed(NodeId(3), Term(6), true);
  client->submit("w2");
  bench.sent.clear();
  bench.advance();
  EXPECT_EQ(bench.numbered(), "10/2:w2");
  EXPECT_EQ(bench.sent[0].to, NodeId(3));
  EXPECT_EQ(bench.sent[0].proposals[0].acked_below, Sequence(2));
}

TEST(HolderSession, OpenedTwiceCountsTheLast) {
  HolderBench bench;
  bench.open_session();
  auto client = bench.connect();
  client->submit("w1");
  client->submit("w2");
  bench.advance();
  bench.holder.forward_lost(NodeId(1));
  bench.advance();
  bench.advance(milliseconds(250));  // the first open is thought lost
  bench.holder.session_opened(SessionId(20), kIncarnation);
  bench.sent.clear();
  bench.advance();
  EXPECT_EQ(bench.numbered(), "20/1:w1 20/2:w2");
  bench.applied(20, 1, 21, "one");
  bench.holder.session_opened(SessionId(22), kIncarnation);  // and closes session 20
  bench.sent.clear();
  bench.advance();
  EXPECT_EQ(bench.numbered(), "22/1:w2");
  bench.applied(22, 1, 23, "two");
  EXPECT_THAT(client->texts, ElementsAre("one", "two"));
}

// A late session entry from before this node's restart closes its present session. Waiting until
// the writes look stuck would cost a second.
TEST(HolderSession, ClosedByALateEntryIsOpenedAgainAtOnce) {
  HolderBench bench;
  bench.open_session();
  auto client = bench.connect();
  client->submit("w1");
  bench.advance();
  bench.holder.session_opened(SessionId(11), kIncarnation - 1);
  bench.sent.clear();
  bench.advance();
  EXPECT_EQ(bench.numbered(), "open");
  bench.holder.session_opened(SessionId(12), kIncarnation);
  bench.sent.clear();
  bench.advance();
  EXPECT_EQ(bench.numbered(), "12/1:w1");
}

TEST(HolderSession, OpensOfFormerLivesInTheLogOpenNothing) {
  HolderBench bench;
  bench.holder.session_opened(SessionId(3), kIncarnation - 1);
  EXPECT_FALSE(bench.holder.has_session());
  bench.holder.leader_changed(NodeId(1), Term(5), true);
  bench.advance();
  bench.holder.session_opened(SessionId(4), kIncarnation - 1);
  bench.advance();
  EXPECT_EQ(bench.sent.size(), 1u) << "the open under way was asked for a second time";
}

TEST(HolderSession, RefusalIsAnsweredByANewSessionALittleLater) {
  HolderBench bench;
  bench.open_session();
  auto client = bench.connect();
  client->submit("w1");
  bench.advance();
  bench.sent.clear();
  bench.holder.forward_refused(Term(4));  // an older question's
  bench.advance();
  EXPECT_TRUE(bench.holder.has_session());
  bench.holder.forward_refused(Term(5));
  bench.advance();
  EXPECT_TRUE(bench.sent.empty()) << "asked again without a breath";
  bench.advance(milliseconds(10));
  EXPECT_EQ(bench.numbered(), "open");
}

TEST(HolderSession, ConnectionLostToSomebodyElseMeansNothing) {
  HolderBench bench;
  bench.open_session();
  auto client = bench.connect();
  client->submit("w1");
  bench.advance();
  bench.holder.forward_lost(NodeId(3));
  EXPECT_TRUE(bench.holder.has_session());
  bench.holder.forward_lost(NodeId(1));
  EXPECT_FALSE(bench.holder.has_session());
}

TEST(HolderSession, WritesThatLookStuckAreSettledByANewSession) {
  HolderBench bench;
  bench.open_session();
  auto client = bench.connect();
  client->submit("w1");
  bench.advance();
  bench.sent.clear();
  bench.advance(milliseconds(999));
  EXPECT_TRUE(bench.sent.empty());
  bench.advance(milliseconds(1));
  EXPECT_EQ(bench.numbered(), "open");
}

// ---- snapshots

TEST(HolderSnapshot, CoveredWritesAreUnknownOthersContinue) {
  HolderBench bench;
  bench.open_session();
  auto client = bench.connect();
  for (const char* request : {"w1", "w2", "w3"}) client->submit(request);
  bench.advance();
  SessionTable table;
  table.open(SessionId(10), {kSelf, kIncarnation});
  table.admit(SessionId(10), Sequence(1), Sequence(1));
  table.admit(SessionId(10), Sequence(2), Sequence(1));
  bench.state_replaced(table);
  ASSERT_EQ(client->codes.size(), 2u);
  EXPECT_THAT(client->reply(0), StartsWith("UNKNOWN the node caught up by a snapshot"));
  EXPECT_THAT(client->reply(1), StartsWith("UNKNOWN"));
  EXPECT_TRUE(bench.holder.has_session());
  bench.applied(10, 3, 13, "three");
  EXPECT_EQ(client->reply(2), "OK three");
}

TEST(HolderSnapshot, OneBeforeThemSettlesNothing) {
  HolderBench bench;
  bench.open_session();
  auto client = bench.connect();
  client->submit("w1");
  bench.advance();
  bench.applied(10, 1, 11, "one");
  client->submit("w2");
  bench.advance();
  SessionTable table;
  table.open(SessionId(10), {kSelf, kIncarnation});
  table.admit(SessionId(10), Sequence(1), Sequence(1));
  bench.state_replaced(table);
  EXPECT_EQ(client->codes.size(), 1u);
  bench.applied(10, 2, 12, "two");
  EXPECT_EQ(client->reply(1), "OK two");
}

TEST(HolderSnapshot, WithoutTheSessionAllAreUnknownAndAnotherIsOpened) {
  HolderBench bench;
  bench.open_session();
  auto client = bench.connect();
  client->submit("w1");
  bench.advance();
  bench.state_replaced(SessionTable());
  EXPECT_THAT(client->reply(0), StartsWith("UNKNOWN"));
  bench.sent.clear();
  bench.advance();
  EXPECT_EQ(bench.numbered(), "open");
}

// ---- the end

TEST(HolderShutDown, RefusesWhatNobodyHasAndFinishesTheRest) {
  HolderBench bench;
  bench.open_session();
  auto client = bench.connect();
  client->submit("w1");
  bench.advance();
  client->submit("w2");
  bench.holder.shut_down();
  client->submit("w3");
  EXPECT_TRUE(client->codes.empty());
  bench.applied(10, 1, 11, "one");
  EXPECT_EQ(client->reply(0), "OK one");
  EXPECT_THAT(client->reply(1), StartsWith("SHUTDOWN"));
  EXPECT_THAT(client->reply(2), StartsWith("SHUTDOWN"));
  EXPECT_EQ(bench.holder.held(), 0u);
  bench.sent.clear();
  bench.advance();
  EXPECT_TRUE(bench.sent.empty());
}

TEST(HolderShutDown, AlsoWhatWaitedBehindABarrier) {
  HolderBench bench;
  auto client = bench.connect();
  for (const char* request : {"w1", "r2", "w3"}) client->submit(request);
  bench.holder.shut_down();
  EXPECT_THAT(client->reply(0), StartsWith("SHUTDOWN"));
  EXPECT_THAT(client->reply(1), StartsWith("SHUTDOWN"));
  EXPECT_THAT(client->reply(2), StartsWith("SHUTDOWN"));
  EXPECT_EQ(bench.holder.held(), 0u);
}

// No entry comes any more that could settle them.
TEST(HolderShutDown, RemovedNodeAnswersWhatIsInProgressAtOnce) {
  HolderBench bench;
  bench.open_session();
  auto writer = bench.connect();
  writer->submit("w1");
  auto reader = bench.connect();
  reader->submit("r1");
  for (const char* next : {"r2", "w3"}) writer->submit(next);
  bench.advance();
  bench.holder.shut_down();
  EXPECT_EQ(bench.holder.held(), 4u);
  bench.holder.give_up();
  ASSERT_EQ(writer->codes.size(), 3u);
  EXPECT_EQ(writer->codes[0], ReplyCode::kUnknown);
  EXPECT_THAT(writer->reply(1), StartsWith("SHUTDOWN"));
  EXPECT_THAT(writer->reply(2), StartsWith("SHUTDOWN"));
  EXPECT_THAT(reader->reply(0), StartsWith("SHUTDOWN"));
  EXPECT_EQ(bench.holder.held(), 0u);
}

TEST(ReplyCodes, HaveTheirNames) {
  EXPECT_EQ(reply_code_name(ReplyCode::kDiskFull), "DISKFULL");
  EXPECT_EQ(reply_code_name(ReplyCode::kSessionGone), "SESSION_GONE");
  EXPECT_EQ(reply_code_name(ReplyCode::kBadFrame), "BADFRAME");
  EXPECT_EQ(reply_code_name(static_cast<ReplyCode>(200)), "UNKNOWN");
}

}  // namespace
}  // namespace connectd::node
