#include "raft/log_time.h"

#include <gtest/gtest.h>

#include "base/limits.h"
#include "raft/read_index.h"

namespace connectd::raft {
namespace {

using std::chrono::hours;
using std::chrono::seconds;

constexpr int64_t kSecond = 1'000'000'000;
const NodeId kSelf(1);

// Monotonic second 100 + `second`, and a wall clock that shows `wall_ns`.
Now moment(int64_t second, int64_t wall_ns) { return {Time(seconds(100 + second)), wall_ns}; }

TEST(LogTime, BaseIsTheMedianOfTheClocks) {
  LogTime time;
  time.start(kSelf, moment(0, 9000 * kSecond));  // far ahead
  time.observe(NodeId(2), 1000 * kSecond, moment(0, 0));
  time.observe(NodeId(3), 1001 * kSecond, moment(0, 0));
  time.begin(0, moment(0, 0));
  EXPECT_EQ(time.stamp(moment(0, 0)), 1001 * kSecond);
}

// Sums with it would leave the type.
TEST(LogTime, ClockFarFromNowIsIgnored) {
  LogTime time;
  time.start(kSelf, moment(0, 1000));
  for (int64_t clock : {INT64_MIN, INT64_MAX, kMaxWallNs + 1}) {
    time.observe(NodeId(2), clock, moment(0, 1000));
    time.observe(NodeId(3), clock, moment(0, 1000));
  }
  time.begin(0, moment(0, 1000));
  EXPECT_EQ(time.stamp(moment(0, 1000)), 1000);
}

TEST(LogTime, NeverBehindTheLastStamp) {
  LogTime time;
  time.start(kSelf, moment(0, 1000 * kSecond));
  time.begin(5000 * kSecond, moment(0, 0));
  EXPECT_EQ(time.stamp(moment(0, 0)), 5000 * kSecond + 1);
  EXPECT_EQ(time.stamp(moment(0, 0)), 5000 * kSecond + 2);
}

TEST(LogTime, RisesWithMonotonicTimeAndStrictly) {
  LogTime time;
  time.start(kSelf, moment(0, 1000 * kSecond));
  time.begin(0, moment(0, 0));
  int64_t first = time.stamp(moment(0, 0));
  EXPECT_EQ(time.stamp(moment(0, 0)), first + 1);
  EXPECT_EQ(time.stamp(moment(10, 0)), first + 10 * kSecond);
}

// A leader never follows a jump of its own clock.
TEST(LogTime, OwnClockMayJump) {
  LogTime time;
  time.start(kSelf, moment(0, 1000 * kSecond));
  time.begin(0, moment(0, 0));
  int64_t first = time.stamp(moment(0, 1000 * kSecond));
  EXPECT_EQ(time.stamp(moment(5, 999'999 * kSecond)), first + 5 * kSecond);
  EXPECT_EQ(time.stamp(moment(6, 3 * kSecond)), first + 6 * kSecond);
}

// Towards the median of the others' clocks, by at most 0.05 %.
TEST(LogTime, SlewsTowardsTheMedian) {
  LogTime time;
  time.start(kSelf, moment(0, 1000 * kSecond));
  time.begin(0, moment(0, 0));
  int64_t first = time.stamp(moment(0, 0));
  for (uint64_t node : {2, 3}) time.observe(NodeId(node), 1010 * kSecond, moment(0, 0));
  EXPECT_EQ(time.stamp(moment(2000, 0)), first + 2001 * kSecond);
  EXPECT_EQ(time.stamp(moment(20000, 0)), first + 20010 * kSecond);
  EXPECT_EQ(time.stamp(moment(40000, 0)), first + 40010 * kSecond);
  for (uint64_t node : {2, 3}) time.observe(NodeId(node), 41000 * kSecond, moment(40000, 0));
  EXPECT_EQ(time.stamp(moment(42000, 0)), first + 42009 * kSecond);
}

TEST(LogTime, OneWrongClockOfThreeMovesNothing) {
  LogTime time;
  time.start(kSelf, moment(0, 1000 * kSecond));
  time.begin(0, moment(0, 0));
  int64_t first = time.stamp(moment(0, 0));
  time.observe(NodeId(2), 1000 * kSecond, moment(0, 0));
  time.observe(NodeId(3), 99'999 * kSecond, moment(0, 0));
  EXPECT_EQ(time.stamp(moment(4000, 0)), first + 4000 * kSecond);
}

TEST(ReadRounds, OnlyLaterAnswersConfirm) {
  ReadRounds rounds;
  std::vector<uint64_t> ready;
  auto collect = [&](const Reader& reader, Index) { ready.push_back(reader.context); };
  rounds.add({NodeId(), 1});
  rounds.add({NodeId(), 2});
  rounds.open(7, Index(10));
  rounds.confirm(7, collect);  // message 7 had left before
  EXPECT_TRUE(ready.empty());
  rounds.add({NodeId(), 3});
  rounds.open(8, Index(11));
  rounds.confirm(8, collect);
  EXPECT_EQ(ready, (std::vector<uint64_t>{1, 2}));
  rounds.confirm(9, collect);
  EXPECT_EQ(ready, (std::vector<uint64_t>{1, 2, 3}));
  EXPECT_FALSE(rounds.any_open());
}

TEST(ReadRounds, ManyTurnsShareTheLastRoundThatMayOpen) {
  ReadRounds rounds;
  for (uint64_t i = 0; i < 2 * ReadRounds::kMaxOpen; ++i) {
    rounds.add({NodeId(), i});
    if (rounds.may_open()) rounds.open(i, Index(1));
  }
  EXPECT_FALSE(rounds.may_open());
  size_t ready = 0;
  rounds.confirm(1000, [&](const Reader&, Index) { ++ready; });
  EXPECT_EQ(ready, ReadRounds::kMaxOpen);
  EXPECT_TRUE(rounds.may_open());
  EXPECT_EQ(rounds.drop_all().size(), ReadRounds::kMaxOpen);
  EXPECT_FALSE(rounds.may_open());
}

TEST(ReadAsks, OneQuestionForATurn) {
  ReadAsks asks(100);
  asks.add(1);
  asks.add(2);
  EXPECT_EQ(asks.ask(Time(seconds(1))), 100u);
  asks.add(3);
  EXPECT_EQ(asks.ask(Time(seconds(2))), 101u);
  EXPECT_TRUE(asks.answered(99).empty());
  EXPECT_EQ(asks.answered(101), (std::vector<uint64_t>{3}));
  EXPECT_TRUE(asks.answered(101).empty());
  EXPECT_EQ(asks.overdue(Time(seconds(1))), (std::vector<uint64_t>{1, 2}));
  EXPECT_EQ(asks.oldest(), nullptr);
}

}  // namespace
}  // namespace connectd::raft
