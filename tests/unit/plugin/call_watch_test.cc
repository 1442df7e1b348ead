// Calls in progress as another thread sees them.
#include "plugin/call_watch.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <thread>

namespace connectd::plugin {
namespace {

using std::chrono::seconds;
using ::testing::IsEmpty;

Time at_second(int second) { return Time(seconds(second)); }

TEST(CallWatch, CallThatGoesOnIsMeasuredFromItsFirstPoll) {
  CallWatch watch;
  EXPECT_THAT(watch.poll(at_second(1)), IsEmpty());
  CallScope call("counter", "1.0.0", "apply", 812, as_bytes("incr"));
  EXPECT_THAT(watch.poll(at_second(2)), IsEmpty());
  auto running = watch.poll(at_second(5));
  ASSERT_EQ(running.size(), 1u);
  EXPECT_EQ(running[0].plugin, "counter 1.0.0");
  EXPECT_EQ(running[0].function, "apply");
  EXPECT_EQ(running[0].index, 812u);
  EXPECT_EQ(running[0].request, "incr");
  EXPECT_EQ(running[0].duration, seconds(3));
}

TEST(CallWatch, NextCallBeginsAnew) {
  CallWatch watch;
  { CallScope call("counter", "", "read"); }
  CallScope call("counter", "", "apply", 3);
  watch.poll(at_second(1));
  ASSERT_EQ(watch.poll(at_second(2)).size(), 1u);
  { CallScope inner("counter", "", "destroy"); }
  EXPECT_THAT(watch.poll(at_second(3)), IsEmpty());
  auto running = watch.poll(at_second(4));
  ASSERT_EQ(running.size(), 1u);
  EXPECT_EQ(running[0].function, "apply");
  EXPECT_EQ(running[0].plugin, "counter");
  EXPECT_EQ(running[0].duration, seconds(1));
}

TEST(CallWatch, FinishedCallIsNotSeen) {
  CallWatch watch;
  { CallScope call("counter", "1", "apply", 3); }
  watch.poll(at_second(1));
  EXPECT_THAT(watch.poll(at_second(9)), IsEmpty());
}

TEST(CallWatch, ThreadsGiveTheirPlaceBack) {
  for (size_t i = 0; i < 3 * g_call_slots.size(); ++i) {
    std::thread([] { CallScope call("counter", "1", "apply", 3); }).join();
  }
  CallWatch watch;
  std::thread([&] {
    CallScope call("counter", "1", "apply", 3);
    watch.poll(at_second(1));
    EXPECT_EQ(watch.poll(at_second(2)).size(), 1u);
  }).join();
}

TEST(CallWatch, RequestIsCutAndEscaped) {
  const std::string request = "a\n\"\\\xff" + std::string(100, 'x');
  CallWatch watch;
  CallScope call("counter", "1", "classify", 0, as_bytes(request));
  watch.poll(at_second(1));
  auto running = watch.poll(at_second(2));
  ASSERT_EQ(running.size(), 1u);
  EXPECT_EQ(running[0].request, "a\\x0a\\\"\\\\\\xff" + std::string(59, 'x') + "...");
}

}  // namespace
}  // namespace connectd::plugin
