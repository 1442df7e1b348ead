#include "base/metrics.h"

#include <gtest/gtest.h>

#include <chrono>

namespace connectd {
namespace {

using std::chrono::microseconds;
using std::chrono::nanoseconds;
using std::chrono::seconds;

TEST(Histogram, BoundsBelongToTheirBucket) {
  Histogram<10, 3> numbers;  // up to 10, 20, 40, and more
  for (uint64_t number : {0, 1, 10, 11, 20, 21, 40, 41, 1'000'000}) numbers.observe(number);
  EXPECT_EQ(numbers.count(0), 3u);
  EXPECT_EQ(numbers.count(1), 2u);
  EXPECT_EQ(numbers.count(2), 2u);
  EXPECT_EQ(numbers.count(3), 2u);
  EXPECT_EQ(numbers.sum(), 1'000'144u);
  EXPECT_EQ((Histogram<10, 3>::bound(2)), 40u);
}

TEST(Histogram, LargestNumberIsInTheLastBucket) {
  SizeHistogram sizes;
  sizes.observe(UINT64_MAX);
  EXPECT_EQ(sizes.count(SizeHistogram::kBuckets - 1), 1u);
}

// The clock may be set back between two readings of it.
TEST(TimeHistogram, NegativeTimeIsNone) {
  TimeHistogram times;
  times.observe(nanoseconds(-5));
  times.observe(microseconds(100));
  times.observe(seconds(60));
  EXPECT_EQ(times.buckets().count(0), 2u);
  EXPECT_EQ(times.buckets().count(18), 1u);
  EXPECT_EQ(times.buckets().sum(), 60'000'100'000u);
}

}  // namespace
}  // namespace connectd
