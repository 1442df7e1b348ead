// Real sockets on loopback and a fake node, which answers at once or when the test tells it to.
// Nothing sleeps: the loop runs until a condition holds, or the test fails.
#include "client/client_port.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "tests/unit/client/fake_service.h"

namespace connectd::client {
namespace {

using boost::asio::ip::tcp;
using std::chrono::milliseconds;

constexpr auto kPatience = std::chrono::seconds(20);

class ClientPortTest : public testing::Test {
 protected:
  ClientPortTest() { options_.sweep_interval = milliseconds(20); }
  ~ClientPortTest() override { port_.reset(); }

  void open() {
    port_ = std::make_unique<ClientPort>(io_, options_, service_,
                                         std::make_shared<auth::TokenChecker>());
    auto listening = port_->listen({"127.0.0.1", 0});
    ASSERT_TRUE(listening) << listening.error().text;
  }
  tcp::socket dial() {
    tcp::socket socket(client_io_);
    socket.connect({boost::asio::ip::address_v4::loopback(), port_->listen_port()});
    socket.non_blocking(true);
    return socket;
  }
  bool run_until(const std::function<bool()>& holds) {
    auto give_up = std::chrono::steady_clock::now() + kPatience;
    while (!holds()) {
      if (std::chrono::steady_clock::now() > give_up) return false;
      io_.run_one_for(milliseconds(1));
      io_.restart();
    }
    return true;
  }
  // Everything that is ready now.
  void settle() {
    auto end = std::chrono::steady_clock::now() + milliseconds(30);
    while (std::chrono::steady_clock::now() < end) {
      io_.run_one_for(milliseconds(5));
      io_.restart();
    }
  }
  void write(tcp::socket& socket, std::string_view bytes) {
    EXPECT_TRUE(run_until([&] {
      boost::system::error_code error;
      bytes.remove_prefix(
          socket.write_some(boost::asio::buffer(bytes.data(), bytes.size()), error));
      EXPECT_TRUE(!error || error == boost::asio::error::would_block) << error.message();
      return bytes.empty();
    }));
  }
  // Reads the available bytes; true when the other side has closed.
  bool read_some(tcp::socket& socket, std::string& got) {
    char part[65536];
    boost::system::error_code error;
    got.append(part, socket.read_some(boost::asio::buffer(part), error));
    if (error == boost::asio::error::connection_reset) got += "<reset>";
    return error && error != boost::asio::error::would_block;
  }
  std::string read_bytes(tcp::socket& socket, size_t bytes) {
    std::string got;
    EXPECT_TRUE(run_until([&] { return read_some(socket, got) || got.size() >= bytes; }));
    return got;
  }
  std::string read_until_closed(tcp::socket& socket) {
    std::string got;
    EXPECT_TRUE(run_until([&] { return read_some(socket, got); }));
    return got;
  }
  // One question and its answer.
  std::string ask(tcp::socket& socket, std::string_view request, std::string_view reply) {
    write(socket, request);
    return read_bytes(socket, reply.size());
  }

  boost::asio::io_context io_;
  boost::asio::io_context client_io_;  // never run: the clients do not wait
  FakeService service_;
  ClientPortOptions options_;
  std::unique_ptr<ClientPort> port_;
};

TEST_F(ClientPortTest, RequestsArePipelinedAndRepliesComeInOrder) {
  open();
  tcp::socket client = dial();
  std::string requests;
  std::string replies;
  for (int i = 0; i < 20000; i++) {
    requests += "incr " + std::to_string(i) + (i % 2 ? "\r\n" : "\n");
    replies += "incr " + std::to_string(i) + "\n";
  }
  std::string got;
  std::string_view rest = requests;
  ASSERT_TRUE(run_until([&] {
    boost::system::error_code error;
    rest.remove_prefix(client.write_some(boost::asio::buffer(rest.data(), rest.size()), error));
    read_some(client, got);
    return got.size() >= replies.size();
  }));
  EXPECT_TRUE(got == replies);
  EXPECT_EQ(port_->counters().requests, 20000u);
}

TEST_F(ClientPortTest, EchoPipedIntoNcGetsItsAnswer) {
  service_.is_immediate = false;
  open();
  tcp::socket client = dial();
  write(client, "incr\nget\n");
  client.shutdown(tcp::socket::shutdown_send);
  ASSERT_TRUE(run_until([&] { return service_.submitted == 2; }));
  settle();
  EXPECT_EQ(port_->connections(), 1u) << "closed before it had answered";
  service_.deliver_all();
  EXPECT_EQ(read_until_closed(client), "incr\nget\n");
  ASSERT_TRUE(run_until([&] { return port_->connections() == 0; }));
  EXPECT_TRUE(service_.streams.empty());
}

TEST_F(ClientPortTest, BytesThatTrickleInEveryFraming) {
  struct Case {
    node::Framing framing;
    std::string request;
    std::string reply;
  };
  const Case cases[] = {
      {node::Framing::kLine, "get\r\n", "get\n"},
      {node::Framing::kResp, "*1\r\n$4\r\nPING\r\n", "*1\r\n$4\r\nPING\r\n\n"},
      {node::Framing::kLength, std::string("\3\0\0\0get", 7), std::string("\4\0\0\0get\n", 8)},
  };
  for (const Case& c : cases) {
    service_.declared = c.framing;
    open();
    tcp::socket client = dial();
    for (int repeat = 0; repeat < 3; repeat++) {
      for (char byte : c.request) {
        write(client, std::string_view(&byte, 1));
        settle();
      }
      EXPECT_EQ(read_bytes(client, c.reply.size()), c.reply);
    }
  }
}

TEST_F(ClientPortTest, OptionOverridesTheFramingOfThePlugin) {
  service_.declared = node::Framing::kLength;
  options_.framing = node::Framing::kLine;
  open();
  tcp::socket client = dial();
  EXPECT_EQ(ask(client, "get\n", "get\n"), "get\n");
}

TEST_F(ClientPortTest, ErrorsOfTheDaemonAndRefusalsOfThePlugin) {
  service_.answer = [](const std::string& request, std::string& bytes) {
    node::Reply reply;
    bytes = "the text";
    if (request == "noleader") reply.code = node::ReplyCode::kNoLeader;
    if (request == "unknown") reply.code = node::ReplyCode::kUnknown;
    if (request == "refused") {
      reply.code = node::ReplyCode::kRejected;
      reply.plugin_refused = true;
      bytes = "-ERR wrong\n";
    }
    return reply;
  };
  open();
  tcp::socket client = dial();
  std::string expected = "ERR NOLEADER the text\n-ERR wrong\nERR UNKNOWN the text\n";
  EXPECT_EQ(ask(client, "noleader\nrefused\nunknown\n", expected), expected);
}

TEST_F(ClientPortTest, RepliesOfTheFramingKeepTheirPlace) {
  service_.is_immediate = false;
  service_.limit = 10;
  open();
  tcp::socket client = dial();
  write(client, "a\n" + std::string(11, 'x') + "\n" + std::string(5000, 'y') + "\nb\n");
  ASSERT_TRUE(run_until([&] { return service_.submitted == 2; }));
  service_.deliver_all(1);
  std::string too_large = "ERR TOOLARGE the request is larger than client.max_request (10 bytes)\n";
  std::string first = "a\n" + too_large + too_large;
  EXPECT_EQ(read_bytes(client, first.size()), first);
  service_.deliver_all(1);
  EXPECT_EQ(read_bytes(client, 2), "b\n");
  EXPECT_EQ(port_->counters().too_large, 2u);
}

TEST_F(ClientPortTest, QuitRepliesInOrderThenCloses) {
  service_.declared = node::Framing::kResp;
  service_.is_immediate = false;
  open();
  tcp::socket client = dial();
  write(client, "PING\r\nRESET\r\nQUIT\r\nPING\r\n");
  ASSERT_TRUE(run_until([&] { return service_.submitted == 1; }));
  service_.deliver_all();
  EXPECT_EQ(read_until_closed(client), "*1\r\n$4\r\nPING\r\n\n+RESET\r\n+OK\r\n");
  EXPECT_EQ(service_.submitted, 1u);
}

TEST_F(ClientPortTest, BrokenFrameGetsReplyInOrderThenCloses) {
  service_.declared = node::Framing::kResp;
  service_.is_immediate = false;
  open();
  tcp::socket client = dial();
  write(client, "PING\r\n*1\r\n:1\r\n");
  ASSERT_TRUE(run_until([&] { return service_.submitted == 1; }));
  // What comes behind the broken frame must not make the kernel reset the connection and with it
  // the answer.
  write(client, std::string(300000, 'x'));
  service_.deliver_all();
  settle();
  EXPECT_EQ(read_until_closed(client),
            "*1\r\n$4\r\nPING\r\n\n-ERR Protocol error: expected '$', got ':'\r\n");
  client.close();
  ASSERT_TRUE(run_until([&] { return port_->connections() == 0; }));
  EXPECT_EQ(port_->counters().bad_frames, 1u);
}

TEST_F(ClientPortTest, ClientThatIgnoresTheEndIsClosedAfterATime) {
  options_.linger_time = milliseconds(50);
  service_.declared = node::Framing::kResp;
  open();
  tcp::socket client = dial();
  write(client, "QUIT\r\n");
  EXPECT_EQ(read_until_closed(client), "+OK\r\n");
  ASSERT_TRUE(run_until([&] { return port_->connections() == 0; }));
}

TEST_F(ClientPortTest, NativeProtocolsMagicIsReserved) {
  for (auto framing : {node::Framing::kLine, node::Framing::kResp, node::Framing::kLength}) {
    service_.declared = framing;
    open();
    tcp::socket client = dial();
    write(client, "CNT");
    settle();
    write(client, "D\x01hello");
    EXPECT_NE(read_until_closed(client).find(
                  "BADFRAME this version of connectd does not support the native protocol"),
              std::string::npos);
    EXPECT_EQ(service_.submitted, 0u);
  }
  service_.declared = node::Framing::kLine;
  open();
  tcp::socket client = dial();
  EXPECT_EQ(ask(client, "CNTD\n", "CNTD\n"), "CNTD\n") << "only the whole magic is";
}

TEST_F(ClientPortTest, ReadingStopsAtTheLimitOfPipelinedRequests) {
  service_.is_immediate = false;
  options_.pipelined_max = 10;
  open();
  tcp::socket client = dial();
  std::string requests;
  std::string replies;
  for (int i = 0; i < 1000; i++) requests += std::to_string(i) + "\n";
  write(client, requests);
  std::string got;
  ASSERT_TRUE(run_until([&] {
    service_.deliver_all(3);
    read_some(client, got);
    return got.size() >= requests.size();
  }));
  EXPECT_EQ(got, requests);
  EXPECT_EQ(service_.pending_max, 10u);
}

TEST_F(ClientPortTest, ReadingStopsAtTheLimitOfPendingBytes) {
  service_.is_immediate = false;
  options_.pending_bytes_max = 1000;
  open();
  tcp::socket client = dial();
  std::string requests;
  for (int i = 0; i < 100; i++) requests += std::string(400, 'x') + "\n";
  write(client, requests);
  std::string got;
  ASSERT_TRUE(run_until([&] {
    service_.deliver_all(1);
    read_some(client, got);
    return got.size() >= requests.size();
  }));
  EXPECT_LE(service_.pending_bytes_max, 1400u);
}

TEST_F(ClientPortTest, SlowReaderPausesAndResumes) {
  options_.output_pause_bytes = 100000;
  service_.answer = [](const std::string&, std::string& bytes) {
    bytes = std::string(size_t{1} << 20, 'r');
    return node::Reply{};
  };
  open();
  tcp::socket client = dial();
  std::string requests;
  for (int i = 0; i < 50; i++) requests += "get\n";
  write(client, requests);
  settle();
  size_t before = service_.submitted;
  EXPECT_LT(before, 30u) << "the replies pile up";
  settle();
  EXPECT_EQ(service_.submitted, before);
  size_t got = 0;
  std::string part;
  ASSERT_TRUE(run_until([&] {
    part.clear();
    read_some(client, part);
    got += part.size();
    return got == size_t{50} << 20;
  }));
  EXPECT_EQ(service_.submitted, 50u);
}

TEST_F(ClientPortTest, ClientThatNeverReadsIsClosedAfterATime) {
  options_.stall_timeout = milliseconds(100);
  service_.answer = [](const std::string&, std::string& bytes) {
    bytes = std::string(size_t{1} << 20, 'r');
    return node::Reply{};
  };
  open();
  tcp::socket client = dial();
  for (int i = 0; i < 30; i++) write(client, "get\n");
  ASSERT_TRUE(run_until([&] { return service_.submitted > 0; }));
  ASSERT_TRUE(run_until([&] { return port_->connections() == 0; }));
  EXPECT_EQ(port_->counters().stalled, 1u);
  EXPECT_TRUE(service_.streams.empty());
}

TEST_F(ClientPortTest, RepliesOverHardLimitCloseConnection) {
  options_.output_bytes_max = size_t{8} << 20;
  service_.is_immediate = false;
  service_.answer = [](const std::string&, std::string& bytes) {
    bytes = std::string(size_t{1} << 20, 'r');
    return node::Reply{};
  };
  open();
  tcp::socket client = dial();
  for (int i = 0; i < 100; i++) write(client, "get\n");
  ASSERT_TRUE(run_until([&] { return service_.submitted == 100; }));
  service_.deliver_all();
  EXPECT_EQ(port_->connections(), 0u);
  EXPECT_EQ(port_->counters().stalled, 1u);
}

TEST_F(ClientPortTest, LargeRequestAmongSmallOnes) {
  service_.limit = size_t{4} << 20;
  open();
  tcp::socket client = dial();
  for (size_t size : {size_t{10}, size_t{70000}, size_t{4} << 20, size_t{5}, size_t{3} << 20}) {
    std::string request = std::string(size, 'q') + "\n";
    std::string got;
    std::string_view rest = request;
    ASSERT_TRUE(run_until([&] {
      boost::system::error_code error;
      rest.remove_prefix(client.write_some(boost::asio::buffer(rest.data(), rest.size()), error));
      read_some(client, got);
      return got.size() >= request.size();
    }));
    EXPECT_TRUE(got == request) << size;
  }
}

// Clients that stand still in the middle of large requests; others get room when these are closed.
TEST_F(ClientPortTest, HalfSentRequestsEndAndOthersGetTheirRoom) {
  options_.input_bytes_max = size_t{1} << 20;
  options_.short_stall_timeout = milliseconds(100);
  options_.half_sent_timeout = milliseconds(5000);
  open();
  std::vector<tcp::socket> clients;
  std::string part(600000, 'x');
  for (int i = 0; i < 4; i++) {
    clients.push_back(dial());
    write(clients.back(), part);
    settle();
  }
  tcp::socket client = dial();
  std::string got;
  std::string request = part + "\n";
  std::string_view rest = request;
  ASSERT_TRUE(run_until([&] {
    boost::system::error_code error;
    rest.remove_prefix(client.write_some(boost::asio::buffer(rest.data(), rest.size()), error));
    read_some(client, got);
    return got.size() >= request.size();
  }));
  EXPECT_TRUE(got == request);
  EXPECT_GT(port_->counters().half_sent, 0u);
  for (tcp::socket& one : clients) one.close();
}

TEST_F(ClientPortTest, IdleConnectionGivesItsBufferBackAndWorksOn) {
  options_.idle_time = milliseconds(50);
  open();
  tcp::socket client = dial();
  std::string request = std::string(200000, 'x') + "\n";
  for (int i = 0; i < 3; i++) {
    write(client, request);
    EXPECT_TRUE(read_bytes(client, request.size()) == request);
    auto end = std::chrono::steady_clock::now() + milliseconds(120);
    run_until([&] { return std::chrono::steady_clock::now() > end; });
  }
}

TEST_F(ClientPortTest, OverTheLimitOfConnectionsIsTurnedAwayWithAWord) {
  options_.max_connections = 2;
  open();
  tcp::socket first = dial();
  tcp::socket second = dial();
  ASSERT_TRUE(run_until([&] { return port_->connections() == 2; }));
  tcp::socket third = dial();
  EXPECT_EQ(read_until_closed(third), "ERR OVERLOADED this node has too many connections\n");
  first.close();
  ASSERT_TRUE(run_until([&] { return port_->connections() == 1; }));
  tcp::socket fourth = dial();
  EXPECT_EQ(ask(fourth, "get\n", "get\n"), "get\n");
}

// Half of the places: whoever has been silent for longest makes room.
TEST_F(ClientPortTest, UnknownClientsMakeRoomForEachOther) {
  options_.max_connections = 4;
  open();
  auth::Policy policy;
  policy.anonymous = auth::Roles();
  port_->set_access(std::make_shared<const auth::Policy>(policy), "c");
  tcp::socket first = dial();
  tcp::socket second = dial();
  ASSERT_TRUE(run_until([&] { return port_->connections() == 2; }));
  tcp::socket third = dial();
  EXPECT_EQ(read_until_closed(first), "");
  EXPECT_EQ(port_->connections(), 2u);
  EXPECT_EQ(port_->counters().unknown, 1u);
  // A full port has room for one more as long as somebody is silent.
  auto known = std::make_shared<auth::Policy>(policy);
  known->anonymous = {auth::Role::kRead};
  port_->set_access(known, "c");
  tcp::socket sixth = dial();
  tcp::socket seventh = dial();
  ASSERT_TRUE(run_until([&] { return port_->connections() == 4; }));
  port_->set_access(std::make_shared<const auth::Policy>(policy), "c");
  tcp::socket eighth = dial();
  EXPECT_EQ(read_until_closed(second), "");
  EXPECT_TRUE(run_until([&] { return port_->counters().rejected == 0; }));
  sixth.close();
  seventh.close();
  eighth.close();
  third.close();
  ASSERT_TRUE(run_until([&] { return port_->connections() == 0; }));
  // Known from now on: there is room for all of them.
  port_->set_access(std::make_shared<const auth::Policy>(), "c");
  tcp::socket fourth = dial();
  tcp::socket fifth = dial();
  EXPECT_TRUE(run_until([&] { return port_->connections() == 2; }));
  EXPECT_EQ(ask(fourth, "x\n", "x\n"), "x\n");
}

TEST_F(ClientPortTest, NoDescriptorsRejectsClientsWithoutSpin) {
  open();
  tcp::socket before = dial();
  EXPECT_EQ(ask(before, "get\n", "get\n"), "get\n");
  std::vector<tcp::socket> waiting;
  for (int i = 0; i < 5; i++) waiting.push_back(tcp::socket(client_io_, tcp::v4()));
  tcp::endpoint endpoint(boost::asio::ip::address_v4::loopback(), port_->listen_port());
  int lowest_free = ::open("/dev/null", O_RDONLY | O_CLOEXEC);
  ::close(lowest_free);
  rlimit old{};
  ASSERT_EQ(getrlimit(RLIMIT_NOFILE, &old), 0);
  rlimit none = old;
  none.rlim_cur = static_cast<rlim_t>(lowest_free);
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &none), 0);
  for (tcp::socket& socket : waiting) {
    socket.connect(endpoint);
    socket.non_blocking(true);
  }
  size_t handlers = 0;
  auto end = std::chrono::steady_clock::now() + milliseconds(500);
  while (std::chrono::steady_clock::now() < end) {
    handlers += io_.run_one_for(milliseconds(5));
    io_.restart();
  }
  EXPECT_LT(handlers, 200u) << "the loop spins";
  EXPECT_GE(port_->counters().rejected, 1u);
  EXPECT_EQ(ask(before, "get\n", "get\n"), "get\n") << "those who are here are served";
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &old), 0);
  tcp::socket after = dial();
  EXPECT_EQ(ask(after, "get\n", "get\n"), "get\n");
}

TEST_F(ClientPortTest, ClientThatVanishesGivesItsStreamBack) {
  service_.is_immediate = false;
  open();
  {
    tcp::socket client = dial();
    write(client, "incr\nget");
    ASSERT_TRUE(run_until([&] { return service_.submitted == 1; }));
    client.set_option(boost::asio::socket_base::linger(true, 0));
    client.close();  // a reset, not an end
  }
  ASSERT_TRUE(run_until([&] { return port_->connections() == 0; }));
  EXPECT_TRUE(service_.streams.empty());
}

TEST_F(ClientPortTest, DrainingAnswersWhatIsOwedAndThenCloses) {
  service_.is_immediate = false;
  open();
  tcp::socket idle = dial();
  tcp::socket busy = dial();
  write(busy, "incr\n");
  ASSERT_TRUE(run_until([&] { return service_.submitted == 1; }));
  uint16_t port = port_->listen_port();
  int done = 0;
  port_->drain(std::chrono::hours(1), [&] { done++; });
  EXPECT_EQ(read_until_closed(idle), "");
  idle.close();
  settle();
  EXPECT_EQ(done, 0);
  write(busy, "get\n");
  ASSERT_TRUE(run_until([&] { return service_.submitted == 2; }));
  service_.deliver_all();
  EXPECT_EQ(read_until_closed(busy), "incr\nget\n");
  busy.close();
  ASSERT_TRUE(run_until([&] { return done == 1; }));
  tcp::socket late(client_io_);
  boost::system::error_code error;
  late.connect({boost::asio::ip::address_v4::loopback(), port}, error);
  EXPECT_EQ(error, boost::asio::error::connection_refused);
}

TEST_F(ClientPortTest, DrainingHasADeadline) {
  service_.is_immediate = false;
  open();
  tcp::socket busy = dial();
  write(busy, "incr\n");
  ASSERT_TRUE(run_until([&] { return service_.submitted == 1; }));
  int done = 0;
  port_->drain(milliseconds(50), [&] { done++; });
  ASSERT_TRUE(run_until([&] { return done == 1; }));
  EXPECT_EQ(port_->connections(), 0u);
}

TEST_F(ClientPortTest, StoppingInTheMiddleOfEverything) {
  service_.is_immediate = false;
  open();
  std::vector<tcp::socket> clients;
  for (int i = 0; i < 20; i++) {
    clients.push_back(dial());
    write(clients.back(), "incr\nhalf a requ");
  }
  ASSERT_TRUE(run_until([&] { return service_.submitted == 20; }));
  port_.reset();
  EXPECT_TRUE(service_.streams.empty());
  settle();
}

TEST_F(ClientPortTest, PortInUseIsAnErrorThatSaysSo) {
  open();
  ClientPort second(io_, options_, service_, std::make_shared<auth::TokenChecker>());
  auto listening = second.listen({"127.0.0.1", port_->listen_port()});
  ASSERT_FALSE(listening);
  EXPECT_EQ(listening.error().kind, ErrorKind::kAddressInUse);
  EXPECT_NE(listening.error().text.find("Address already in use"), std::string::npos);
}

}  // namespace
}  // namespace connectd::client
