#include "base/address.h"

#include <gtest/gtest.h>

namespace connectd {
namespace {

TEST(Address, ParsesNamesAndNumbers) {
  EXPECT_EQ(parse_address("10.0.0.11:7101").value(), (Address{"10.0.0.11", 7101}));
  EXPECT_EQ(parse_address("localhost:1").value(), (Address{"localhost", 1}));
  EXPECT_EQ(parse_address("[::1]:7101").value(), (Address{"::1", 7101}));
  EXPECT_EQ(parse_address("[::1]:7101")->to_string(), "[::1]:7101");
  EXPECT_EQ(parse_address("db-1.example.org:65535")->to_string(), "db-1.example.org:65535");
}

TEST(Address, LinkLocalAddressMayHaveAZone) {
  EXPECT_EQ(parse_address("[fe80::1%eth0]:7101").value(), (Address{"fe80::1%eth0", 7101}));
  EXPECT_EQ(parse_address("[fe80::1%eth0]:7101")->to_string(), "[fe80::1%eth0]:7101");
  for (const char* bad : {"[fe80::1%]:1", "[::1%eth0]:1", "[fe80::1%a b]:1", "[%eth0]:1",
                          "[fe80::1%eth0%eth1]:1", "[fe80::1%0123456789abcdef]:1", "1.2.3.4%e:1"}) {
    EXPECT_FALSE(parse_address(bad)) << bad;
  }
}

TEST(Address, RejectsWithTheRemedy) {
  for (const char* bad :
       {"",        ":7101",    "host",     "host:",    "host:0",       "host:65536",
        "host:x",  "host:-1",  "host:+1",  "host:7 ",  "host:07101",   "host:99999999999999999999",
        "[]:1",    "[host]:1", "::1:7101", "[::1]",    "10.0.0.256:1", "10.0.0:1",
        "ho st:1", "host:1/",  "[::1]x:1", "host:1:2", "http://host:1"}) {
    auto address = parse_address(bad);
    ASSERT_FALSE(address) << bad;
    EXPECT_NE(address.error().find("must be host:port, such as"), std::string::npos)
        << address.error();
  }
  EXPECT_EQ(parse_address("h:70000").error(),
            "the port of 'h:70000' must be 1 to 65535; must be host:port, such as 127.0.0.1:7101 "
            "or [::1]:7101");
}

TEST(Address, KnowsLoopbackAndWildcard) {
  EXPECT_TRUE(parse_address("127.0.0.2:1")->is_loopback());
  EXPECT_TRUE(parse_address("localhost:1")->is_loopback());
  EXPECT_FALSE(parse_address("10.0.0.1:1")->is_loopback());
  EXPECT_TRUE(parse_address("[::]:1")->is_wildcard());
  EXPECT_TRUE(parse_address("0.0.0.0:1")->is_wildcard());
}

TEST(Address, PortZeroIsNoAddressButPrintable) {
  EXPECT_FALSE(Address{});
  EXPECT_EQ(Address{}.to_string(), "");
  EXPECT_FALSE((Address{"127.0.0.1", 0}));
  EXPECT_EQ((Address{"127.0.0.1", 0}).to_string(), "127.0.0.1:0");
}

}  // namespace
}  // namespace connectd
