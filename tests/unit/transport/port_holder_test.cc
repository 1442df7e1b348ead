#include "net/port_holder.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <sstream>

#include "net/tcp.h"

namespace connectd::net {
namespace {

using boost::asio::ip::make_address;
using boost::asio::ip::tcp;
using ::testing::HasSubstr;

constexpr const char* kTitles = "  sl  local_address rem_address   st tx_queue rx_queue\n";

// As /proc has it on a little-endian machine; port 7101 is 1BBD.
PortHolder holder(const std::string& lines, const char* address = "127.0.0.1") {
  std::istringstream table(kTitles + lines);
  return look_for_holder(table, {make_address(address), 7101});
}

std::string line(const char* local, const char* state) {
  return std::string("   0: ") + local + " 0200007F:C350 " + state + " 00000000:00000000\n";
}

TEST(PortHolder, StateOfTheSocketDecides) {
  EXPECT_EQ(holder(""), PortHolder::kUnlisted);
  EXPECT_EQ(holder(line("0100007F:1BBD", "0A")), PortHolder::kListener);
  EXPECT_EQ(holder(line("0100007F:1BBD", "01")), PortHolder::kConnection);
  EXPECT_EQ(holder(line("0100007F:1BBD", "02")), PortHolder::kConnection) << "SYN-SENT";
  EXPECT_EQ(holder(line("0100007F:1BBD", "06")), PortHolder::kTimeWait);
  EXPECT_EQ(holder(line("0100007F:1BBD", "06") + line("0100007F:1BBD", "01")),
            PortHolder::kConnection);
  EXPECT_EQ(holder(line("0100007F:1BBD", "0A") + line("0100007F:1BBD", "06")),
            PortHolder::kListener);
}

TEST(PortHolder, OtherPortsAndAddressesDoNotCount) {
  EXPECT_EQ(holder(line("0100007F:1BBE", "0A")), PortHolder::kUnlisted);
  EXPECT_EQ(holder(line("0200007F:1BBD", "0A")), PortHolder::kUnlisted);
  EXPECT_EQ(holder(line("00000000:1BBD", "0A")), PortHolder::kListener);
  EXPECT_EQ(holder(line("0200007F:1BBD", "0A"), "0.0.0.0"), PortHolder::kListener);
  EXPECT_EQ(holder(line("00000000000000000000000000000000:1BBD", "0A")), PortHolder::kListener);
  EXPECT_EQ(holder(line("0000000000000000FFFF00000100007F:1BBD", "06")), PortHolder::kTimeWait);
  EXPECT_EQ(holder(line("00000000000000000000000001000000:1BBD", "0A"), "::1"),
            PortHolder::kListener);
  EXPECT_EQ(holder(line("00000000000000000000000001000000:1BBD", "0A")), PortHolder::kUnlisted);
}

TEST(PortHolder, UnreadableTableIsUnknown) {
  std::istringstream empty("");
  EXPECT_EQ(look_for_holder(empty, {make_address("127.0.0.1"), 7101}), PortHolder::kUnknown);
  for (const char* bad :
       {"\n", "   0: 0100007F\n", "   0: 0100007F:1BBD\n", "   0: x:1BBD y 0A\n"}) {
    EXPECT_EQ(holder(bad), PortHolder::kUnlisted) << bad;
  }
  std::string many;
  for (int i = 0; i < 70'000; ++i) many += line("0200007F:1BBD", "01");
  EXPECT_EQ(holder(many), PortHolder::kUnknown);
}

// With real sockets: what bind() refuses is what the text names.
class PortInUse : public ::testing::Test {
 protected:
  // The error of a bind to the port of `endpoint`.
  static std::string refusal(const tcp::endpoint& endpoint) {
    auto bound =
        BoundPort::bind({endpoint.address().to_string(), endpoint.port()}, endpoint, kClientPort);
    EXPECT_FALSE(bound);
    return bound ? "" : bound.error().text;
  }

  boost::asio::io_context io_;
  tcp::acceptor acceptor_{io_, tcp::endpoint(make_address("127.0.0.1"), 0)};
};

TEST_F(PortInUse, ListenerIsNamed) {
  EXPECT_THAT(refusal(acceptor_.local_endpoint()),
              HasSubstr("another process listens there: `ss -ltnp sport = :"));
}

TEST_F(PortInUse, OutgoingConnectionIsNamed) {
  tcp::socket socket(io_);
  socket.connect(acceptor_.local_endpoint());
  const std::string port = std::to_string(socket.local_endpoint().port());
  const std::string text = refusal(socket.local_endpoint());
  EXPECT_THAT(text, HasSubstr("a connection has it: `ss -tanp sport = :" + port));
  EXPECT_THAT(text, HasSubstr("ip_local_reserved_ports=" + port));
  EXPECT_THAT(text, HasSubstr("or set listen.client to a port outside"));
}

TEST_F(PortInUse, TimeWaitIsNamed) {
  tcp::socket socket(io_);
  socket.connect(acceptor_.local_endpoint());
  tcp::socket other = acceptor_.accept();
  const tcp::endpoint endpoint = socket.local_endpoint();
  socket.close();  // the side that closes first keeps the port
  char byte = 0;
  boost::system::error_code end;
  other.read_some(boost::asio::buffer(&byte, 1), end);
  other.close();
  std::string text;
  for (int i = 0; i < 5000 && text.find("TIME-WAIT") == std::string::npos; ++i) {
    text = refusal(endpoint);  // until the last segment has arrived
  }
  EXPECT_THAT(text, HasSubstr("keeps it for a minute (TIME-WAIT"));
  EXPECT_THAT(text, HasSubstr("wait, and keep it from outgoing connections"));
}

TEST_F(PortInUse, BoundAndNotListeningIsNamed) {
  auto other = BoundPort::bind({"127.0.0.1", 0}, {make_address("127.0.0.1"), 0}, kClientPort);
  ASSERT_TRUE(other);
  EXPECT_THAT(refusal(other->endpoint()), HasSubstr("does not listen yet: `ss -tBnp"));
}

}  // namespace
}  // namespace connectd::net
