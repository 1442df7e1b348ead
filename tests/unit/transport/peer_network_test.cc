// Several networks in one io_context, over loopback. Nothing sleeps: the loop runs until a
// condition holds, or the test fails.
#include "transport/peer_network.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include <boost/asio/connect.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/read.hpp>
#include <boost/asio/write.hpp>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "base/address.h"
#include "net/tcp.h"
#include "tests/unit/transport/messages.h"
#include "transport/link.h"
#include "wire/peer_codec.h"

namespace connectd::transport {
namespace {

using boost::asio::ip::tcp;
using std::chrono::milliseconds;
using ::testing::HasSubstr;

constexpr auto kPatience = std::chrono::seconds(20);

// The part of a node that the network uses: records the calls.
struct TestNode final : wire::TransportHandler {
  TestNode(boost::asio::io_context& context, NodeId node_id, PeersOptions network_options = {})
      : io(context), id(node_id), options(network_options) {
    options.self = id;
    hello.cluster_name = "test";
    hello.plugin_name = "counter";
    hello.node_id = id;
    open();
  }

  void open(uint16_t at_port = 0) {
    PeersHooks hooks;
    hooks.hello = [this] { return hello; };
    hooks.check = [this](const wire::Hello& theirs) { return check(theirs); };
    hooks.on_refused = [this](NodeId peer, const wire::Refusal& refusal, Time) {
      refusals.emplace_back(peer, refusal);
    };
    network = std::make_unique<PeerNetwork>(io, options, *this, std::move(hooks));
    auto listening = network->listen({"127.0.0.1", at_port});
    EXPECT_TRUE(listening) << listening.error().text;
    port = network->listen_port();
  }

  std::string on_message(const wire::Hello& sender, wire::PeerMessage message) override {
    messages.emplace_back(sender.node_id, std::move(message));
    if (on_message_hook) on_message_hook();
    return {};
  }
  void on_peer_reached(NodeId peer, const wire::Hello&) override {
    EXPECT_FALSE(is_calling) << "called from inside send() or flush()";
    reached[peer]++;
  }
  void on_peer_lost(NodeId peer) override {
    EXPECT_FALSE(is_calling) << "called from inside send() or flush()";
    lost[peer]++;
  }

  void send(NodeId to, wire::PeerMessage message) {
    is_calling = true;
    network->send(to, std::move(message));
    network->flush();
    is_calling = false;
  }

  boost::asio::io_context& io;
  NodeId id;
  PeersOptions options;
  wire::Hello hello;
  std::function<std::optional<wire::Refusal>(const wire::Hello&)> check = [](const wire::Hello&) {
    return std::nullopt;
  };
  std::unique_ptr<PeerNetwork> network;
  uint16_t port = 0;
  bool is_calling = false;
  std::vector<std::pair<NodeId, wire::PeerMessage>> messages;
  std::function<void()> on_message_hook;
  std::vector<std::pair<NodeId, wire::Refusal>> refusals;
  std::map<NodeId, int> reached;
  std::map<NodeId, int> lost;
};

class PeerNetworkTest : public testing::Test {
 protected:
  bool run_until(const std::function<bool()>& holds) {
    auto give_up = std::chrono::steady_clock::now() + kPatience;
    while (!holds()) {
      if (std::chrono::steady_clock::now() > give_up) return false;
      io_.run_one_for(milliseconds(20));
      io_.restart();
    }
    return true;
  }

  TestNode& add_node(uint64_t id, PeersOptions options = {}) {
    nodes_.push_back(std::make_unique<TestNode>(io_, NodeId(id), options));
    return *nodes_.back();
  }

  // Everybody knows everybody.
  void introduce() {
    for (auto& node : nodes_) {
      std::map<NodeId, std::vector<Address>> peers;
      for (auto& other : nodes_) {
        if (other != node) peers[other->id] = {{"127.0.0.1", other->port}};
      }
      node->network->set_peers(peers);
    }
  }

  bool all_reached() {
    return run_until([&] {
      for (auto& node : nodes_) {
        for (auto& other : nodes_) {
          if (other != node && node->reached[other->id] <= node->lost[other->id]) return false;
        }
      }
      return true;
    });
  }

  // A client that speaks bytes.
  tcp::socket dial(uint16_t port) {
    tcp::socket socket(io_);
    socket.connect({boost::asio::ip::address_v4::loopback(), port});
    return socket;
  }
  // Everything that the other side sends until it closes.
  std::string read_all(tcp::socket& socket) {
    std::string got;
    char part[4096];
    socket.non_blocking(true);
    bool is_closed = false;
    EXPECT_TRUE(run_until([&] {
      boost::system::error_code error;
      size_t bytes = socket.read_some(boost::asio::buffer(part), error);
      got.append(part, bytes);
      is_closed = error && error != boost::asio::error::would_block;
      return is_closed;
    }));
    return got;
  }

  boost::asio::io_context io_;
  std::vector<std::unique_ptr<TestNode>> nodes_;
};

std::string greeting(const wire::Hello& hello) {
  std::string out(wire::kPeerMagic);
  wire::append_hello(out, hello);
  return out;
}

wire::Refusal refusal_in(std::string_view bytes) {
  wire::Refusal none{wire::RefusalCode::kOther, "not a refusal"};
  if (!bytes.starts_with(wire::kPeerMagic)) return none;
  ByteView frame = as_bytes(bytes).subspan(wire::kPeerMagic.size());
  if (frame.size() < wire::kFrameHeaderBytes) return none;
  auto header = wire::decode_frame_header(frame);
  if (!header || frame.size() != wire::kFrameHeaderBytes + header->length) return none;
  auto handshake = wire::decode_handshake(*header, frame.subspan(wire::kFrameHeaderBytes));
  if (!handshake || !std::holds_alternative<wire::Refusal>(*handshake)) return none;
  return std::get<wire::Refusal>(*handshake);
}

TEST_F(PeerNetworkTest, ThreeNodesReachEachOtherAndMessagesArriveInOrder) {
  for (uint64_t id : {1, 2, 3}) add_node(id);
  introduce();
  ASSERT_TRUE(all_reached());
  constexpr uint64_t kCount = 2000;
  for (uint64_t round = 1; round <= kCount; round++) {
    for (auto& node : nodes_) {
      for (auto& other : nodes_) {
        if (other != node) node->send(other->id, heartbeat(node->id, other->id, round));
      }
    }
  }
  ASSERT_TRUE(run_until([&] {
    for (auto& node : nodes_) {
      if (node->messages.size() < 2 * kCount) return false;
    }
    return true;
  }));
  for (auto& node : nodes_) {
    std::map<NodeId, uint64_t> last;
    for (auto& [from, message] : node->messages) {
      EXPECT_EQ(std::get<raft::Envelope>(message).from, from);
      EXPECT_EQ(round_of(message), ++last[from]);
    }
    for (auto& [peer, counters] : node->network->counters()) {
      EXPECT_EQ(counters.messages_sent, kCount);
      EXPECT_EQ(counters.messages_received, kCount);
      EXPECT_EQ(counters.bytes_sent, counters.bytes_received);
      EXPECT_EQ(counters.times_reached, 1u);
      EXPECT_EQ(counters.messages_dropped, 0u);
    }
  }
}

TEST_F(PeerNetworkTest, LargeAndSmallFramesMixed) {
  TestNode& a = add_node(1);
  TestNode& b = add_node(2);
  introduce();
  ASSERT_TRUE(all_reached());
  const size_t sizes[] = {1,      100,    8000,    65536,   140000, 200000, 262144,
                          262143, 300000, 1 << 20, 5 << 20, 17,     0};
  uint64_t sent = 0;
  for (int repeat = 0; repeat < 3; repeat++) {
    for (size_t size : sizes) {
      wire::SnapshotChunk chunk;
      chunk.file.mark = {Index(++sent), Term(1)};
      chunk.file.bytes = size;
      chunk.bytes = Slice::copy_of(std::string(size, static_cast<char>('a' + sent)));
      a.send(NodeId(2), chunk);
      a.send(NodeId(2), heartbeat(NodeId(1), NodeId(2), sent));
    }
  }
  ASSERT_TRUE(run_until([&] { return b.messages.size() == 2 * sent; }));
  for (uint64_t i = 1; i <= sent; i++) {
    const auto& chunk = std::get<wire::SnapshotChunk>(b.messages[2 * i - 2].second);
    EXPECT_EQ(chunk.file.mark.index, Index(i));
    EXPECT_TRUE(chunk.bytes.text() ==
                std::string(sizes[(i - 1) % std::size(sizes)], static_cast<char>('a' + i)))
        << i;
    EXPECT_EQ(round_of(b.messages[2 * i - 1].second), i);
  }
}

TEST_F(PeerNetworkTest, PeerThatStartsLaterIsReached) {
  PeersOptions options;
  options.reconnect_max = milliseconds(50);
  TestNode& a = add_node(1, options);
  TestNode& b = add_node(2, options);
  b.network->stop();
  introduce();
  run_until([&, turns = 0]() mutable { return ++turns > 10; });
  EXPECT_EQ(a.reached[b.id], 0);
  a.send(b.id, heartbeat(a.id, b.id, 1));
  EXPECT_EQ(a.network->counters()[b.id].messages_dropped, 1u);
  b.open(b.port);
  introduce();
  ASSERT_TRUE(all_reached());
}

TEST_F(PeerNetworkTest, KilledPeerIsLostAtOnceAndReachedAgain) {
  TestNode& a = add_node(1);
  TestNode& b = add_node(2);
  introduce();
  ASSERT_TRUE(all_reached());
  for (int round = 1; round <= 3; round++) {
    auto before = std::chrono::steady_clock::now();
    b.network.reset();
    ASSERT_TRUE(run_until([&] { return a.lost[b.id] == round; }));
    EXPECT_LT(std::chrono::steady_clock::now() - before, std::chrono::seconds(20));
    b.open(b.port);
    introduce();
    ASSERT_TRUE(run_until([&] { return a.reached[b.id] == round + 1; }));
    EXPECT_EQ(a.lost[b.id], round) << "one loss, however many connections broke";
  }
}

// The connection dialled to a peer stands, the one that the peer dialled breaks and comes back.
TEST_F(PeerNetworkTest, OneBrokenDirectionIsALossAndItsReturnIsAReach) {
  TestNode& a = add_node(1);
  tcp::acceptor acceptor(io_, {boost::asio::ip::address_v4::loopback(), 0});
  a.network->set_peers({{NodeId(2), {{"127.0.0.1", acceptor.local_endpoint().port()}}}});
  wire::Hello hello = a.hello;
  hello.node_id = NodeId(2);
  hello.to = NodeId(1);
  tcp::socket dialled = acceptor.accept();
  boost::asio::write(dialled, boost::asio::buffer(greeting(hello)));
  ASSERT_TRUE(run_until([&] { return a.reached[NodeId(2)] == 1; }));
  for (int round = 1; round <= 3; round++) {
    tcp::socket inbound = dial(a.port);
    boost::asio::write(inbound, boost::asio::buffer(greeting(hello)));
    std::string message;
    ASSERT_TRUE(wire::append_frame(message, heartbeat(NodeId(2), NodeId(1), 1),
                                   wire::FrameVersion::kCheckedHeader));
    boost::asio::write(inbound, boost::asio::buffer(message));
    ASSERT_TRUE(run_until([&] { return a.messages.size() == static_cast<size_t>(round); }));
    EXPECT_EQ(a.reached[NodeId(2)], round);
    inbound.close();
    ASSERT_TRUE(run_until([&] { return a.lost[NodeId(2)] == round; }));
  }
}

TEST_F(PeerNetworkTest, SecondConnectionOfAPeerReplacesTheFirst) {
  TestNode& a = add_node(1);
  wire::Hello hello = a.hello;
  hello.node_id = NodeId(2);
  hello.to = NodeId(1);
  tcp::socket first = dial(a.port);
  boost::asio::write(first, boost::asio::buffer(greeting(hello)));
  std::string message;
  ASSERT_TRUE(wire::append_frame(message, heartbeat(NodeId(2), NodeId(1), 1),
                                 wire::FrameVersion::kCheckedHeader));
  boost::asio::write(first, boost::asio::buffer(message));
  ASSERT_TRUE(run_until([&] { return a.messages.size() == 1; }));
  tcp::socket second = dial(a.port);
  boost::asio::write(second, boost::asio::buffer(greeting(hello) + message));
  ASSERT_TRUE(run_until([&] { return a.messages.size() == 2; }));
  read_all(first);
}

TEST_F(PeerNetworkTest, AddressesOfAPeerAreTriedInTurn) {
  TestNode& a = add_node(1);
  TestNode& b = add_node(2);
  tcp::acceptor unused(io_, {boost::asio::ip::address_v4::loopback(), 0});
  uint16_t nobody = unused.local_endpoint().port();
  unused.close();
  a.network->set_peers({{b.id, {{"127.0.0.1", nobody}, {"localhost", b.port}}}});
  ASSERT_TRUE(run_until([&] { return a.reached[b.id] == 1; }));
}

TEST_F(PeerNetworkTest, UsesLateAddressDisconnectsRemovedPeer) {
  TestNode& a = add_node(1);
  TestNode& b = add_node(2);
  a.network->set_peers({{b.id, {{"no-such-host.invalid", 1}}}});
  run_until([&, turns = 0]() mutable { return ++turns > 3; });
  a.network->set_peers({{b.id, {{"no-such-host.invalid", 1}, {"127.0.0.1", b.port}}}});
  ASSERT_TRUE(run_until([&] { return a.reached[b.id] == 1; }));
  a.network->set_peers({});
  EXPECT_EQ(a.lost[b.id], 1);
  a.send(b.id, heartbeat(a.id, b.id, 1));
  EXPECT_FALSE(a.network->counters().contains(b.id));
}

TEST_F(PeerNetworkTest, MismatchIsRefusedAndBothSidesLearnWhy) {
  TestNode& a = add_node(1);
  TestNode& b = add_node(2);
  b.hello.cluster_name = "another";
  introduce();
  ASSERT_TRUE(run_until([&] { return !a.refusals.empty() && !b.refusals.empty(); }));
  EXPECT_EQ(a.refusals[0].first, b.id);
  EXPECT_EQ(a.refusals[0].second.code, wire::RefusalCode::kClusterName);
  EXPECT_EQ(
      a.refusals[0].second.text,
      "node 1 is of cluster \"test\", node 2 of cluster \"another\": check cluster.name and the "
      "addresses in both configurations");
  EXPECT_EQ(a.reached[b.id] + b.reached[a.id], 0);
  b.hello.cluster_name = "test";  // corrected: no restart of `a` is needed
  ASSERT_TRUE(all_reached());
}

TEST_F(PeerNetworkTest, NodeItselfMayRefuseAsAWipedDiskIsRefused) {
  TestNode& a = add_node(1);
  TestNode& b = add_node(2);
  b.hello.disk_id.bytes[0] = 9;
  a.check = [](const wire::Hello& theirs) -> std::optional<wire::Refusal> {
    if (theirs.disk_id.bytes[0] != 9) return std::nullopt;
    return wire::Refusal{wire::RefusalCode::kDiskId, "node 2 had another disk"};
  };
  introduce();
  // `a` refuses what `b` dials, and the answer to what it dials itself.
  ASSERT_TRUE(run_until([&] { return b.refusals.size() >= 2; }));
  for (auto& [peer, refusal] : b.refusals) {
    EXPECT_EQ(refusal.code, wire::RefusalCode::kDiskId);
    EXPECT_EQ(refusal.text, "node 2 had another disk");
  }
  EXPECT_EQ(a.reached[b.id], 0);
  EXPECT_TRUE(a.refusals.empty());
}

TEST_F(PeerNetworkTest, AddressThatLeadsToAnotherNodeIsRefused) {
  TestNode& a = add_node(1);
  TestNode& b = add_node(2);
  a.network->set_peers({{NodeId(3), {{"127.0.0.1", b.port}}}});
  ASSERT_TRUE(run_until([&] { return !a.refusals.empty(); }));
  EXPECT_EQ(a.refusals[0].second.code, wire::RefusalCode::kWrongNode);
  EXPECT_EQ(a.reached[NodeId(3)], 0);
}

TEST_F(PeerNetworkTest, BytesThatAreNotTheProtocolEndTheConnection) {
  TestNode& a = add_node(1);
  wire::Hello hello = a.hello;
  hello.node_id = NodeId(2);
  hello.to = NodeId(1);
  std::string oversize = greeting(hello);
  {
    std::string frame;
    ASSERT_TRUE(wire::append_frame(frame, heartbeat(NodeId(2), NodeId(1), 1),
                                   wire::FrameVersion::kCheckedHeader));
    store_le<uint32_t>(reinterpret_cast<uint8_t*>(frame.data()), 0x7fffffff);
    oversize += frame;
  }
  std::string damaged = greeting(hello);
  {
    std::string frame;
    ASSERT_TRUE(wire::append_frame(frame, heartbeat(NodeId(2), NodeId(1), 1),
                                   wire::FrameVersion::kCheckedHeader));
    frame.back() ^= 1;
    damaged += frame;
  }
  std::string early(wire::kPeerMagic);
  ASSERT_TRUE(wire::append_frame(early, heartbeat(NodeId(2), NodeId(1), 1),
                                 wire::FrameVersion::kCheckedHeader));
  std::string forged = greeting(hello);
  ASSERT_TRUE(wire::append_frame(forged, heartbeat(NodeId(3), NodeId(1), 1),
                                 wire::FrameVersion::kCheckedHeader));
  std::string twice = greeting(hello);
  wire::append_hello(twice, hello);
  const std::string streams[] = {"GET / HTTP/1.1\r\n\r\n",
                                 "incr\n",
                                 std::string(100, '\0'),
                                 oversize,
                                 damaged,
                                 early,
                                 forged,
                                 twice};
  for (const std::string& stream : streams) {
    tcp::socket socket = dial(a.port);
    boost::asio::write(socket, boost::asio::buffer(stream));
    read_all(socket);
  }
  EXPECT_TRUE(a.messages.empty());
  tcp::socket socket = dial(a.port);  // and it still works
  std::string good = greeting(hello);
  ASSERT_TRUE(wire::append_frame(good, heartbeat(NodeId(2), NodeId(1), 1),
                                 wire::FrameVersion::kCheckedHeader));
  boost::asio::write(socket, boost::asio::buffer(good));
  ASSERT_TRUE(run_until([&] { return a.messages.size() == 1; }));
}

TEST_F(PeerNetworkTest, OtherProtocolVersionErrorNamesBoth) {
  TestNode& a = add_node(1);
  wire::Hello hello = a.hello;
  hello.node_id = NodeId(2);
  hello.to = NodeId(1);
  hello.protocol_min = 7;
  hello.protocol_max = 9;
  tcp::socket socket = dial(a.port);
  boost::asio::write(socket, boost::asio::buffer(greeting(hello)));
  wire::Refusal refusal = refusal_in(read_all(socket));
  EXPECT_EQ(refusal.code, wire::RefusalCode::kProtocol);
  EXPECT_EQ(refusal.text,
            "node 2 supports versions 7 to 9 of the peer protocol, node 1 supports 1 to 2: upgrade "
            "the older one");
}

// A reset before the accept leaves a socket that does not know its remote address any more.
TEST_F(PeerNetworkTest, LogNamesAddressOfResetConnection) {
  TestNode& node = add_node(1);
  tcp::socket client(io_);
  client.connect({boost::asio::ip::address_v4::loopback(), node.port});
  const uint16_t port = client.local_endpoint().port();
  client.set_option(boost::asio::socket_base::linger(true, 0));
  client.close();
  std::string log;
  testing::internal::CaptureStderr();
  run_until([&] {
    log += testing::internal::GetCapturedStderr();
    testing::internal::CaptureStderr();
    return log.find("before the handshake") != std::string::npos;
  });
  testing::internal::GetCapturedStderr();
  EXPECT_THAT(log, HasSubstr(fmt::format("address=127.0.0.1:{}: ", port)));
}

TEST_F(PeerNetworkTest, SilentConnectionIsClosedAfterATime) {
  PeersOptions options;
  options.handshake_timeout = milliseconds(100);
  TestNode& a = add_node(1, options);
  tcp::socket silent = dial(a.port);
  EXPECT_EQ(read_all(silent), "");
}

TEST_F(PeerNetworkTest, SilentConnectionsAreBoundedInNumber) {
  PeersOptions options;
  options.handshake_timeout = std::chrono::hours(1);
  TestNode& a = add_node(1, options);
  std::vector<tcp::socket> silent;
  for (size_t i = 0; i <= kMaxPendingHandshakes; i++) silent.push_back(dial(a.port));
  EXPECT_EQ(read_all(silent.front()), "") << "the oldest makes room";
}

// The peer accepts and says hello, and then reads nothing: the loop goes on, the memory is bounded,
// and the overflow is a loss.
TEST_F(PeerNetworkTest, SlowPeerCostsBoundedMemoryAndIsLost) {
  PeersOptions options;
  options.output_bytes_max = size_t{4} << 20;
  TestNode& a = add_node(1, options);
  tcp::acceptor acceptor(io_, {boost::asio::ip::address_v4::loopback(), 0});
  a.network->set_peers({{NodeId(2), {{"127.0.0.1", acceptor.local_endpoint().port()}}}});
  tcp::socket slow = acceptor.accept();
  wire::Hello hello = a.hello;
  hello.node_id = NodeId(2);
  hello.to = NodeId(1);
  boost::asio::write(slow, boost::asio::buffer(greeting(hello)));
  ASSERT_TRUE(run_until([&] { return a.reached[NodeId(2)] == 1; }));
  wire::SnapshotChunk chunk;
  chunk.file.bytes = size_t{1} << 20;
  chunk.bytes = Slice::copy_of(std::string(size_t{1} << 20, 'x'));
  int sent = 0;
  while (a.network->counters()[NodeId(2)].messages_dropped == 0) {
    ASSERT_LT(sent++, 100) << "the buffer has no bound";
    a.send(NodeId(2), chunk);
  }
  ASSERT_TRUE(run_until([&] { return a.lost[NodeId(2)] == 1; }));
  EXPECT_EQ(a.reached[NodeId(2)], 1);
}

// A peer that reads slowly, but reads, gets everything.
TEST_F(PeerNetworkTest, BytesTheSocketRefusesFollowLater) {
  TestNode& a = add_node(1);
  TestNode& b = add_node(2);
  introduce();
  ASSERT_TRUE(all_reached());
  wire::SnapshotChunk chunk;
  chunk.file.bytes = size_t{1} << 20;
  chunk.bytes = Slice::copy_of(std::string(size_t{1} << 20, 'x'));
  for (int i = 0; i < 40; i++) a.send(b.id, chunk);  // not read meanwhile
  a.send(b.id, heartbeat(a.id, b.id, 5));
  ASSERT_TRUE(run_until([&] { return b.messages.size() == 41; }));
  EXPECT_EQ(round_of(b.messages[40].second), 5u);
}

TEST_F(PeerNetworkTest, StoppingInsideACallbackIsFine) {
  TestNode& a = add_node(1);
  TestNode& b = add_node(2);
  introduce();
  ASSERT_TRUE(all_reached());
  b.on_message_hook = [&] { b.network->stop(); };
  for (uint64_t round = 1; round <= 10; round++) {
    a.network->send(b.id, heartbeat(a.id, b.id, round));
  }
  a.network->flush();
  ASSERT_TRUE(run_until([&] { return a.lost[b.id] == 1; }));
  EXPECT_EQ(b.messages.size(), 1u);
}

TEST_F(PeerNetworkTest, PortInUseIsAnErrorThatSaysSo) {
  TestNode& a = add_node(1);
  PeerNetwork second(io_, {.self = NodeId(2)}, a, {});
  auto listening = second.listen({"127.0.0.1", a.port});
  ASSERT_FALSE(listening);
  EXPECT_EQ(listening.error().kind, ErrorKind::kAddressInUse);
  EXPECT_EQ(listening.error().text,
            fmt::format("cannot listen for peers at 127.0.0.1:{}: Address already in use; another "
                        "process listens there: `ss -ltnp sport = :{}` shows which",
                        a.port, a.port));
}

TEST_F(PeerNetworkTest, AddressThatIsNotHereIsAnErrorThatNamesTheKey) {
  TestNode& a = add_node(1);
  PeerNetwork second(io_, {.self = NodeId(2)}, a, {});
  auto unknown = second.listen({"no-such-host.invalid", 1});
  ASSERT_FALSE(unknown);
  EXPECT_EQ(unknown.error().kind, ErrorKind::kBadConfig);
  EXPECT_THAT(unknown.error().text, HasSubstr("check listen.peer"));
  auto foreign = second.listen({"192.0.2.1", 7101});
  ASSERT_FALSE(foreign);
  EXPECT_EQ(foreign.error().kind, ErrorKind::kNoSuchAddress);
  EXPECT_THAT(foreign.error().text, HasSubstr("set listen.peer to an address of this machine"));
  // And the next try is a new one.
  EXPECT_TRUE(second.listen({"127.0.0.1", 0}));
}

TEST_F(PeerNetworkTest, ConnectionsNoticeAPeerThatIsGone) {
  boost::asio::ip::tcp::socket socket(io_, boost::asio::ip::tcp::v4());
  net::set_options(
      socket, {.idle_seconds = 7, .interval_seconds = 2, .probes = 4, .user_timeout_ms = 1234});
  auto option = [&](int level, int name) {
    int value = 0;
    socklen_t size = sizeof value;
    EXPECT_EQ(getsockopt(socket.native_handle(), level, name, &value, &size), 0);
    return value;
  };
  EXPECT_EQ(option(IPPROTO_TCP, TCP_NODELAY), 1);
  EXPECT_EQ(option(SOL_SOCKET, SO_KEEPALIVE), 1);
  EXPECT_EQ(option(IPPROTO_TCP, TCP_KEEPIDLE), 7);
  EXPECT_EQ(option(IPPROTO_TCP, TCP_KEEPINTVL), 2);
  EXPECT_EQ(option(IPPROTO_TCP, TCP_KEEPCNT), 4);
  EXPECT_EQ(option(IPPROTO_TCP, TCP_USER_TIMEOUT), 1234);
}

// What a node says of itself changes while connections stand: who does not fit any more is
// disconnected, and told why when it comes back. The others are not disturbed.
TEST_F(PeerNetworkTest, RecheckDisconnectsWhoDoesNotFitAnyMore) {
  TestNode& ahead = add_node(1);
  TestNode& fits = add_node(2);
  TestNode& behind = add_node(3);
  ahead.hello.feature_level_max = fits.hello.feature_level_max = 2;
  introduce();
  ASSERT_TRUE(all_reached());
  ahead.network->recheck_peers();
  EXPECT_EQ(ahead.lost[NodeId(3)], 0) << "nothing has changed";
  ahead.hello.feature_level = 2;
  ahead.network->recheck_peers();
  EXPECT_EQ(ahead.lost[NodeId(3)], 1);
  EXPECT_EQ(ahead.lost[NodeId(2)], 0);
  ASSERT_TRUE(run_until([&] { return !behind.refusals.empty(); }));
  EXPECT_EQ(behind.refusals[0].first, NodeId(1));
  EXPECT_THAT(behind.refusals[0].second.text, HasSubstr("is at feature level 2"));
  EXPECT_EQ(behind.reached[NodeId(1)], behind.lost[NodeId(1)]);
  EXPECT_EQ(fits.lost[NodeId(1)], 0);
}

}  // namespace
}  // namespace connectd::transport
