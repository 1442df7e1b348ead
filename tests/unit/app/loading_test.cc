#include "app/loading.h"

#include <gtest/gtest.h>

namespace connectd::app {
namespace {

using std::chrono::seconds;

TEST(Loading, TextSaysHowFarItIs) {
  EXPECT_EQ(loading_text(0, 0, 0, 0), "starting: reading the log");
  EXPECT_EQ(loading_text(0, 0, 41, 100), "starting: 41 % of the log read");
  EXPECT_EQ(loading_text(50, 200, 0, 100), "starting: 25 % of the snapshot read");
  EXPECT_EQ(loading_text(200, 200, 1, 100), "starting: 1 % of the log read");
  // A damaged snapshot was read before this one.
  EXPECT_EQ(loading_text(300, 200, 0, 100), "starting: 100 % of the snapshot read");
  EXPECT_EQ(loading_text(0, 0, UINT64_MAX, UINT64_MAX), "starting: 100 % of the log read");
}

TEST(ProgressWatch, CountsFromTheLastChange) {
  const Time start{seconds(100)};
  ProgressWatch watch(start);
  EXPECT_FALSE(watch.update(0, start + seconds(5)));
  EXPECT_EQ(watch.still_for(start + seconds(5)), seconds(5));
  EXPECT_TRUE(watch.update(1, start + seconds(6)));
  EXPECT_FALSE(watch.update(1, start + seconds(9)));
  EXPECT_EQ(watch.still_for(start + seconds(9)), seconds(3));
}

}  // namespace
}  // namespace connectd::app
