#include "config/values.h"

#include <gtest/gtest.h>

namespace connectd::config {
namespace {

using namespace std::chrono_literals;

TEST(Values, DurationsCarryUnits) {
  EXPECT_EQ(parse_duration("50ms").value(), Duration(50ms));
  EXPECT_EQ(parse_duration("5s").value(), Duration(5s));
  EXPECT_EQ(parse_duration("1m").value(), Duration(1min));
  EXPECT_EQ(parse_duration("2 h").value(), Duration(2h));
  EXPECT_EQ(parse_duration("0ms").value(), Duration(0));
  for (const char* bad : {"", "50", "ms", "-5ms", "1.5s", "5 sec", "05ms", "1m30s", "1e3ms",
                          "99999999999h", "18446744073709551616ns"}) {
    EXPECT_FALSE(parse_duration(bad).has_value()) << bad;
  }
  EXPECT_EQ(parse_duration("50").error(),
            "'50' has no unit; append one of ns us ms s m h, such as 50ms");
}

TEST(Values, SizesCarryUnits) {
  EXPECT_EQ(parse_size("64MiB").value(), 64u << 20);
  EXPECT_EQ(parse_size("0B").value(), 0u);
  EXPECT_EQ(parse_size("1TiB").value(), 1ull << 40);
  for (const char* bad : {"", "64", "64MB", "64M", "0x10B", "1.5GiB", "99999999TiB", "010KiB"}) {
    EXPECT_FALSE(parse_size(bad).has_value()) << bad;
  }
  EXPECT_EQ(parse_size("64MB").error(),
            "'64MB' has the unknown unit 'MB'; must be one of B KiB MiB GiB TiB");
}

TEST(Values, FormattingIsParsedBack) {
  for (uint64_t size :
       {0ull, 1ull, 1023ull, 1024ull, 1536ull, 1ull << 20, 3ull << 30, 1ull << 40}) {
    EXPECT_EQ(parse_size(format_size(size)).value(), size);
  }
  for (int64_t ns : {0ll, 1ll, 999ll, 1000ll, 1500000ll, 60000000000ll, 90000000000ll}) {
    EXPECT_EQ(parse_duration(format_duration(Duration(ns))).value().count(), ns);
  }
  EXPECT_EQ(format_size(1536), "1536B");
  EXPECT_EQ(format_size(64 << 20), "64MiB");
  EXPECT_EQ(format_duration(90s), "90s");
}

TEST(Values, WholeNumbersAreDecimal) {
  EXPECT_EQ(parse_integer("0").value(), 0u);
  EXPECT_EQ(parse_integer("18446744073709551615").value(), UINT64_MAX);
  for (const char* bad : {"", "010", "0x10", "0o10", "-1", "+1", "1_000", "1.0", "1e3", " 1",
                          "18446744073709551616"}) {
    EXPECT_FALSE(parse_integer(bad).has_value()) << bad;
  }
  EXPECT_EQ(parse_integer("010").error(),
            "'010' has a leading zero, which may mean octal; write 10");
}

}  // namespace
}  // namespace connectd::config
