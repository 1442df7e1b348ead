#include "base/local_ports.h"

#include <gtest/gtest.h>

namespace connectd {
namespace {

TEST(EphemeralPorts, RangeWithoutTheReservedOnes) {
  const auto ports = EphemeralPorts::parse("32768\t60999\n", "7101,40000-40002,50000\n");
  for (const int port : {32768, 39999, 40003, 60999}) {
    EXPECT_TRUE(ports.contains(static_cast<uint16_t>(port))) << port;
  }
  for (const int port : {1, 7101, 32767, 40000, 40001, 40002, 50000, 61000}) {
    EXPECT_FALSE(ports.contains(static_cast<uint16_t>(port))) << port;
  }
  EXPECT_EQ(ports.text(), "32768 to 60999");
}

TEST(EphemeralPorts, UnknownRangeContainsNothing) {
  for (const char* range : {"", "\n", "1024", "a b", "70000 70001"}) {
    EXPECT_FALSE(EphemeralPorts::parse(range, "").contains(1024)) << range;
    EXPECT_EQ(EphemeralPorts::parse(range, "").text(), "");
  }
  EXPECT_TRUE(EphemeralPorts::parse("1 65535", "nonsense").contains(65535));
}

}  // namespace
}  // namespace connectd
