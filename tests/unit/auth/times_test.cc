#include "auth/times.h"

#include <gtest/gtest.h>

namespace connectd::auth {
namespace {

TEST(Times, TextAndBack) {
  EXPECT_EQ(*parse_time("2027-01-31"), 1801353600);
  EXPECT_EQ(*parse_time("2027-01-31T00:00:00Z"), 1801353600);
  EXPECT_EQ(*parse_time("2028-02-29T23:59:59Z"), 1835481599);
  EXPECT_EQ(format_time(1801353600), "2027-01-31T00:00:00Z");
  EXPECT_EQ(format_time(1835481599), "2028-02-29T23:59:59Z");
}

TEST(Times, OtherTextsAreRefused) {
  for (const char* text :
       {"", "tomorrow", "2027", "2027-1-31", "31.01.2027", "2027-01-31T00:00:00",
        "2027-01-31T00:00Z", "2027-01-31 00:00:00Z", "2027-01-31T00:00:00+01:00", "2027-02-29",
        "2027-13-01", "2027-00-01", "2027-01-32", "2027-01-31T24:00:00Z", "2027-01-31T00:60:00Z",
        "2027-01-31T00:00:60Z", "2022-12-31", "2116-01-01", "-027-01-31"}) {
    auto time = parse_time(text);
    ASSERT_FALSE(time) << text;
    EXPECT_EQ(time.error().kind, ErrorKind::kUsage) << text;
  }
}

}  // namespace
}  // namespace connectd::auth
