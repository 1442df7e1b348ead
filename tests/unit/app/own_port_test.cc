// The name, the addresses and the other user of a port come and go; nothing here waits.
#include "app/own_port.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/io_context.hpp>
#include <map>
#include <mutex>

namespace connectd::app {
namespace {

namespace ip = boost::asio::ip;
using ip::tcp;
using std::chrono::milliseconds;
using std::chrono::seconds;
using ::testing::HasSubstr;

net::Names::Addresses addresses(std::initializer_list<const char*> texts) {
  net::Names::Addresses list;
  for (const char* text : texts) list.push_back(ip::make_address(text));
  return list;
}

class OwnPortTest : public ::testing::Test {
 protected:
  OwnPortTest()
      : names_(io_, [this](const std::string&) {
          std::lock_guard lock(mutex_);
          return found_;
        }) {}

  void resolves_to(net::Names::Found found) {
    std::lock_guard lock(mutex_);
    found_ = std::move(found);
  }
  Result<net::BoundPort> bind(const Address& address, const tcp::endpoint& endpoint,
                              const net::Port& port) {
    tried_.push_back(endpoint.address().to_string());
    auto error = errors_.find(tried_.back());
    if (error != errors_.end()) return failure(error->second, "it is " + tried_.back());
    return net::BoundPort::bind(address, tcp::endpoint(ip::address_v4::loopback(), 0), port);
  }
  OwnPort own(const Address& address) {
    return OwnPort(names_, address, net::kPeerPort,
                   [this](const Address& a, const tcp::endpoint& e, const net::Port& p) {
                     return bind(a, e, p);
                   });
  }
  // One question and its answer.
  std::optional<Result<net::BoundPort>> step(OwnPort& port) {
    now_ += milliseconds(600);
    for (int i = 0; i < 1000; ++i) {
      const size_t tried = tried_.size();
      const std::string waiting = port.waiting();
      if (auto bound = port.advance(now_)) return bound;
      if (tried_.size() != tried || port.waiting() != waiting) return std::nullopt;
      io_.run_one_for(milliseconds(20));
      io_.restart();
    }
    ADD_FAILURE() << "no answer";
    return std::nullopt;
  }

  boost::asio::io_context io_;
  const boost::asio::executor_work_guard<boost::asio::io_context::executor_type> busy_{
      io_.get_executor()};  // run_one_for() waits, though nothing is in progress
  std::mutex mutex_;
  net::Names::Found found_ = tl::unexpected<std::string>("Name or service not known");
  net::Names names_;
  std::map<std::string, ErrorKind> errors_;
  std::vector<std::string> tried_;
  Time now_{seconds(1000)};
};

TEST_F(OwnPortTest, UnknownNameIsWaitedFor) {
  OwnPort port = own({"db1", 7101});
  EXPECT_EQ(port.waiting(), "looking up db1 (listen.peer)");
  EXPECT_FALSE(step(port));
  EXPECT_EQ(port.waiting(), "waiting for the name db1 (listen.peer): Name or service not known");
  resolves_to(addresses({"10.0.0.1"}));
  std::optional<Result<net::BoundPort>> bound = step(port);
  ASSERT_TRUE(bound && *bound);
  EXPECT_EQ(tried_, std::vector<std::string>{"10.0.0.1"});
}

TEST_F(OwnPortTest, AddressThatIsNotThereYetIsWaitedFor) {
  errors_["10.0.0.1"] = ErrorKind::kNoSuchAddress;
  OwnPort port = own({"10.0.0.1", 7101});
  EXPECT_FALSE(step(port));
  EXPECT_THAT(port.waiting(), HasSubstr("waiting for 10.0.0.1:7101 (listen.peer): it is 10.0.0.1"));
  now_ += seconds(3600);
  EXPECT_FALSE(step(port));
  errors_.clear();
  std::optional<Result<net::BoundPort>> bound = step(port);
  ASSERT_TRUE(bound && *bound);
}

TEST_F(OwnPortTest, PortInUseEndsAfterTenSeconds) {
  errors_["10.0.0.1"] = ErrorKind::kAddressInUse;
  OwnPort port = own({"10.0.0.1", 7101});
  EXPECT_FALSE(step(port));
  now_ += seconds(8);
  EXPECT_FALSE(step(port));
  now_ += seconds(2);
  std::optional<Result<net::BoundPort>> bound = step(port);
  ASSERT_TRUE(bound && !*bound);
  EXPECT_EQ(bound->error().kind, ErrorKind::kAddressInUse);
}

TEST_F(OwnPortTest, OtherErrorsEndAtOnce) {
  errors_["10.0.0.1"] = ErrorKind::kPermission;
  OwnPort port = own({"10.0.0.1", 7101});
  std::optional<Result<net::BoundPort>> bound = step(port);
  ASSERT_TRUE(bound && !*bound);
  EXPECT_EQ(bound->error().kind, ErrorKind::kPermission);
}

TEST_F(OwnPortTest, FirstAddressOfThisMachineThatIsNotLoopback) {
  resolves_to(addresses({"127.0.1.1", "::1", "10.0.0.9", "fd00::1", "10.0.0.1"}));
  errors_["10.0.0.9"] = errors_["fd00::1"] = ErrorKind::kNoSuchAddress;
  OwnPort port = own({"db1", 7101});
  std::optional<Result<net::BoundPort>> bound = step(port);
  ASSERT_TRUE(bound && *bound);
  EXPECT_EQ(tried_, (std::vector<std::string>{"10.0.0.9", "fd00::1", "10.0.0.1"}));
}

TEST_F(OwnPortTest, LoopbackIsNotBoundWhileTheRealAddressIsMissing) {
  resolves_to(addresses({"127.0.1.1", "10.0.0.1"}));
  errors_["10.0.0.1"] = ErrorKind::kNoSuchAddress;
  OwnPort port = own({"db1", 7101});
  EXPECT_FALSE(step(port));
  EXPECT_EQ(tried_, std::vector<std::string>{"10.0.0.1"});
}

TEST_F(OwnPortTest, OnlyLoopbackIsBoundWithAWarning) {
  resolves_to(addresses({"127.0.1.1"}));
  OwnPort port = own({"db1", 7101});
  std::optional<Result<net::BoundPort>> bound = step(port);
  ASSERT_TRUE(bound && *bound);
  EXPECT_EQ(tried_, std::vector<std::string>{"127.0.1.1"});
}

TEST(LoopbackWarning, NamesTheNumberOrTheNodeElsewhere) {
  config::Config config;
  config.node.id = NodeId(1);
  config.cluster.members.resize(2);
  config.cluster.members[0].id = NodeId(1);
  config.cluster.members[0].peer = {"127.0.0.1", 7101};
  config.cluster.members[1].id = NodeId(2);
  config.cluster.members[1].peer = {"127.0.0.1", 7102};
  const auto warning = [&](const Address& address, const char* bound) {
    return loopback_warning(config, address, {ip::make_address(bound), 7101}, net::kPeerPort);
  };
  EXPECT_EQ(warning({"10.0.0.1", 7101}, "10.0.0.1"), "");
  EXPECT_EQ(warning({"127.0.0.1", 7101}, "127.0.0.1"), "");
  EXPECT_EQ(warning({"localhost", 7101}, "::1"), "");
  EXPECT_THAT(warning({"db1", 7101}, "127.0.1.1"),
              HasSubstr("listen.peer is db1, and this machine's resolver knows only 127.0.1.1"));
  config.cluster.members[1].peer = {"10.0.0.2", 7101};
  EXPECT_THAT(warning({"127.0.0.1", 7101}, "127.0.0.1"),
              HasSubstr("node 2 is on another machine (10.0.0.2:7101)"));
}

// Two processes that start at the same time and are given one port: neither listens yet.
TEST(BoundPort, OtherThatDoesNotListenYetIsNoticed) {
  const Address address{"127.0.0.1", 0};
  auto first = net::BoundPort::bind(address, {ip::address_v4::loopback(), 0}, net::kClientPort);
  ASSERT_TRUE(first) << first.error().text;
  auto second = net::BoundPort::bind(address, first->endpoint(), net::kClientPort);
  ASSERT_FALSE(second);
  EXPECT_EQ(second.error().kind, ErrorKind::kAddressInUse);
}

// What is left of the connections of a process that has ended does not hold its port.
TEST(BoundPort, IsFreeAgainAfterItsConnections) {
  boost::asio::io_context io;
  const Address address{"127.0.0.1", 0};
  tcp::endpoint endpoint(ip::address_v4::loopback(), 0);
  for (int i = 0; i < 3; ++i) {
    auto port = net::BoundPort::bind(address, endpoint, net::kClientPort);
    ASSERT_TRUE(port) << port.error().text;
    endpoint = port->endpoint();
    tcp::acceptor acceptor(io);
    ASSERT_TRUE(port->listen(acceptor));
    tcp::socket client(io);
    client.connect(endpoint);
    tcp::socket served = acceptor.accept();
    served.close();  // first, so that this side keeps TIME_WAIT
    client.close();
    acceptor.close();
  }
}

}  // namespace
}  // namespace connectd::app
