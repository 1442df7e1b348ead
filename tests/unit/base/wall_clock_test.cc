#include "base/wall_clock.h"

#include <gtest/gtest.h>

namespace connectd {
namespace {

TEST(WallClock, TextAlsoBefore1970) {
  EXPECT_EQ(time_text(0), "1970-01-01T00:00:00.000000Z");
  EXPECT_EQ(time_text(1'700'000'000'000'001'999), "2023-11-14T22:13:20.000001Z");
  EXPECT_EQ(time_text(-1), "1969-12-31T23:59:59.999999Z");
  EXPECT_EQ(time_text(-42'557'662'000), "1969-12-31T23:59:17.442338Z");
  EXPECT_EQ(time_text(-43'000'000'000), "1969-12-31T23:59:17.000000Z");
}

TEST(WallClock, FarClocksAreBounded) {
  EXPECT_EQ(bounded_wall_ns(1'700'000'000, 5), 1'700'000'000'000'000'005);
  EXPECT_EQ(bounded_wall_ns(-2, 5), -1'999'999'995);
  for (int64_t far : {int64_t{4'700'000'000}, int64_t{9'300'000'000}, INT64_MAX}) {
    EXPECT_EQ(bounded_wall_ns(far, 999'999'999), kMaxWallNs) << far;
    EXPECT_EQ(bounded_wall_ns(-far, 999'999'999), -kMaxWallNs) << far;
  }
}

TEST(WallClock, OnlyTimesSince2023ArePlausible) {
  EXPECT_TRUE(is_plausible(1'700'000'000'000'000'000));
  for (int64_t wrong : {INT64_MIN, int64_t{-1}, int64_t{0}, kMinWallNs - 1, kMaxWallNs}) {
    EXPECT_FALSE(is_plausible(wrong)) << wrong;
  }
  EXPECT_TRUE(is_readable(-1));
  EXPECT_FALSE(is_readable(bounded_wall_ns(INT64_MAX, 0)));
  EXPECT_FALSE(is_readable(bounded_wall_ns(INT64_MIN, 0)));
}

}  // namespace
}  // namespace connectd
