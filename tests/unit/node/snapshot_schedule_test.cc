// When a node takes a local snapshot.
#include "node/snapshots/snapshot_schedule.h"

#include <gtest/gtest.h>

namespace connectd::node {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using Why = SnapshotFailed::Why;

constexpr SnapshotPolicy kPolicy{.log_min_bytes = 1000, .log_ratio = 4};

class SnapshotScheduleTest : public ::testing::Test {
 protected:
  SnapshotFailed failed(Why why) const { return {{Index(7), Term(1)}, why, "no luck"}; }
  void fail(Why why) { schedule.failed(failed(why), now); }

  Time now{seconds(100)};
  SnapshotSchedule schedule{kPolicy, 1.0, 0};
};

TEST_F(SnapshotScheduleTest, DueWhenTheLogExceedsTheFloor) {
  EXPECT_FALSE(schedule.is_due(now));
  schedule.handed(1000);
  EXPECT_FALSE(schedule.is_due(now));
  schedule.handed(1);
  EXPECT_TRUE(schedule.is_due(now));
}

TEST_F(SnapshotScheduleTest, DueWhenTheLogExceedsTheRatio) {
  SnapshotSchedule large(kPolicy, 1.0, 500);
  EXPECT_EQ(large.due_bytes(), 2000u);
  large.handed(2000);
  EXPECT_FALSE(large.is_due(now));
  large.handed(1);
  EXPECT_TRUE(large.is_due(now));
}

TEST_F(SnapshotScheduleTest, DueWhenAFollowerNeedsIt) {
  schedule.need();
  EXPECT_TRUE(schedule.is_due(now));
  schedule.begin(now);
  fail(Why::kPlugin);
  schedule.need();
  EXPECT_FALSE(schedule.is_due(now)) << "not in a loop";
  now += SnapshotSchedule::kRetryMax;
  EXPECT_TRUE(schedule.is_due(now));
  schedule.begin(now);
  schedule.taken(10);
  EXPECT_FALSE(schedule.is_due(now));
}

TEST_F(SnapshotScheduleTest, SpreadDelaysIt) {
  SnapshotSchedule spread(kPolicy, 1.25, 0);
  spread.handed(1250);
  EXPECT_FALSE(spread.is_due(now));
  spread.handed(1);
  EXPECT_TRUE(spread.is_due(now));
}

TEST_F(SnapshotScheduleTest, OneAtATimeAndCountsFromItsBegin) {
  schedule.handed(2000);
  EXPECT_EQ(schedule.begin(now), SnapshotHow::kCapture);
  EXPECT_TRUE(schedule.in_progress());
  schedule.handed(900);
  EXPECT_FALSE(schedule.is_due(now));
  schedule.taken(10);
  EXPECT_FALSE(schedule.is_due(now)) << "the log before its begin is covered";
  schedule.handed(101);
  EXPECT_TRUE(schedule.is_due(now));
}

TEST_F(SnapshotScheduleTest, FailureBacksOffAndKeepsTheLogCounted) {
  schedule.handed(2000);
  for (Duration wait : {seconds(1), seconds(2), seconds(4), seconds(8), seconds(16), seconds(32),
                        seconds(60), seconds(60)}) {
    schedule.begin(now);
    fail(Why::kNoSpace);
    EXPECT_EQ(schedule.last_failure(), "no luck");
    EXPECT_FALSE(schedule.is_due(now + wait - milliseconds(1)));
    now += wait;
    EXPECT_TRUE(schedule.is_due(now));
  }
  EXPECT_EQ(schedule.failures(), 8u);
  schedule.begin(now);
  schedule.taken(10);
  EXPECT_EQ(schedule.last_failure(), "");
}

// Too little log for the policy: it began because an operator asked.
TEST_F(SnapshotScheduleTest, RequestThatFailsIsRetried) {
  schedule.ask(Index(7));
  schedule.begin(now);
  fail(Why::kNoSpace);
  EXPECT_FALSE(schedule.is_due(now));
  now += SnapshotSchedule::kRetryMin;
  EXPECT_TRUE(schedule.is_due(now));
  schedule.begin(now);
  schedule.taken(10);
  now += SnapshotSchedule::kRetryMax;
  EXPECT_FALSE(schedule.is_due(now));
}

TEST_F(SnapshotScheduleTest, BusyCaptureIsRetriedAtOnce) {
  schedule.handed(2000);
  schedule.begin(now);
  fail(Why::kBusy);
  EXPECT_TRUE(schedule.is_due(now));
  EXPECT_TRUE(schedule.is_wanted());
  EXPECT_EQ(schedule.failures(), 0u);
}

TEST_F(SnapshotScheduleTest, OvertakenIsNoFailure) {
  schedule.handed(2000);
  schedule.begin(now);
  fail(Why::kOvertaken);
  EXPECT_EQ(schedule.failures(), 0u);
  EXPECT_FALSE(schedule.is_wanted());
}

TEST_F(SnapshotScheduleTest, TwoCaptureFailuresFallBackToInline) {
  for (int i = 0; i < SnapshotSchedule::kCaptureAttempts; ++i) {
    EXPECT_EQ(schedule.begin(now), SnapshotHow::kCapture);
    fail(Why::kMeans);
  }
  EXPECT_EQ(schedule.begin(now), SnapshotHow::kInline);
  schedule.taken(10);
  EXPECT_EQ(schedule.begin(now), SnapshotHow::kCapture);
}

TEST_F(SnapshotScheduleTest, PluginFailuresDoNotFallBack) {
  for (int i = 0; i < 5; ++i) {
    EXPECT_EQ(schedule.begin(now), SnapshotHow::kCapture);
    fail(Why::kPlugin);
  }
}

TEST_F(SnapshotScheduleTest, AskedIsTakenOnceIfNotCovered) {
  schedule.begin(now);
  schedule.ask(Index(9));
  schedule.taken(10);
  EXPECT_TRUE(schedule.take_asked(Index(8)));
  EXPECT_FALSE(schedule.take_asked(Index(8)));
  schedule.begin(now);
  schedule.ask(Index(9));
  schedule.taken(10);
  EXPECT_FALSE(schedule.take_asked(Index(9)));
}

}  // namespace
}  // namespace connectd::node
