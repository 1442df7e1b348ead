#include "base/random.h"

#include <gtest/gtest.h>

namespace connectd {
namespace {

// A seed in a bug report must always give the same run.
TEST(Random, SeedAlwaysMeansTheSameNumbers) {
  Random a(1);
  Random b(1);
  for (int i = 0; i < 100; ++i) EXPECT_EQ(a.next(), b.next());
  EXPECT_EQ(Random(42).next(), Random(42).next());
  EXPECT_NE(Random(42).next(), Random(43).next());
}

TEST(Random, StaysInItsRange) {
  Random random(7);
  bool low = false;
  bool high = false;
  for (int i = 0; i < 1000; ++i) {
    uint64_t n = random.between(3, 5);
    ASSERT_GE(n, 3u);
    ASSERT_LE(n, 5u);
    low |= n == 3;
    high |= n == 5;
  }
  EXPECT_TRUE(low && high);
  EXPECT_FALSE(random.chance(0));
  EXPECT_TRUE(random.chance(100));
}

}  // namespace
}  // namespace connectd
