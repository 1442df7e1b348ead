#include "node/apply/ticks.h"

#include <gtest/gtest.h>

#include <functional>

namespace connectd::node {
namespace {

TEST(Ticks, DueAtTheDeadlineAndNotTooOften) {
  Ticks ticks;
  Time now(std::chrono::seconds(100));
  EXPECT_FALSE(ticks.take_due(1000, now)) << "nobody waits";
  ticks.set_deadline(1001, 900);
  EXPECT_FALSE(ticks.take_due(1000, now));
  EXPECT_TRUE(ticks.take_due(1001, now));
  EXPECT_FALSE(ticks.take_due(1001, now)) << "it is on its way";
  now += Ticks::kInterval;
  EXPECT_TRUE(ticks.take_due(1002, now)) << "it was lost, and is repeated";
}

struct Clocks {
  Time time{std::chrono::seconds(100)};
  int64_t log_time = 1'000'000'000'000;
};

// How many ticks `run_seconds` bring when each is applied at once and leaves the deadline as it
// tells.
int ticks_in(Ticks& ticks, Clocks& now, int run_seconds,
             const std::function<int64_t(int64_t)>& deadline) {
  int count = 0;
  ticks.set_deadline(deadline(now.log_time), now.log_time);
  for (const Time end = now.time + std::chrono::seconds(run_seconds); now.time < end;) {
    now.time += std::chrono::milliseconds(50);
    now.log_time += 50'000'000;
    if (!ticks.take_due(now.log_time, now.time)) continue;
    ++count;
    ticks.set_deadline(deadline(now.log_time), now.log_time);
  }
  return count;
}

TEST(Ticks, DeadlineThatStaysInThePastIsLimited) {
  Ticks ticks;
  Clocks now;
  ::testing::internal::CaptureStderr();
  EXPECT_LE(ticks_in(ticks, now, 120, [](int64_t) { return 1; }), Ticks::kIdleTicks + 13);
  EXPECT_NE(::testing::internal::GetCapturedStderr().find("stays in the past after 20 ticks"),
            std::string::npos);
  // Another deadline, and all is as before.
  EXPECT_GE(ticks_in(ticks, now, 20, [](int64_t log_time) { return log_time + 100'000'000; }), 90);
}

TEST(Ticks, DeadlinesThatAdvanceAreNotLimitedSoon) {
  Ticks ticks;
  Clocks now;
  int64_t work = 1;
  EXPECT_GE(ticks_in(ticks, now, 50, [&](int64_t) { return ++work; }), 450);
  EXPECT_LE(ticks_in(ticks, now, 100, [](int64_t log_time) { return log_time - 1; }), 250);
}

}  // namespace
}  // namespace connectd::node
