// When the loop may apply by itself.
#include "node/apply/inline_privilege.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <thread>

namespace connectd::node {
namespace {

using std::chrono::milliseconds;
using std::chrono::minutes;
using std::chrono::seconds;
using ::testing::HasSubstr;

constexpr int64_t kCpuMax = 200'000;
const Time kStart(seconds(1000));

// A turn that took so long, computed so long and waited so often.
std::optional<std::string> turn(InlinePrivilege& privilege, Time begin, Duration took,
                                int64_t cpu_ns, int64_t waits) {
  return privilege.judge(TurnUsage{begin, 7, 70}, TurnUsage{begin + took, 7 + cpu_ns, 70 + waits});
}

TEST(InlinePrivilege, TurnThatComputesForLongLosesIt) {
  InlinePrivilege privilege(true, kCpuMax);
  EXPECT_TRUE(privilege.is_granted(kStart));
  EXPECT_FALSE(turn(privilege, kStart, milliseconds(1), kCpuMax, 0));
  EXPECT_TRUE(privilege.is_granted(kStart));
  auto why = turn(privilege, kStart, milliseconds(1), kCpuMax + 1, 0);
  ASSERT_TRUE(why.has_value());
  EXPECT_EQ(*why, "slower than limit_us=200");
  EXPECT_FALSE(privilege.is_granted(kStart + milliseconds(1)));
}

TEST(InlinePrivilege, TurnThatWaitsLosesIt) {
  InlinePrivilege privilege(true, kCpuMax);
  EXPECT_FALSE(turn(privilege, kStart, milliseconds(2), 10, 1));
  // Others had the processor: not the plugin's fault.
  EXPECT_FALSE(turn(privilege, kStart, milliseconds(900), 10, 0));
  EXPECT_TRUE(privilege.is_granted(kStart + seconds(1)));
  auto why = turn(privilege, kStart, milliseconds(100), 10, 1);
  ASSERT_TRUE(why.has_value());
  EXPECT_THAT(*why, HasSubstr("waited: a turn of 100 ms"));
  EXPECT_FALSE(privilege.is_granted(kStart + seconds(1)));
}

TEST(InlinePrivilege, GivenBackAfterAMinuteAndLaterEachTime) {
  InlinePrivilege privilege(true, kCpuMax);
  Time now = kStart;
  for (Duration penalty : {minutes(1), minutes(2), minutes(4), minutes(8), minutes(16), minutes(32),
                           minutes(60), minutes(60)}) {
    turn(privilege, now, milliseconds(10), 10, 1);
    now += milliseconds(10);
    EXPECT_EQ(privilege.penalty(), penalty);
    EXPECT_FALSE(privilege.is_granted(now + penalty - milliseconds(1)));
    now += penalty;
    EXPECT_TRUE(privilege.is_granted(now));
  }
  now += minutes(61);
  turn(privilege, now, milliseconds(10), 10, 1);
  EXPECT_EQ(privilege.penalty(), minutes(1));
}

TEST(InlinePrivilege, NeverWhereItIsNotAllowed) {
  EXPECT_FALSE(InlinePrivilege(false, kCpuMax).is_granted(kStart));
}

// With the real clocks of this thread.
TEST(InlineTurn, IsOverAfterTheCallThatSleeps) {
  InlinePrivilege privilege(true, 1'000'000'000);
  InlineTurn turn(privilege, std::chrono::steady_clock::now());
  turn.called(std::chrono::steady_clock::now());
  EXPECT_FALSE(turn.is_over());
  std::this_thread::sleep_for(milliseconds(20));
  turn.called(std::chrono::steady_clock::now());
  EXPECT_TRUE(turn.is_over());
  EXPECT_THAT(*turn.why(), HasSubstr("waited"));
  EXPECT_FALSE(privilege.is_granted(read_clocks().time));
  EXPECT_EQ(privilege.penalty(), minutes(1));
  turn.called(std::chrono::steady_clock::now());
  EXPECT_EQ(privilege.penalty(), minutes(1)) << "one turn, judged twice";
}

// Where time is not measured, as in the simulator, no turn ends.
TEST(InlineTurn, IsNeverOverWithoutALimit) {
  InlinePrivilege privilege(true, INT64_MAX);
  InlineTurn turn(privilege, std::chrono::steady_clock::now());
  std::this_thread::sleep_for(milliseconds(5));
  turn.called(std::chrono::steady_clock::now());
  EXPECT_FALSE(turn.is_over());
}

}  // namespace
}  // namespace connectd::node
