// Where a connection comes from, as its addresses say.
#include "net/origin.h"

#include <gtest/gtest.h>

namespace connectd::net {
namespace {

using boost::asio::ip::make_address;

TEST(OriginOf, OwnAddressIsThisMachine) {
  auto origin = [](const char* remote, const char* local) {
    return origin_of(make_address(remote), make_address(local));
  };
  for (const char* loopback : {"127.0.0.1", "127.8.9.10", "::1", "::ffff:127.0.0.1"}) {
    EXPECT_EQ(origin(loopback, "10.0.0.1"), Origin::kLoopback) << loopback;
  }
  EXPECT_EQ(origin("10.0.0.1", "10.0.0.1"), Origin::kThisMachine);
  EXPECT_EQ(origin("::ffff:10.0.0.1", "10.0.0.1"), Origin::kThisMachine);
  EXPECT_EQ(origin("10.0.0.1", "::ffff:10.0.0.1"), Origin::kThisMachine);
  EXPECT_EQ(origin("fd00::1", "fd00::1"), Origin::kThisMachine);
  for (const char* other : {"10.0.0.2", "0.0.0.0", "::", "fe80::1", "::ffff:10.0.0.2"}) {
    EXPECT_EQ(origin(other, "10.0.0.1"), Origin::kOtherMachine) << other;
  }
}

TEST(OriginOf, NetworkIsWhatOneCustomerHas) {
  auto network = [](const char* address) { return network_of(make_address(address)); };
  EXPECT_EQ(network("10.1.2.3"), "10.1.2.3");
  EXPECT_EQ(network("::ffff:10.1.2.3"), "10.1.2.3");
  EXPECT_EQ(network("2001:db8:1:2:3:4:5:6"), "2001:db8:1:2::");
}

}  // namespace
}  // namespace connectd::net
