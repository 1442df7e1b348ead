// When the log says that there is no leader.
#include "app/leader_watch.h"

#include <gtest/gtest.h>

namespace connectd::app {
namespace {

using std::chrono::seconds;

TEST(LeaderWatch, SaysItAfterTenSecondsThenOnceAMinute) {
  LeaderWatch watch;
  std::vector<int64_t> said;
  auto pass = [&](int from, int to, bool has_leader) {
    for (int second = from; second < to; ++second) {
      if (auto gone = watch.update(has_leader, false, Time(seconds(second))))
        said.push_back(gone->count());
    }
  };
  pass(100, 109, false);
  pass(109, 120, true);
  EXPECT_TRUE(said.empty()) << "an election";
  pass(120, 260, false);
  EXPECT_EQ(said, (std::vector<int64_t>{10, 70, 130}));
  pass(260, 261, true);
  pass(261, 272, false);
  EXPECT_EQ(said.back(), 10);
}

TEST(LeaderWatch, SaysNothingWhileTheNodeStops) {
  LeaderWatch watch;
  EXPECT_FALSE(watch.update(false, false, Time(seconds(100))));
  for (int second = 109; second < 300; ++second) {
    EXPECT_FALSE(watch.update(false, true, Time(seconds(second)))) << second;
  }
}

}  // namespace
}  // namespace connectd::app
