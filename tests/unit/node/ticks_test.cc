#include "node/apply/ticks.h"

#include <gtest/gtest.h>

namespace connectd::node {
namespace {

TEST(Ticks, DueAtTheDeadlineAndNotTooOften) {
  Ticks ticks;
  Now now{Time(std::chrono::seconds(100)), 1000};
  EXPECT_FALSE(ticks.take_due(now)) << "nobody waits";
  ticks.set_deadline(1001);
  EXPECT_FALSE(ticks.take_due(now));
  now.wall_ns = 1001;
  EXPECT_TRUE(ticks.take_due(now));
  EXPECT_FALSE(ticks.take_due(now)) << "it is on its way";
  now.time += Ticks::kInterval;
  EXPECT_TRUE(ticks.take_due(now)) << "it came too early by log time, and is repeated";
}

}  // namespace
}  // namespace connectd::node
