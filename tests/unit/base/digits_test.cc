#include "base/digits.h"

#include <gtest/gtest.h>

#include <limits>
#include <string>

namespace connectd {
namespace {

TEST(Digits, AreThoseOfTheNumber) {
  for (const uint64_t value : {uint64_t{0}, uint64_t{9}, uint64_t{10}, uint64_t{1'234'567'890},
                               std::numeric_limits<uint64_t>::max()}) {
    EXPECT_EQ(Digits(value).view(), std::to_string(value));
  }
}

}  // namespace
}  // namespace connectd
