#include "raft/log_time.h"

#include <gtest/gtest.h>

#include <map>
#include <vector>

#include "base/wall_clock.h"
#include "raft/read_index.h"
#include "tests/unit/raft/three.h"

namespace connectd::raft {
namespace {

using std::chrono::hours;
using std::chrono::seconds;

constexpr int64_t kSecond = 1'000'000'000;
constexpr int64_t kHour = 3600 * kSecond;
constexpr int64_t kDay = 24 * kHour;
constexpr int64_t kNow = 1'800'000'000 * kSecond;  // what a right clock shows at second 0

struct Clock {
  uint64_t node;
  int64_t wrong_by;  // constant
};

// A leader of some voters; time passes in heartbeats.
class Leading {
 public:
  explicit Leading(uint64_t voters, int64_t own_wrong_by = 0, int64_t began = 0)
      : began_(began), second_(began) {
    for (uint64_t i = 1; i <= voters; ++i) voters_.emplace_back(i);
    wrong_by_[kSelf] = own_wrong_by;
    time.start(kSelf, voters_, now());
  }
  Now now() const {
    return {Time(seconds(100 + second_)), kNow + second_ * kSecond + wrong_by_.at(kSelf)};
  }
  void set_clock(Clock clock) { wrong_by_[NodeId(clock.node)] = clock.wrong_by; }
  // It answers, and is heard from now on.
  void answers(Clock clock) {
    set_clock(clock);
    hear(NodeId(clock.node));
  }
  void falls_silent(uint64_t node) { wrong_by_.erase(NodeId(node)); }
  void begin(int64_t last_stamp = 0) { begin(last_stamp, last_stamp); }
  // `continued`: log time at second 0, as this node has seen it.
  void begin(int64_t last_stamp, int64_t continued) {
    time.begin(last_stamp, continued - (100 + began_) * kSecond, now());
  }
  void run(int64_t heartbeats) {
    for (int64_t i = 0; i < heartbeats; ++i) {
      ++second_;
      time.advance(now());
      for (const auto& [node, wrong_by] : wrong_by_) {
        if (node != kSelf) hear(node);
      }
    }
  }
  // Log time minus real time, ns.
  int64_t wrong_by() { return time.stamp(now()) - kNow - second_ * kSecond; }

  LogTime time;

 private:
  void hear(NodeId node) {
    time.observe(node, kNow + second_ * kSecond + wrong_by_.at(node), now());
  }
  std::vector<NodeId> voters_;
  std::map<NodeId, int64_t> wrong_by_;
  int64_t began_;
  int64_t second_;
};

TEST(LogTime, BaseIsTheMedianOfTheClocks) {
  Leading term(3, 9000 * kSecond);  // far ahead
  term.answers({2, 0});
  term.answers({3, kSecond});
  term.begin();
  EXPECT_EQ(term.wrong_by(), kSecond);
}

// Of two known clocks of three voters one is late: until a third is known, log time runs on from
// where it was.
TEST(LogTime, LateClockHoldsNothingOnceAThirdIsKnown) {
  for (int64_t late : {-kDay, -3 * 365 * kDay}) {
    for (bool is_own : {true, false}) {
      Leading term(3, is_own ? late : 0);
      term.answers({2, is_own ? 0 : late});
      term.begin(kNow - kHour);
      EXPECT_EQ(term.wrong_by(), 1 - kHour);
      term.run(1000);
      EXPECT_NEAR(term.wrong_by(), -kHour, 10);
      term.answers({3, 0});
      EXPECT_EQ(term.wrong_by(), 0) << late;
    }
  }
}

TEST(LogTime, FirstStartWithALateClockOfThree) {
  Leading term(3, -kDay);
  term.answers({2, 0});
  term.begin();
  EXPECT_EQ(term.wrong_by(), -kDay) << "nobody knows better yet";
  term.answers({3, -3});
  EXPECT_EQ(term.wrong_by(), -3);
}

// A time server is wrong for a moment: more clocks decide nothing where those known agreed.
TEST(LogTime, NewsWhereClocksAgreedIsNoReasonToJump) {
  Leading learner(3);
  for (uint64_t node : {2, 3}) learner.answers({node, 0});
  learner.begin();
  learner.run(20);
  for (uint64_t node : {2, 3}) learner.answers({node, kHour});
  learner.answers({9, kHour});
  EXPECT_NEAR(learner.wrong_by(), 0, kSecond);

  Leading voter(5);
  for (uint64_t node : {2, 3, 4}) voter.answers({node, 0});
  voter.begin();
  voter.run(20);
  for (uint64_t node : {2, 3, 4}) voter.answers({node, kHour});
  voter.answers({5, 0});
  EXPECT_NEAR(voter.wrong_by(), 0, kSecond);
  voter.run(70);
  EXPECT_NEAR(voter.wrong_by(), kHour, kSecond) << "for more than a minute";
}

TEST(LogTime, ClockAheadOfThreeMovesNothing) {
  for (bool is_own : {true, false}) {
    Leading term(3, is_own ? kDay : 0);
    term.answers({2, is_own ? 0 : kDay});
    term.begin(kNow - kHour);
    EXPECT_EQ(term.wrong_by(), 0);
    term.answers({3, 0});
    term.run(1000);
    EXPECT_EQ(term.wrong_by(), 0);
  }
}

// The log time of the leader before is the third opinion.
TEST(LogTime, ContinuesBetweenClocksThatDisagree) {
  Leading term(3, -kDay);
  term.answers({2, 0});
  term.begin(kNow - kHour, kNow - kSecond);
  EXPECT_EQ(term.wrong_by(), -kSecond);
}

TEST(LogTime, ContinuesNoFurtherThanTheClocks) {
  Leading term(3, -2);
  term.answers({2, 0});
  term.begin(kNow - kHour, kNow + kDay);
  EXPECT_EQ(term.wrong_by(), 0) << "no stamp is there yet";
}

TEST(LogTime, TwoWrongClocksOfFiveMoveNothing) {
  for (int64_t wrong : {-kDay, kDay}) {
    Leading term(5, wrong);
    term.answers({2, wrong});
    term.answers({3, 0});
    term.begin(kNow - kHour);
    const int64_t first = term.wrong_by();
    EXPECT_GE(first, -kHour);
    EXPECT_LE(first, 0);
    term.answers({4, 0});
    term.answers({5, 0});
    term.run(100);
    EXPECT_EQ(term.wrong_by(), 0);
  }
}

TEST(LogTime, OneWrongClockOfFourMovesNothing) {
  for (int64_t wrong : {-kDay, kDay}) {
    Leading term(4, wrong);
    for (uint64_t node : {2, 3, 4}) term.answers({node, 0});
    term.begin(kNow - kHour);
    EXPECT_EQ(term.wrong_by(), 0);
  }
}

// Only the voters that answer are known; who was heard long ago may have been set since.
TEST(LogTime, SilentClockIsForgotten) {
  Leading term(3);
  term.answers({2, 0});
  term.answers({3, -kDay});
  term.begin();
  term.falls_silent(3);
  term.run(20);
  EXPECT_EQ(term.time.view(term.now()).known, 2u);
  term.set_clock({1, -kDay});
  term.run(200);
  EXPECT_EQ(term.wrong_by(), 0) << "one of the two that are known is late, which is not known";
}

// Sums with it would leave the type.
TEST(LogTime, ImplausibleClockIsNoClock) {
  for (int64_t shown :
       {INT64_MIN, INT64_MAX, kMaxWallNs, kMinWallNs - 1, int64_t{-1}, int64_t{1}}) {
    const Now wrong{Time(seconds(100)), shown};
    LogTime time;
    time.start(kSelf, {kSelf, NodeId(2), NodeId(3)}, wrong);
    time.observe(NodeId(2), shown, wrong);
    time.begin(500, 1000 - 100 * kSecond, wrong);
    EXPECT_EQ(time.stamp(wrong), 1000);
    EXPECT_FALSE(time.view(wrong).is_certain);
    time.observe(NodeId(2), kNow, wrong);
    time.observe(NodeId(3), shown, wrong);
    EXPECT_EQ(time.stamp(wrong), 1001) << "one clock of three is no majority";
    time.observe(NodeId(3), kNow, wrong);
    EXPECT_EQ(time.stamp(wrong), kNow);
    time.observe(NodeId(3), shown, wrong);
    EXPECT_EQ(time.view(wrong).known, 1u);
  }
}

// All machines start in 1970, and NTP sets their clocks later.
TEST(LogTime, ClocksThatBecomePlausibleCountAtOnce) {
  Leading term(3, -kNow);
  term.answers({2, -kNow});
  term.answers({3, -kNow});
  term.begin(kNow - kHour);
  term.run(100);
  EXPECT_EQ(term.wrong_by(), 1 - kHour) << "runs on from the last stamp";
  for (uint64_t node : {1, 2, 3}) term.set_clock({node, 0});
  term.run(1);
  EXPECT_EQ(term.wrong_by(), 0);
}

TEST(LogTime, NeverBehindTheLastStamp) {
  Leading term(1);
  term.begin(kNow + 5000 * kSecond);
  EXPECT_EQ(term.wrong_by(), 5000 * kSecond + 1);
  EXPECT_EQ(term.wrong_by(), 5000 * kSecond + 2);
}

TEST(LogTime, RisesWithMonotonicTimeAndStrictly) {
  Leading term(1);
  term.begin();
  EXPECT_EQ(term.wrong_by(), 0);
  EXPECT_EQ(term.wrong_by(), 1);
  EXPECT_EQ(term.time.at(term.now()), kNow + 2);
  term.run(10);
  EXPECT_EQ(term.wrong_by(), 0);
}

// A leader follows no jump of its own clock; not even the only one does at once.
TEST(LogTime, OwnClockMayJump) {
  for (uint64_t voters : {1, 3}) {
    for (int64_t by : {-kDay, kDay}) {
      Leading term(voters);
      for (uint64_t node = 2; node <= voters; ++node) term.answers({node, 0});
      term.begin();
      term.run(5);
      term.set_clock({1, by});
      term.run(30);
      EXPECT_NEAR(term.wrong_by(), 0, by > 0 ? kSecond / 20 : 4 * kSecond) << voters;
      term.set_clock({1, 0});
      term.run(40);
      EXPECT_NEAR(term.wrong_by(), 0, by > 0 ? kSecond / 20 : 4 * kSecond) << voters;
    }
  }
}

// Towards the clocks, by at most 0.05 %.
TEST(LogTime, SlewsTowardsTheMedian) {
  Leading term(3);
  for (uint64_t node : {2, 3}) term.answers({node, 0});
  term.begin();
  for (uint64_t node : {2, 3}) term.set_clock({node, 900'000'000});
  term.run(1000);
  EXPECT_NEAR(term.wrong_by(), kSecond / 2, kSecond / 1000);
  term.run(1000);
  EXPECT_EQ(term.wrong_by(), 900'000'000);
  for (uint64_t node : {2, 3}) term.set_clock({node, 0});
  term.run(1000);
  EXPECT_NEAR(term.wrong_by(), 400'000'000, kSecond / 1000);
}

// A majority of the clocks was set forward, and that was no error of a moment.
TEST(LogTime, JumpsWhenLateForAMinute) {
  Leading term(3);
  for (uint64_t node : {2, 3}) term.answers({node, 0});
  term.begin();
  for (uint64_t node : {2, 3}) term.set_clock({node, kHour});
  term.run(59);
  EXPECT_LT(term.wrong_by(), kSecond);
  term.run(3);
  EXPECT_EQ(term.wrong_by(), kHour);
}

TEST(LogTime, RunsSlowWhenAheadAndAgreesAgain) {
  Leading term(3);
  for (uint64_t node : {2, 3}) term.answers({node, 0});
  term.begin(kNow + kHour);
  EXPECT_EQ(term.time.view(term.now()).ahead, hours(1) + Duration(1));
  term.run(3600);
  EXPECT_NEAR(term.wrong_by(), kHour - 360 * kSecond, kSecond);
  term.run(10 * 3600);
  EXPECT_EQ(term.wrong_by(), 0);
}

// It cannot be made up: the times that keys have to live stay exact.
TEST(LogTime, YearsAheadAreSlewedOnly) {
  Leading term(3);
  for (uint64_t node : {2, 3}) term.answers({node, 0});
  term.begin(kNow + 3650 * kDay);
  term.run(2000);
  EXPECT_NEAR(term.wrong_by() - 3650 * kDay, -kSecond, kSecond / 1000);
}

TEST(LogTime, OneWrongClockOfThreeMovesNothing) {
  for (int64_t wrong : {-kDay, kDay, -kNow, -2 * kNow}) {
    Leading term(3);
    term.answers({2, 0});
    term.begin();
    term.answers({3, wrong});
    term.run(4000);
    EXPECT_EQ(term.wrong_by(), 0) << wrong;
  }
}

TEST(LogTime, RemovedVoterDoesNotCount) {
  Leading term(3, -kDay);
  term.answers({2, 0});
  term.answers({3, -kDay});
  term.begin();
  EXPECT_EQ(term.wrong_by(), -kDay);
  term.time.set_voters({NodeId(2)});
  term.run(1);
  EXPECT_EQ(term.wrong_by(), 0);
}

TEST(LogTime, ViewNamesTheWrongClock) {
  Leading term(3);
  term.answers({2, -kDay});
  term.begin(kNow - kHour);
  LogTime::View view = term.time.view(term.now());
  EXPECT_EQ(view.voters, 3u);
  EXPECT_EQ(view.known, 2u);
  EXPECT_TRUE(view.is_certain);
  EXPECT_EQ(view.between, hours(24));
  EXPECT_EQ(view.ahead, Duration(0));
  term.answers({3, 0});
  view = term.time.view(term.now());
  EXPECT_EQ(view.known, 3u);
  EXPECT_EQ(view.between, Duration(0));
  EXPECT_EQ(view.furthest, NodeId(2));
  EXPECT_EQ(view.furthest_by, -hours(24));
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
