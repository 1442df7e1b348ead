#include "auth/failure_limiter.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

namespace connectd::auth {
namespace {

using namespace std::chrono_literals;

class FailureLimiterTest : public ::testing::Test {
 protected:
  void fail(std::string_view source, std::string_view id, int times) {
    for (int i = 0; i < times; ++i) limiter_.failed(source, id, now_);
  }
  FailureLimiter limiter_;
  Time now_ = Time(1h);
};

TEST_F(FailureLimiterTest, TenFailuresOfOneToken) {
  for (int i = 0; i < 10; ++i) {
    EXPECT_TRUE(limiter_.may_try("10.0.0.1", "billing1", now_)) << i;
    fail("10.0.0.1", "billing1", 1);
  }
  EXPECT_FALSE(limiter_.may_try("10.0.0.1", "billing1", now_));
  EXPECT_TRUE(limiter_.may_try("10.0.0.1", "operator", now_)) << "others share the address";
  EXPECT_TRUE(limiter_.may_try("10.0.0.2", "billing1", now_));
  EXPECT_FALSE(limiter_.may_try("10.0.0.1", "billing1", now_ + 1min - 1ns));
  EXPECT_TRUE(limiter_.may_try("10.0.0.1", "billing1", now_ + 1min));
}

TEST_F(FailureLimiterTest, AHundredFailuresOfOneSource) {
  for (int i = 0; i < 100; ++i) {
    EXPECT_TRUE(limiter_.may_try("10.0.0.1", fmt::format("id{}", i), now_)) << i;
    fail("10.0.0.1", fmt::format("id{}", i), 1);
  }
  EXPECT_FALSE(limiter_.may_try("10.0.0.1", "operator", now_));
  EXPECT_TRUE(limiter_.may_try("10.0.0.2", "operator", now_));
  EXPECT_TRUE(limiter_.may_try("10.0.0.1", "operator", now_ + 1min));
  EXPECT_EQ(limiter_.size(), 0u);
}

TEST_F(FailureLimiterTest, TableIsBounded) {
  for (int i = 0; i < 100'000; ++i) fail(fmt::format("10.{}", i), "billing1", 1);
  EXPECT_EQ(limiter_.size(), FailureLimits().entries_max);
  fail("10.0.0.1", "billing1", 10);
  EXPECT_FALSE(limiter_.may_try("10.0.0.1", "billing1", now_)) << "the oldest are forgotten";
}

}  // namespace
}  // namespace connectd::auth
