// Read levels in the holder: what is asked of whom, what a stale read waits for, and what it is
// told when it waits in vain.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/unit/node/holder_harness.h"

namespace connectd::node {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

constexpr ReadOptions kLease{ReadLevel::kLease, Index(), {}};
ReadOptions stale(uint64_t min_index = 0, std::optional<Duration> max_age = {}) {
  return {ReadLevel::kStale, Index(min_index), max_age};
}

void submit(RecordingClient& client, std::string_view text, const ReadOptions& read) {
  client.stream->submit(as_bytes(text), read);
}

std::string texts(const std::vector<ReadTask>& reads) {
  std::string all;
  for (const ReadTask& read : reads) all += std::string(read.request.text()) + " ";
  return all;
}

void done(HolderBench& bench, const std::vector<ReadTask>& reads) {
  for (const ReadTask& read : reads) {
    bench.holder.read_done(read.ref, {ReplyCode::kOk, as_bytes("ok"), false, 0, Index(1)});
  }
}

TEST(ReadLevels, OneQuestionForEachLevelOfATurn) {
  HolderBench bench;
  bench.open_session();
  auto one = bench.connect();
  auto two = bench.connect();
  auto three = bench.connect();
  one->submit("r1");
  submit(*two, "r2", kLease);
  submit(*two, "r3", kLease);
  three->submit("r4");
  bench.advance();
  ASSERT_EQ(bench.asked.size(), 2u);
  EXPECT_THAT(bench.asked_by_lease, ElementsAre(bench.asked[0]));
  bench.holder.read_index(bench.asked[0], Index(5));
  EXPECT_EQ(texts(bench.take_reads(5)), "r2 r3 ");
  bench.holder.read_index(bench.asked[1], Index(5));
  EXPECT_EQ(texts(bench.take_reads(5)), "r1 r4 ");
}

// A leader that was cut off, and whose clock runs slow, answers by a lease that is over.
TEST(ReadLevels, LeaseIndexLeavesOlderReadsOfRoundsWaiting) {
  HolderBench bench;
  bench.open_session();
  auto one = bench.connect();
  auto two = bench.connect();
  one->submit("r1");
  bench.advance();
  submit(*two, "r2", kLease);
  bench.advance();
  ASSERT_EQ(bench.asked.size(), 2u);
  ASSERT_THAT(bench.asked_by_lease, ElementsAre(bench.asked[1]));
  bench.holder.read_index(bench.asked[1], Index(5));
  EXPECT_EQ(texts(bench.take_reads(5)), "r2 ");
  bench.advance(seconds(1));
  EXPECT_THAT(bench.asked, ElementsAre(bench.asked[0], bench.asked[1], bench.asked[0]))
      << "the linearizable read is asked for again, and the lease read is not";
  bench.holder.read_index(bench.asked[0], Index(7));
  EXPECT_EQ(texts(bench.take_reads(6)), "");
  EXPECT_EQ(texts(bench.take_reads(7)), "r1 ");
}

TEST(ReadLevels, LeaseIndexAnswersOlderLeaseReads) {
  HolderBench bench;
  bench.open_session();
  auto one = bench.connect();
  auto two = bench.connect();
  submit(*one, "r1", kLease);
  bench.advance();
  one->submit("r2");
  submit(*two, "r3", kLease);
  bench.advance();
  ASSERT_EQ(bench.asked.size(), 2u);
  bench.holder.read_index(bench.asked[1], Index(5));
  EXPECT_EQ(texts(bench.take_reads(5)), "r1 r3 ");
}

TEST(ReadLevels, RoundIndexAnswersOlderLeaseReads) {
  HolderBench bench;
  bench.open_session();
  auto one = bench.connect();
  auto two = bench.connect();
  submit(*one, "r1", kLease);
  bench.advance();
  two->submit("r2");
  bench.advance();
  ASSERT_EQ(bench.asked.size(), 2u);
  bench.holder.read_index(bench.asked[1], Index(5));
  EXPECT_EQ(texts(bench.take_reads(5)), "r1 r2 ");
}

// An answer by a lease that was asked for later is here first.
TEST(ReadLevels, RoundIndexIsNotBelowThatOfWaitingReads) {
  HolderBench bench;
  bench.open_session();
  auto one = bench.connect();
  auto two = bench.connect();
  one->submit("r1");
  bench.advance();
  submit(*two, "r2", kLease);
  bench.advance();
  bench.holder.read_index(bench.asked[1], Index(7));
  bench.holder.read_index(bench.asked[0], Index(5));
  EXPECT_EQ(texts(bench.take_reads(6)), "");
  EXPECT_EQ(texts(bench.take_reads(7)), "r2 r1 ");
}

// Chain, seed 2992754402000163: each started when the one before it was given up, and was given up
// in its turn a while later.
TEST(ReadLevels, ExpiryAlsoExpiresQueuedRequests) {
  HolderBench bench;
  auto client = bench.connect();
  for (int i = 0; i < 20; ++i) {
    client->submit("r1");
    submit(*client, "r2", kLease);
    client->submit("w3");
    submit(*client, "r4", stale(700));
  }
  bench.advance();
  bench.advance(HolderLimits().request_timeout + milliseconds(100));
  EXPECT_EQ(client->codes.size(), 80u);
}

// Seed 5243: of a lease read between two others the index came later than theirs, and was higher.
TEST(ReadLevels, ConnectionsReadsOfTwoLevelsWaitForEachOther) {
  HolderBench bench;
  bench.open_session();
  auto client = bench.connect();
  client->submit("r1");
  submit(*client, "r2", kLease);
  client->submit("r3");
  bench.advance();
  ASSERT_EQ(bench.asked.size(), 1u);
  bench.holder.read_index(bench.asked[0], Index(5));
  auto reads = bench.take_reads(5);
  EXPECT_EQ(texts(reads), "r1 ");
  done(bench, reads);
  bench.advance();
  EXPECT_EQ(bench.asked_by_lease.size(), 1u);
}

TEST(ReadLevels, LeaseReadThatIsAskedAgainIsOneStill) {
  HolderBench bench;
  bench.open_session();
  auto client = bench.connect();
  submit(*client, "r1", kLease);
  bench.advance();
  bench.advance(seconds(1));
  EXPECT_EQ(bench.asked.size(), 2u);
  EXPECT_EQ(bench.asked_by_lease, bench.asked);
}

TEST(ReadLevels, StaleReadWithoutBoundsNeedsNobody) {
  HolderBench bench;  // no leader
  auto client = bench.connect();
  submit(*client, "r1", stale());
  bench.advance();
  EXPECT_EQ(texts(bench.take_reads(0)), "r1 ");
  EXPECT_THAT(bench.asked, IsEmpty());
}

TEST(ReadLevels, StaleReadWaitsForItsIndex) {
  HolderBench bench;
  auto client = bench.connect();
  submit(*client, "r1", stale(7));
  bench.advance();
  EXPECT_EQ(texts(bench.take_reads(6)), "");
  EXPECT_EQ(texts(bench.take_reads(7)), "r1 ");
  EXPECT_THAT(bench.asked, IsEmpty());
}

TEST(ReadLevels, IndexThatIsNotReachedIsTold) {
  HolderBench bench;
  auto client = bench.connect();
  submit(*client, "r1", stale(700));
  bench.advance();
  bench.take_reads(6);
  bench.advance(seconds(4));
  EXPECT_THAT(client->codes, IsEmpty());
  bench.advance(seconds(2));
  ASSERT_THAT(client->codes, ElementsAre(ReplyCode::kStale));
  EXPECT_THAT(client->reply(0),
              HasSubstr("STALE this node has applied up to 6 and did not reach min-index 700"));
  EXPECT_EQ(bench.holder.held(), 0u);
}

TEST(ReadLevels, AgeIsMetByOneQuestionForAll) {
  HolderBench bench;
  bench.open_session();
  auto client = bench.connect();
  auto other = bench.connect();
  submit(*client, "r1", stale(0, milliseconds(500)));
  submit(*other, "r2", stale(0, milliseconds(100)));
  bench.advance();
  ASSERT_EQ(bench.asked.size(), 1u);
  EXPECT_EQ(texts(bench.take_reads(3)), "") << "nothing is known of the age of this state";
  bench.advance(milliseconds(20));
  bench.holder.read_index(bench.asked[0], Index(5));
  EXPECT_EQ(texts(bench.take_reads(4)), "") << "what the age is known of is not here yet";
  auto reads = bench.take_reads(5);
  EXPECT_EQ(texts(reads), "r1 r2 ");
  done(bench, reads);
  // The age counts from the question: 20 ms passed until the answer.
  bench.advance(milliseconds(470));
  submit(*client, "r3", stale(0, milliseconds(500)));
  bench.advance();
  reads = bench.take_reads(5);
  EXPECT_EQ(texts(reads), "r3 ");
  done(bench, reads);
  EXPECT_EQ(bench.asked.size(), 1u) << "the bound was met without a question";
  bench.advance(milliseconds(11));
  submit(*client, "r4", stale(0, milliseconds(500)));
  bench.advance();
  EXPECT_EQ(texts(bench.take_reads(5)), "");
  EXPECT_EQ(bench.asked.size(), 2u);
}

TEST(ReadLevels, AgeIsAskedOfARound) {
  HolderBench bench;
  bench.open_session();
  auto client = bench.connect();
  submit(*client, "r1", stale(0, milliseconds(0)));
  bench.advance();
  bench.advance(seconds(1));
  EXPECT_EQ(bench.asked.size(), 2u);
  EXPECT_THAT(bench.asked_by_lease, IsEmpty());
}

TEST(ReadLevels, LeaseIndexTellsNoAge) {
  HolderBench bench;
  bench.open_session();
  auto client = bench.connect();
  auto other = bench.connect();
  // One read arrives after the lease's answer, one is already waiting.
  submit(*other, "r1", kLease);
  bench.advance();
  bench.holder.read_index(bench.asked[0], Index(5));
  auto reads = bench.take_reads(5);
  EXPECT_EQ(texts(reads), "r1 ");
  done(bench, reads);
  submit(*client, "r2", stale(0, seconds(1)));
  bench.advance();
  ASSERT_EQ(bench.asked.size(), 2u) << "nothing is known of the age yet";
  submit(*other, "r3", kLease);
  bench.advance();
  ASSERT_EQ(bench.asked.size(), 3u);
  bench.holder.read_index(bench.asked[2], Index(5));
  reads = bench.take_reads(5);
  EXPECT_EQ(texts(reads), "r3 ");
  done(bench, reads);
  bench.advance();
  EXPECT_EQ(bench.asked.size(), 3u) << "the question about the age is still out";
  bench.holder.read_index(bench.asked[1], Index(5));
  EXPECT_EQ(texts(bench.take_reads(5)), "r2 ");
}

TEST(ReadLevels, AnswerIsOnlyAsFreshAsTheFirstQuestion) {
  HolderBench bench;
  bench.open_session();
  auto client = bench.connect();
  auto other = bench.connect();
  submit(*client, "r1", stale(0, milliseconds(0)));
  bench.advance();
  bench.advance(milliseconds(400));  // asked again: either of the two may be answered
  submit(*other, "r2", stale(0, milliseconds(300)));
  bench.advance();
  ASSERT_EQ(bench.asked.size(), 2u);
  bench.holder.read_index(bench.asked[0], Index(5));
  EXPECT_EQ(texts(bench.take_reads(5)), "r1 ");
  bench.advance();
  EXPECT_EQ(bench.asked.size(), 3u);
}

TEST(ReadLevels, AgeThatCannotBeKnownIsTold) {
  HolderBench bench;
  bench.open_session();
  auto client = bench.connect();
  submit(*client, "r1", stale(0, milliseconds(500)));
  bench.advance();
  bench.holder.read_index(bench.asked[0], Index(5));
  done(bench, bench.take_reads(5));
  bench.holder.leader_changed(NodeId(), Term(5), false);
  bench.advance(seconds(1));
  submit(*client, "r2", stale(0, milliseconds(500)));
  for (int i = 0; i < 6; ++i) bench.advance(seconds(1));
  ASSERT_EQ(client->codes.size(), 2u);
  EXPECT_THAT(client->reply(1), HasSubstr("STALE this node was last up to date 6"));
  EXPECT_THAT(client->reply(1), HasSubstr("max-age is 500 ms"));
  submit(*client, "r3", stale());
  bench.advance();
  EXPECT_EQ(texts(bench.take_reads(5)), "r3 ");
}

TEST(ReadLevels, OtherReadsDoNotWaitForAStaleOne) {
  HolderBench bench;
  bench.open_session();
  auto client = bench.connect();
  auto other = bench.connect();
  submit(*client, "r1", stale(100));
  bench.advance();
  bench.take_reads(5);
  other->submit("r2");
  bench.advance();
  ASSERT_EQ(bench.asked.size(), 1u);
  bench.holder.read_index(bench.asked[0], Index(5));
  EXPECT_EQ(texts(bench.take_reads(5)), "r2 ");
}

TEST(ReadLevels, OneConnectionsReadsOfOtherBoundsWaitForEachOther) {
  HolderBench bench;
  bench.open_session();
  auto client = bench.connect();
  submit(*client, "r1", stale(9));
  submit(*client, "r2", stale(9));
  submit(*client, "r3", stale());
  client->submit("r4");
  bench.advance();
  EXPECT_EQ(texts(bench.take_reads(8)), "");
  auto reads = bench.take_reads(9);
  EXPECT_EQ(texts(reads), "r1 r2 ");
  EXPECT_THAT(bench.asked, IsEmpty());
  done(bench, reads);
  reads = bench.take_reads(9);
  EXPECT_EQ(texts(reads), "r3 ");
  done(bench, reads);
  bench.advance();
  EXPECT_EQ(bench.asked.size(), 1u);
}

TEST(ReadLevels, LevelCountsForReadsOnly) {
  HolderBench bench;
  bench.open_session();
  auto client = bench.connect();
  auto other = bench.connect();
  submit(*client, "w1", stale(100));
  submit(*other, "l2", stale(100, milliseconds(1)));
  bench.advance();
  EXPECT_EQ(bench.numbered(), "10/1:w1");
  EXPECT_EQ(texts(bench.take_reads(0)), "l2 ");
}

TEST(ReadLevels, StoppingNodeAnswersThoseThatWait) {
  HolderBench bench;
  auto client = bench.connect();
  auto other = bench.connect();
  submit(*client, "r1", stale(100));
  submit(*other, "r2", kLease);
  bench.advance();
  bench.holder.shut_down();
  EXPECT_THAT(client->codes, ElementsAre(ReplyCode::kShutdown));
  EXPECT_THAT(other->codes, ElementsAre(ReplyCode::kShutdown));
}

}  // namespace
}  // namespace connectd::node
