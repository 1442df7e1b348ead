// ClockWatch: how soon it finds a clock that is too fast, and that it suspects no other.
#include "raft/lease.h"

#include <gtest/gtest.h>

#include "base/random.h"
#include "base/wall_clock.h"

namespace connectd::raft {
namespace {

using std::chrono::hours;
using std::chrono::microseconds;
using std::chrono::milliseconds;
using std::chrono::seconds;

constexpr unsigned kPercent = 10;  // together: 110 of 90, or 1.222 times as fast
constexpr Duration kWindow = seconds(1);
constexpr Duration kHeartbeat = milliseconds(50);

// Another node's clock, which runs at `rate` of this one's, and answers to what left at `now`.
class Other {
 public:
  void run(Duration time) {
    now_ += time;
    wall_ns_ += static_cast<double>(time.count()) * rate;
  }
  void set_forward(Duration by) { wall_ns_ += static_cast<double>(by.count()); }
  // The other clock is read `there` after the sending, and the answer is here `back` after that.
  bool answers(Duration there, Duration back) {
    const Time sent = now_;
    run(there);
    const auto wall_ns = static_cast<int64_t>(wall_ns_);
    run(back);
    return watch.observe(wall_ns, sent, now_, kPercent, kWindow);
  }
  // How long until it is found; seconds(10): it is not.
  Duration until_wild(Duration there = milliseconds(2), Duration back = milliseconds(2)) {
    const Time began = now_;
    while (answers(there, back) && now_ - began < seconds(10)) run(kHeartbeat - there - back);
    return std::min<Duration>(now_ - began, seconds(10));
  }

  ClockWatch watch;
  double rate = 1;

 private:
  Time now_{seconds(1000)};
  double wall_ns_ = 1e15;
};

// Every heartbeat is answered at once, but for the first: the connection was cut meanwhile.
TEST(ClockWatch, LateFirstAnswerDoesNotHideAFastClock) {
  Other other;
  other.rate = 2;
  EXPECT_TRUE(other.answers(seconds(3), milliseconds(1)));
  EXPECT_LE(other.until_wild(), milliseconds(300));
}

TEST(ClockWatch, ClockBefore1970IsWatched) {
  Other other;
  other.set_forward(-hours(1'000'000));
  other.rate = 2;
  EXPECT_LE(other.until_wild(), milliseconds(300));
}

// Its rate cannot be seen.
TEST(ClockWatch, TimesThatNoClockShowsRenewNothing) {
  ClockWatch watch;
  EXPECT_FALSE(watch.observe(INT64_MIN, Time(seconds(1)), Time(seconds(1)), 5, seconds(1)));
  EXPECT_FALSE(watch.observe(kMaxWallNs, Time(seconds(2)), Time(seconds(2)), 5, seconds(1)));
  EXPECT_TRUE(watch.observe(0, Time(seconds(2)), Time(seconds(2)), 5, seconds(1)))
      << "it does not say";
  const int64_t honest = 1'000'000'000'000'000;
  EXPECT_TRUE(watch.observe(honest, Time(seconds(3)), Time(seconds(3)), 5, seconds(1)))
      << "there is nothing to compare it with";
  EXPECT_TRUE(
      watch.observe(honest + 1'000'000'000, Time(seconds(4)), Time(seconds(4)), 5, seconds(1)));
  EXPECT_FALSE(watch.observe(INT64_MIN, Time(seconds(5)), Time(seconds(5)), 5, seconds(1)));
  EXPECT_FALSE(watch.observe(INT64_MAX, Time(seconds(6)), Time(seconds(6)), 5, seconds(1)));
}

TEST(ClockWatch, LateAnswerDoesNotReplaceASharpBase) {
  Other other;
  other.rate = 2;
  EXPECT_TRUE(other.answers(milliseconds(1), milliseconds(1)));
  // Read early and delivered late: alone it shows nothing.
  EXPECT_TRUE(other.answers(milliseconds(1), seconds(3)));
  EXPECT_LE(other.until_wild(), milliseconds(10));
}

TEST(ClockWatch, ClockThatTurnsFastIsFoundAtOnce) {
  Other other;
  EXPECT_EQ(other.until_wild(), seconds(10));
  other.rate = 1.5;
  EXPECT_LE(other.until_wild(), milliseconds(110));
}

TEST(ClockWatch, ClockBarelyBeyondTheBoundIsFound) {
  Other other;
  other.rate = 1.25;
  EXPECT_LE(other.until_wild(), milliseconds(300));
}

TEST(ClockWatch, ClockAtTheBoundIsNeverSuspected) {
  Random random(1);
  for (double rate : {1.222, 1.0, 0.5}) {
    Other other;
    other.rate = rate;
    for (int i = 0; i < 20'000; ++i) {
      other.run(microseconds(random.below(20'000)));
      const Duration longest = random.chance(2) ? seconds(3) : milliseconds(5);
      auto draw = [&] { return Duration(random.below(static_cast<uint64_t>(longest.count()))); };
      ASSERT_TRUE(other.answers(draw(), draw())) << rate << ", answer " << i;
    }
  }
}

TEST(ClockWatch, ManySmallStepsHideNothing) {
  Other other;
  other.rate = 1.23;
  EXPECT_TRUE(other.answers(Duration(), microseconds(1)));
  bool good = true;
  for (int i = 0; i < 1'000'000 && good; ++i) {
    good = other.answers(microseconds(5), microseconds(5));
  }
  EXPECT_FALSE(good);
}

TEST(ClockWatch, ClockSetBackIsComparedFromThere) {
  Other other;
  EXPECT_TRUE(other.answers(milliseconds(1), milliseconds(1)));
  other.set_forward(-seconds(60));
  EXPECT_TRUE(other.answers(milliseconds(1), milliseconds(1)));
  other.rate = 2;
  EXPECT_LE(other.until_wild(), milliseconds(110));
}

TEST(ClockWatch, ClockSetForwardIsWildForAWindow) {
  Other other;
  EXPECT_TRUE(other.answers(milliseconds(1), milliseconds(1)));
  other.set_forward(seconds(60));
  EXPECT_FALSE(other.answers(milliseconds(1), milliseconds(1)));
  other.run(kWindow - milliseconds(1));
  EXPECT_FALSE(other.answers(Duration(), Duration()));
  other.run(milliseconds(1));
  EXPECT_TRUE(other.answers(Duration(), Duration()));
}

TEST(ClockWatch, NodeWithoutAWallClockIsNotJudged) {
  ClockWatch watch;
  for (int i = 0; i < 3; ++i) {
    EXPECT_TRUE(watch.observe(0, Time(seconds(i)), Time(seconds(i)), kPercent, kWindow));
  }
}

}  // namespace
}  // namespace connectd::raft
