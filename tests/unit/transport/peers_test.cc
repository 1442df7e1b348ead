// Several Peers in one process, wired to each other byte by byte: no socket, and the time is ours.
#include "transport/peers.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "base/log_event.h"
#include "tests/unit/transport/messages.h"

namespace connectd::transport {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ChannelPtr = Peers::ChannelPtr;

struct PipedNode final : wire::TransportHandler {
  explicit PipedNode(uint64_t node_id, PeersOptions given = {}) : id(node_id), options(given) {
    options.self = id;
    hello.cluster_name = "test";
    hello.plugin_name = "counter";
    hello.node_id = id;
    open();
  }
  void open() {
    PeersHooks hooks;
    hooks.hello = [this] { return hello; };
    hooks.check = [this](const wire::Hello& theirs) -> std::optional<wire::Refusal> {
      if (theirs.node_id == refuses || theirs.disk_id == refuses_disk) {
        return wire::Refusal{wire::RefusalCode::kNotMember, "not here"};
      }
      return std::nullopt;
    };
    hooks.on_refused = [this](NodeId peer, const wire::Refusal& refusal, Time hello_at) {
      refusals.emplace_back(peer, refusal.text);
      refused_hello_at = hello_at;
    };
    peers = std::make_unique<Peers>(options, *this, std::move(hooks));
  }
  std::string on_message(const wire::Hello& sender, wire::PeerMessage message) override {
    EXPECT_FALSE(is_sending);
    rounds.emplace_back(sender.node_id, round_of(message));
    return fault;
  }
  void on_peer_reached(NodeId peer, const wire::Hello&) override { reached[peer]++; }
  void on_peer_lost(NodeId peer) override {
    EXPECT_FALSE(is_sending) << "called from inside send()";
    lost[peer]++;
    if (on_lost) on_lost();
  }
  void send(NodeId to, uint64_t round) {
    is_sending = true;
    peers->send(to, heartbeat(id, to, round));
    peers->flush();
    is_sending = false;
  }

  NodeId id;
  PeersOptions options;
  wire::Hello hello;
  NodeId refuses;
  std::optional<DiskId> refuses_disk;
  std::unique_ptr<Peers> peers;
  bool is_sending = false;
  bool dials_tls = false;
  std::string fault;  // what this node finds wrong with the messages that it gets
  std::function<void()> on_lost;
  std::vector<std::pair<NodeId, uint64_t>> rounds;
  std::vector<std::pair<NodeId, std::string>> refusals;
  Time refused_hello_at{};
  std::map<NodeId, int> reached;
  std::map<NodeId, int> lost;
};

class PeersTest : public testing::Test {
 protected:
  PipedNode& add(uint64_t id, PeersOptions options = {}) {
    nodes_.push_back(std::make_unique<PipedNode>(id, options));
    return *nodes_.back();
  }
  static Address address(NodeId id) { return {"host", static_cast<uint16_t>(id.value())}; }
  void introduce() {
    for (auto& node : nodes_) {
      std::map<NodeId, std::vector<Address>> peers;
      for (auto& other : nodes_) {
        if (other != node) peers[other->id] = {address(other->id)};
      }
      node->peers->set_peers(peers, now_);
    }
  }
  PipedNode* find(NodeId id) {
    for (auto& node : nodes_) {
      if (node->id == id && !dead_.contains(node.get())) return node.get();
    }
    return nullptr;
  }

  // Carries out all effects until there are none, and no byte is left.
  void settle() {
    for (bool again = true; again;) {
      again = false;
      for (auto& node : nodes_) {
        SocketWork work;
        node->peers->take_work(work);
        again = again || !work.empty();
        for (auto& [channel, to] : work.dial) {
          dials_.push_back({node->id, NodeId(to.port)});
          dial(*node, channel, NodeId(to.port));
        }
        for (auto& channel : work.close) hang_up(channel);
        for (auto& channel : work.write) waiting_.push_back(channel);
      }
      for (ChannelPtr& channel : std::exchange(waiting_, {})) again = pass_on(channel) || again;
    }
  }
  void dial(PipedNode& from, const ChannelPtr& channel, NodeId to) {
    PipedNode* other = find(to);
    if (other == nullptr || unreachable_.contains(to)) {
      return from.peers->dial_failed(channel, "nobody is there", now_);
    }
    if (silent_.contains(to)) return;
    ChannelPtr accepted = other->peers->accepted("host", now_);
    if (!accepted) return from.peers->broken(channel, "turned away", now_);
    ends_[channel.get()] = {other, accepted};
    ends_[accepted.get()] = {&from, channel};
    if (from.dials_tls) {
      channel->set_certified(to);
      accepted->set_certified(certified_ ? certified_ : from.id);
    }
    from.peers->connected(channel, "host", now_);
  }
  bool pass_on(const ChannelPtr& channel) {
    auto end = ends_.find(channel.get());
    if (end == ends_.end() || is_clogged_) return false;
    const auto [node, sink] = end->second;
    while (!channel->unsent().empty()) {
      std::span<uint8_t> space = sink->read_space();
      const size_t length = std::min(space.size(), channel->unsent().size());
      std::memcpy(space.data(), channel->unsent().data(), length);
      channel->sent(length);
      if (!sink->is_closed() && !dead_.contains(node)) node->peers->received(sink, length, now_);
    }
    if (channel->is_closing()) node->peers->ended(sink, now_);
    return true;
  }
  void hang_up(const ChannelPtr& channel) {
    auto end = ends_.find(channel.get());
    if (end == ends_.end()) return;
    const auto [node, sink] = end->second;
    ends_.erase(end);
    ends_.erase(sink.get());
    node->peers->ended(sink, now_);
  }
  // Who dialled `node` says this of itself.
  void say_hello(PipedNode& node, const ChannelPtr& channel, wire::Hello hello) {
    hello.to = node.id;
    std::string stream(wire::kPeerMagic);
    wire::append_hello(stream, hello);
    give(node, channel, stream);
  }
  void give(PipedNode& node, const ChannelPtr& channel, std::string_view bytes) {
    while (!bytes.empty() && !channel->is_closed()) {
      std::span<uint8_t> space = channel->read_space();
      const size_t length = std::min(space.size(), bytes.size());
      std::memcpy(space.data(), bytes.data(), length);
      bytes.remove_prefix(length);
      node.peers->received(channel, length, now_);
    }
  }
  static std::string beginning_of_a_large_frame(size_t body) {
    std::string frame;
    wire::SnapshotChunk chunk;
    chunk.file.mark = {Index(1), Term(1)};
    chunk.file.bytes = body;
    chunk.bytes = Slice::copy_of(std::string(body, 'x'));
    EXPECT_TRUE(wire::append_frame(frame, chunk, wire::FrameVersion::kCheckedHeader));
    frame.pop_back();
    return frame;
  }
  // The channel that `from` dialled to `to`.
  ChannelPtr between(const PipedNode& from, const PipedNode& to) const {
    for (const auto& [channel, end] : ends_) {
      const auto& [node, sink] = end;
      const bool is_dialled = sink->phase() == Channel::Phase::kRefusalOnly;
      if (node == &from && is_dialled && sink->peer() == to.id) return sink;
    }
    return nullptr;
  }
  // Advances the time, deadline by deadline.
  void pass(Duration time) {
    const Time end = now_ + time;
    while (true) {
      Time next = Time::max();
      for (auto& node : nodes_) next = std::min(next, node->peers->next_deadline());
      if (next > end) break;
      now_ = std::max(now_, next);
      for (auto& node : nodes_) node->peers->advance(now_);
      settle();
    }
    now_ = end;
  }

  Time now_{seconds(1000)};
  std::vector<std::unique_ptr<PipedNode>> nodes_;
  std::map<const Channel*, std::pair<PipedNode*, ChannelPtr>> ends_;
  std::vector<ChannelPtr> waiting_;
  std::vector<std::pair<NodeId, NodeId>> dials_;
  std::set<NodeId> unreachable_;
  std::set<NodeId> silent_;          // the dial gets no answer
  std::set<const PipedNode*> dead_;  // its machine lost power: what is sent to it is not answered
  bool is_clogged_ = false;
  NodeId certified_;  // whose certificate diallers show; none: their own
};

// ---- replacing a connection

struct ReplaceTest : PeersTest {
  ReplaceTest() {
    for (PipedNode* node : {&a, &b}) node->hello.incarnation = node->id.value();
    introduce();
    settle();
    dials_.clear();
  }
  void turn_tls(PipedNode& node, bool on) {
    node.dials_tls = on;
    node.peers->set_tls(on, true, true, now_);
    pass(Duration(0));
  }
  ChannelPtr out() const { return between(a, b); }
  // One step of both, without the bytes of this channel.
  void pass_all_but(const ChannelPtr& held) {
    for (PipedNode* node : {&a, &b}) {
      SocketWork work;
      node->peers->take_work(work);
      for (auto& [channel, to] : work.dial) dial(*node, channel, NodeId(to.port));
      for (const ChannelPtr& channel : work.write) {
        if (channel != held) pass_on(channel);
      }
    }
  }
  // Until the replacement of the first is agreed on, and nothing of the first is read.
  void shake_hands_beside(const ChannelPtr& first) {
    a.dials_tls = true;
    a.peers->set_tls(true, true, true, now_);
    a.peers->advance(now_);
    for (int i = 0; i < 10 && !first->is_closing(); ++i) pass_all_but(first);
    ASSERT_TRUE(first->is_closing());
  }
  PipedNode& a = add(1);
  PipedNode& b = add(2);
};

TEST_F(ReplaceTest, NothingIsLostOrCounted) {
  a.send(NodeId(2), 1);
  turn_tls(a, true);
  ASSERT_TRUE(out());
  EXPECT_EQ(out()->certified(), NodeId(2));
  a.send(NodeId(2), 2);
  settle();
  EXPECT_THAT(b.rounds, ElementsAre(std::pair(NodeId(1), 1), std::pair(NodeId(1), 2)));
  EXPECT_EQ(dials_.size(), 1u);
  pass(seconds(60));
  EXPECT_EQ(dials_.size(), 1u) << "it is replaced once";
  turn_tls(a, false);  // and back
  EXPECT_FALSE(out()->certified());
  a.send(NodeId(2), 3);
  settle();
  EXPECT_EQ(b.rounds.size(), 3u);
  EXPECT_TRUE(a.lost.empty() && b.lost.empty());
}

TEST_F(ReplaceTest, SecondWaitsUntilTheFirstIsRead) {
  const ChannelPtr first = out();
  a.send(NodeId(2), 1);
  shake_hands_beside(first);
  a.send(NodeId(2), 2);
  pass_all_but(first);
  EXPECT_TRUE(b.rounds.empty()) << "the first is still to be read";
  pass_on(first);
  settle();
  EXPECT_THAT(b.rounds, ElementsAre(std::pair(NodeId(1), 1), std::pair(NodeId(1), 2)));
  EXPECT_TRUE(a.lost.empty() && b.lost.empty());
}

TEST_F(ReplaceTest, MessagesOfBothKeepTheirOrder) {
  is_clogged_ = true;
  a.send(NodeId(2), 1);
  a.dials_tls = true;
  a.peers->set_tls(true, true, true, now_);
  a.peers->advance(now_);
  settle();
  a.send(NodeId(2), 2);
  is_clogged_ = false;
  a.peers->flush();
  for (int i = 3; i < 8; ++i) {
    a.send(NodeId(2), i);
    settle();
  }
  EXPECT_EQ(b.rounds.size(), 7u);
  EXPECT_TRUE(std::ranges::is_sorted(b.rounds));
  EXPECT_TRUE(a.lost.empty() && b.lost.empty());
}

TEST_F(ReplaceTest, FailedReplacementIsTriedAgain) {
  const ChannelPtr first = out();
  unreachable_.insert(NodeId(2));
  turn_tls(a, true);
  EXPECT_EQ(dials_.size(), 1u);
  EXPECT_EQ(out(), first) << "it goes on";
  unreachable_.clear();
  pass(kReplaceAgain);
  EXPECT_NE(out(), first);
  EXPECT_TRUE(a.lost.empty() && b.lost.empty());
}

TEST_F(ReplaceTest, RefusedReplacementLeavesTheFirst) {
  const ChannelPtr first = out();
  b.refuses = NodeId(1);
  turn_tls(a, true);
  EXPECT_EQ(out(), first);
  EXPECT_TRUE(a.refusals.empty()) << "the connection that stands was not refused";
  EXPECT_TRUE(a.lost.empty());
}

TEST_F(ReplaceTest, ResetOfTheFirstIsALoss) {
  const ChannelPtr first = out();
  a.send(NodeId(2), 1);
  shake_hands_beside(first);
  a.peers->broken(first, "reset", now_);
  EXPECT_EQ(a.lost[NodeId(2)], 1) << "some of its messages may be lost";
}

TEST_F(ReplaceTest, PeerThatDoesNotEndItIsALoss) {
  const ChannelPtr first = out();
  a.dials_tls = true;
  a.peers->set_tls(true, true, true, now_);
  a.peers->advance(now_);
  ends_.erase(ends_.at(first.get()).second.get());
  const auto end = ends_.extract(first.get());  // nothing comes back from there
  settle();
  ASSERT_TRUE(first->is_closing());
  now_ += PeersOptions().handshake_timeout;
  a.peers->advance(now_);
  EXPECT_EQ(a.lost[NodeId(2)], 1);
}

TEST_F(ReplaceTest, BuildWithoutReplacementsLosesIt) {
  b.hello.incarnation = 0;
  turn_tls(a, true);
  pass(seconds(2));
  a.send(NodeId(2), 1);
  settle();
  EXPECT_THAT(b.rounds, ElementsAre(std::pair(NodeId(1), 1)));
}

TEST_F(ReplaceTest, PlainOnesEndWhereOnlyTlsIsTaken) {
  b.peers->set_tls(true, false, true, now_);
  EXPECT_EQ(b.lost[NodeId(1)], 1);
}

TEST_F(ReplaceTest, CertificateOfAnotherNodeIsRefused) {
  PipedNode& c = add(3);
  c.dials_tls = true;
  certified_ = NodeId(1);
  c.peers->set_peers({{NodeId(2), {address(NodeId(2))}}}, now_);
  settle();
  ASSERT_EQ(c.refusals.size(), 1u);
  EXPECT_THAT(c.refusals[0].second, HasSubstr("with the certificate of node 1"));
  EXPECT_EQ(b.reached[NodeId(3)], 0);
}

// ---- two processes of one node

struct TwinsTest : PeersTest {
  PipedNode& process(uint64_t id, uint64_t incarnation) {
    PipedNode& node = add(id);
    node.hello.incarnation = incarnation;
    return node;
  }
  void dial_node_1(PipedNode& node) {
    node.peers->set_peers({{NodeId(1), {address(NodeId(1))}}}, now_);
    settle();
  }
};

TEST_F(TwinsTest, NewcomerIsRefusedWhileTheFirstLives) {
  PipedNode& a = process(1, 10);
  PipedNode& first = process(3, 30);
  introduce();
  settle();
  PipedNode& copy = process(3, 31);
  dial_node_1(copy);
  ASSERT_EQ(copy.refusals.size(), 1u);
  EXPECT_THAT(copy.refusals[0].second, HasSubstr("two processes say that they are node 3"));
  EXPECT_TRUE(first.refusals.empty());
  EXPECT_EQ(a.reached[NodeId(3)], 1);
  EXPECT_EQ(a.lost[NodeId(3)], 0);
  first.send(NodeId(1), 7);
  settle();
  EXPECT_THAT(a.rounds, ElementsAre(std::pair(NodeId(3), 7)));
}

TEST_F(TwinsTest, AnsweringCopyIsRefusedToo) {
  PipedNode& a = process(1, 10);
  PipedNode& copy = process(3, 31);  // has the address that node 1 dials
  PipedNode& first = process(3, 30);
  dial_node_1(first);
  a.peers->set_peers({{NodeId(3), {address(NodeId(3))}}}, now_);
  settle();
  ASSERT_EQ(copy.refusals.size(), 1u);
  EXPECT_THAT(copy.refusals[0].second, HasSubstr("two processes"));
  EXPECT_TRUE(first.refusals.empty());
}

TEST_F(TwinsTest, NewcomerReplacesAProcessWithoutAnswer) {
  PipedNode& a = process(1, 10);
  PipedNode& first = process(3, 30);
  introduce();
  settle();
  dead_.insert(&first);
  PipedNode& next = process(3, 31);
  dial_node_1(next);
  EXPECT_EQ(a.lost[NodeId(3)], 0);
  pass(a.options.probe_timeout - milliseconds(1));
  EXPECT_EQ(a.lost[NodeId(3)], 0);
  pass(seconds(1));
  EXPECT_EQ(a.lost[NodeId(3)], 1);
  EXPECT_EQ(a.reached[NodeId(3)], 2);
  EXPECT_TRUE(next.refusals.empty());
  next.send(NodeId(1), 8);
  settle();
  EXPECT_THAT(a.rounds, ElementsAre(std::pair(NodeId(3), 8)));
}

// Who connects again while it is probed lives, though the probe went with its old connection.
TEST_F(TwinsTest, FirstThatReconnectsIsNotReplaced) {
  process(1, 10);
  PipedNode& first = process(3, 30);
  introduce();
  settle();
  dead_.insert(&first);  // it reads nothing for a moment
  PipedNode& copy = process(3, 31);
  dial_node_1(copy);
  dead_.erase(&first);
  PipedNode& again = process(3, 30);  // the same process, on a new connection
  again.hello.incarnation = 30;
  again.peers->set_peers({{NodeId(1), {address(NodeId(1))}}}, now_);
  SocketWork work;
  again.peers->take_work(work);
  dial(again, work.dial.at(0).channel, NodeId(1));
  SocketWork said;
  again.peers->take_work(said);
  waiting_.insert(waiting_.end(), said.write.begin(), said.write.end());
  settle();
  ASSERT_EQ(copy.refusals.size(), 1u);
  EXPECT_THAT(copy.refusals[0].second, HasSubstr("two processes"));
  EXPECT_FALSE(ends_.at(work.dial[0].channel.get()).second->is_closed());
}

// Strangers that come twice and go leave nothing: no connection without an end, no peer.
TEST_F(TwinsTest, StrangersLeaveNothing) {
  std::vector<std::unique_ptr<PipedNode>> strangers;
  PipedNode& a = process(1, 10);
  for (uint64_t id = 100; id < 100 + 4 * kMaxStrangers; ++id) {
    for (uint64_t incarnation : {1, 2}) {
      PipedNode& stranger = *strangers.emplace_back(std::make_unique<PipedNode>(id));
      stranger.hello.incarnation = incarnation;
      stranger.peers->set_peers({{NodeId(1), {address(NodeId(1))}}}, now_);
      SocketWork work;
      stranger.peers->take_work(work);
      dial(stranger, work.dial.at(0).channel, NodeId(1));
      SocketWork said;
      stranger.peers->take_work(said);
      for (const ChannelPtr& channel : said.write) pass_on(channel);
      // It goes without a word: what it had accepted is closed, or ends in time.
      const ChannelPtr theirs = ends_.at(work.dial[0].channel.get()).second;
      if (incarnation == 2) a.peers->broken(theirs, "closed by the peer", now_);
      SocketWork ignored;
      a.peers->take_work(ignored);
    }
    pass(a.options.probe_timeout + seconds(1));
  }
  EXPECT_TRUE(a.peers->counters().size() < 2) << a.peers->counters().size();
  EXPECT_TRUE(a.peers->accepted("host", now_)) << "the places for handshakes are used up";
}

// A stranger that asks and asks, and reads no answer.
TEST_F(TwinsTest, UnreadAnswersAreBounded) {
  PipedNode& a = process(1, 10);
  PipedNode& b = process(2, 20);
  introduce();
  settle();
  const ChannelPtr ours = between(b, a);
  ASSERT_TRUE(ours);
  const ChannelPtr theirs = ends_.at(ours.get()).second;
  is_clogged_ = true;
  std::string probes;
  for (int i = 0; i < 1000; ++i) wire::append_probe(probes, {false, 1});
  while (!probes.empty() && !theirs->is_closed()) {
    std::span<uint8_t> space = theirs->read_space();
    const size_t length = std::min(space.size(), probes.size());
    std::memcpy(space.data(), probes.data(), length);
    probes.erase(0, length);
    a.peers->received(theirs, length, now_);
  }
  EXPECT_TRUE(theirs->is_closed());
  EXPECT_LT(theirs->unsent().size(), 2 * kMaxUnreadAnswers);
}

// A restart: the kernel closes the connections of the process that has ended.
TEST_F(TwinsTest, NewcomerIsAdmittedWhenTheFirstIsGone) {
  PipedNode& a = process(1, 10);
  PipedNode& first = process(3, 30);
  introduce();
  settle();
  dead_.insert(&first);
  PipedNode& next = process(3, 31);
  dial_node_1(next);
  for (auto& [channel, end] : std::map(ends_)) {
    if (end.first == &a && ends_.contains(end.second.get()) &&
        ends_.at(end.second.get()).first == &first) {
      a.peers->broken(end.second, "reset", now_);
    }
  }
  settle();
  EXPECT_EQ(a.reached[NodeId(3)], 2) << "at once";
  EXPECT_TRUE(next.refusals.empty());
}

// After a pause of the process that probes, the answer may wait behind the timer.
TEST_F(TwinsTest, LateProbeIsRepeated) {
  PipedNode& a = process(1, 10);
  process(3, 30);
  introduce();
  settle();
  PipedNode& copy = process(3, 31);
  is_clogged_ = true;
  ChannelPtr held = a.peers->accepted("10.0.0.9:4000", now_);
  say_hello(a, held, copy.hello);
  EXPECT_EQ(held->phase(), Channel::Phase::kHeld);
  now_ += seconds(60);
  a.peers->advance(now_);
  EXPECT_EQ(a.lost[NodeId(3)], 0);
  is_clogged_ = false;
  settle();
  EXPECT_TRUE(held->is_closing()) << "the first one has answered";
  EXPECT_EQ(a.lost[NodeId(3)], 0);
}

// Builds that do not say an incarnation answer no probe.
TEST_F(TwinsTest, OldBuildIsReplacedAtOnce) {
  PipedNode& a = process(1, 10);
  process(3, 0);
  introduce();
  settle();
  PipedNode& next = process(3, 31);
  dial_node_1(next);
  EXPECT_EQ(a.reached[NodeId(3)], 2);
  EXPECT_TRUE(next.refusals.empty());
}

// Neither who says no incarnation nor who says another disk takes the place of one that answers.
TEST_F(TwinsTest, NobodyAvoidsTheProbe) {
  for (const bool says_incarnation : {false, true}) {
    SCOPED_TRACE(says_incarnation);
    PipedNode& a = process(1, 10);
    PipedNode& first = process(3, 30);
    introduce();
    settle();
    PipedNode& next = process(3, says_incarnation ? 31 : 0);
    if (says_incarnation) next.hello.disk_id.bytes[0] = 9;
    dial_node_1(next);
    EXPECT_EQ(a.lost[NodeId(3)], 0);
    ASSERT_EQ(next.refusals.size(), 1u);
    EXPECT_THAT(next.refusals[0].second, HasSubstr("two processes say that they are node 3"));
    first.send(NodeId(1), 7);
    settle();
    EXPECT_THAT(a.rounds, ElementsAre(std::pair(NodeId(3), 7)));
    nodes_.clear();
    ends_.clear();
  }
}

TEST_F(TwinsTest, OldBuildReplacesAProcessWithoutAnswer) {
  PipedNode& a = process(1, 10);
  PipedNode& first = process(3, 30);
  introduce();
  settle();
  dead_.insert(&first);
  PipedNode& next = process(3, 0);
  dial_node_1(next);
  unreachable_.insert(NodeId(1));  // for the first one, which is dead
  pass(seconds(1));
  EXPECT_EQ(a.reached[NodeId(3)], 2);
  EXPECT_TRUE(next.refusals.empty());
}

// The list gives the first one's disk up, and that process still runs.
TEST_F(TwinsTest, DiskThatWasGivenUpHoldsUpNobody) {
  PipedNode& a = process(1, 10);
  process(3, 30);
  introduce();
  settle();
  a.refuses_disk = DiskId();
  PipedNode& next = process(3, 31);
  next.hello.disk_id.bytes[0] = 9;
  dial_node_1(next);
  EXPECT_TRUE(next.refusals.empty());
  EXPECT_EQ(a.lost[NodeId(3)], 1);
}

TEST_F(PeersTest, EverybodyReachesEverybody) {
  for (uint64_t id : {1, 2, 3}) add(id);
  introduce();
  settle();
  for (auto& node : nodes_) {
    for (auto& other : nodes_) {
      if (other == node) continue;
      EXPECT_EQ(node->reached[other->id], 1);
      EXPECT_EQ(node->lost[other->id], 0);
      node->send(other->id, node->id.value());
    }
  }
  settle();
  EXPECT_THAT(nodes_[0]->rounds, ElementsAre(std::pair(NodeId(2), 2), std::pair(NodeId(3), 3)));
  EXPECT_EQ(nodes_[0]->peers->next_deadline(), Time::max()) << "nothing is due any more";
}

// The dialler refuses the answer, and sends its refusal before it closes.
TEST_F(PeersTest, DiallersRefusalIsWrittenBeforeItCloses) {
  PipedNode& a = add(1);
  PipedNode& b = add(2);
  a.peers->set_peers({{NodeId(2), {address(NodeId(2))}}}, now_);
  a.refuses = NodeId(2);
  settle();
  ASSERT_EQ(b.refusals.size(), 1u);
  EXPECT_EQ(b.refusals[0].second, "not here");
  EXPECT_EQ(a.reached[NodeId(2)], 0);
  EXPECT_EQ(b.lost[NodeId(1)], 0) << "it was never reached";
}

// Two processes with one id, on two disks: what is heard and what is sent is of one of them.
TEST_F(PeersTest, BothDirectionsAreOfOneDisk) {
  PipedNode& one = add(1);
  PipedNode& old = add(2);
  old.hello.disk_id.bytes[0] = 1;
  introduce();
  settle();
  ASSERT_EQ(one.reached[NodeId(2)], 1);

  PipedNode other(2);  // it dials; the one that is dialled at that address stays the old one
  other.hello.disk_id.bytes[0] = 2;
  other.peers->set_peers({{NodeId(1), {address(NodeId(1))}}}, now_);
  SocketWork work;
  other.peers->take_work(work);
  ASSERT_EQ(work.dial.size(), 1u);
  dial(other, work.dial[0].channel, NodeId(1));
  SocketWork said;
  other.peers->take_work(said);
  for (const ChannelPtr& channel : said.write) waiting_.push_back(channel);
  EXPECT_TRUE(pass_on(waiting_.back()));
  waiting_.clear();
  EXPECT_EQ(one.lost[NodeId(2)], 1);
  one.send(NodeId(2), 7);
  settle();
  EXPECT_THAT(old.rounds, testing::IsEmpty());
}

TEST_F(PeersTest, PeerRefusedLaterIsDisconnected) {
  PipedNode& one = add(1);
  PipedNode& two = add(2);
  introduce();
  settle();
  ASSERT_EQ(one.reached[NodeId(2)], 1);
  one.refuses = NodeId(2);
  introduce();
  settle();
  EXPECT_EQ(one.lost[NodeId(2)], 1);
  one.send(NodeId(2), 7);
  two.send(NodeId(1), 8);
  settle();
  EXPECT_THAT(two.rounds, testing::IsEmpty());
  EXPECT_THAT(one.rounds, testing::IsEmpty());
}

TEST_F(PeersTest, DialTriesAgainWithBackOff) {
  PipedNode& a = add(1);
  unreachable_.insert(NodeId(2));
  a.peers->set_peers({{NodeId(2), {address(NodeId(2))}}}, now_);
  settle();
  pass(seconds(20));
  // 20 ms, doubled up to 1 s, each between its half and the whole.
  EXPECT_GT(dials_.size(), 20u);
  EXPECT_LT(dials_.size(), 60u);
  add(2);
  unreachable_.clear();
  pass(seconds(2));
  EXPECT_EQ(a.reached[NodeId(2)], 1);
}

TEST_F(PeersTest, DialWithoutAnAnswerIsGivenUp) {
  PipedNode& a = add(1);
  add(2);
  silent_.insert(NodeId(2));
  a.peers->set_peers({{NodeId(2), {address(NodeId(2))}}}, now_);
  settle();
  pass(a.options.handshake_timeout - milliseconds(1));
  EXPECT_EQ(dials_.size(), 1u);
  silent_.clear();
  pass(milliseconds(100));
  EXPECT_EQ(a.reached[NodeId(2)], 1);
}

// A node campaigns only when each peer has had its chance to refuse it.
TEST_F(PeersTest, TriedAllWhenEachAnsweredOrFailed) {
  PipedNode& a = add(1);
  EXPECT_TRUE(a.peers->has_tried_all()) << "it has no peers";
  PipedNode& b = add(2);
  add(3);
  add(4);
  b.refuses = NodeId(1);
  unreachable_.insert(NodeId(3));
  silent_.insert(NodeId(4));
  introduce();
  EXPECT_FALSE(a.peers->has_tried_all());
  settle();
  EXPECT_FALSE(a.peers->has_tried_all()) << "node 4 has not answered";
  EXPECT_EQ(a.refused_hello_at, now_);
  pass(a.options.handshake_timeout);
  EXPECT_TRUE(a.peers->has_tried_all());
}

TEST_F(PeersTest, PeerThatDialsIsDialledAtOnce) {
  PipedNode& a = add(1);
  PipedNode& b = add(2);
  unreachable_.insert(NodeId(2));
  a.peers->set_peers({{NodeId(2), {address(NodeId(2))}}}, now_);
  settle();
  pass(seconds(10));
  unreachable_.clear();
  b.peers->set_peers({{NodeId(1), {address(NodeId(1))}}}, now_);
  settle();
  EXPECT_EQ(a.reached[NodeId(2)], 1) << "without a wait";
}

// Nobody has told node 1 of node 2, which says in its hello where it wants to be dialled.
TEST_F(PeersTest, StrangerIsDialledWhereItSays) {
  PipedNode& a = add(1);
  PipedNode& b = add(2);
  b.hello.peer_address = "host:2";
  b.peers->set_peers({{NodeId(1), {address(NodeId(1))}}}, now_);
  settle();
  EXPECT_EQ(a.reached[NodeId(2)], 1);
  a.send(NodeId(2), 7);
  settle();
  EXPECT_THAT(b.rounds, ElementsAre(std::pair(NodeId(1), 7)));
}

// Whatever address a hello gives: only the port counts.
TEST_F(PeersTest, OnlyTheHostThatDialledIsDialled) {
  PipedNode& a = add(1);
  const auto dials_for = [&](const std::string& said, const std::string& remote) {
    wire::Hello hello = a.hello;
    hello.node_id = NodeId(9);
    hello.peer_address = said;
    const ChannelPtr channel = a.peers->accepted(remote, now_);
    say_hello(a, channel, hello);
    SocketWork work;
    a.peers->take_work(work);
    std::vector<std::string> dials;
    for (const auto& dial : work.dial) dials.push_back(dial.address.to_string());
    a.peers->broken(channel, "reset", now_);
    now_ += seconds(1);
    return dials;
  };
  EXPECT_THAT(dials_for("10.0.0.7:22", "10.0.0.9:4000"), ElementsAre("10.0.0.9:22"));
  EXPECT_THAT(dials_for("db.example.org:7101", "[::1]:4000"), ElementsAre("[::1]:7101"));
  EXPECT_THAT(dials_for("", "10.0.0.9:4000"), testing::IsEmpty());
}

TEST_F(PeersTest, DialsToStrangersAreFew) {
  PipedNode& a = add(1);
  std::set<uint64_t> dialled;
  size_t dials = 0;
  for (uint64_t id = 100; id < 100 + kMaxStrangers; ++id) {
    wire::Hello hello = a.hello;
    hello.node_id = NodeId(id);
    hello.peer_address = fmt::format("host:{}", id);
    say_hello(a, a.peers->accepted("10.0.0.9:4000", now_), hello);
  }
  for (const Time end = now_ + seconds(60); now_ < end; now_ += milliseconds(10)) {
    a.peers->advance(now_);
    SocketWork work;
    a.peers->take_work(work);
    for (const auto& dial : work.dial) {
      ++dials;
      dialled.insert(dial.address.port);
      a.peers->dial_failed(dial.channel, "nobody is there", now_);
    }
  }
  EXPECT_LE(dials, seconds(60) / kStrangerDialGap);
  EXPECT_EQ(dialled.size(), kMaxStrangers) << "each has its turn";
}

TEST_F(PeersTest, EitherDirectionThatBreaksIsOneLoss) {
  for (const bool dialled : {true, false}) {
    SCOPED_TRACE(dialled ? "a's own" : "b's");
    PipedNode& a = add(dialled ? 1 : 3);
    PipedNode& b = add(dialled ? 2 : 4);
    introduce();
    settle();
    const ChannelPtr breaks = between(dialled ? a : b, dialled ? b : a);
    const ChannelPtr other = between(dialled ? b : a, dialled ? a : b);
    ASSERT_TRUE(breaks && other);
    // At a's end: of what it dialled its own channel, of what b dialled the one that it accepted.
    a.peers->broken(dialled ? breaks : ends_.at(breaks.get()).second, "reset", now_);
    EXPECT_EQ(a.lost[b.id], 1);
    EXPECT_FALSE(other->is_closed());
    settle();
    pass(seconds(5));
    settle();
    EXPECT_EQ(a.reached[b.id], 2);
    EXPECT_EQ(a.lost[b.id], 1);
    nodes_.clear();
    ends_.clear();
  }
}

TEST_F(PeersTest, OverflowBreaksOutsideOfSend) {
  PeersOptions options;
  options.output_bytes_max = 1000;
  PipedNode& a = add(1, options);
  PipedNode& b = add(2);
  introduce();
  settle();
  is_clogged_ = true;
  uint64_t round = 0;
  while (a.peers->counters()[NodeId(2)].messages_dropped == 0) {
    ASSERT_LT(round, 1000u) << "the buffer has no bound";
    a.send(NodeId(2), ++round);
  }
  EXPECT_EQ(a.lost[NodeId(2)], 0);
  a.send(NodeId(2), ++round);  // and nothing is sent after the gap
  is_clogged_ = false;
  a.peers->advance(now_);
  EXPECT_EQ(a.lost[NodeId(2)], 1);
  settle();
  for (size_t i = 0; i < b.rounds.size(); ++i) EXPECT_EQ(b.rounds[i].second, i + 1) << "a gap";
  pass(seconds(1));
  EXPECT_EQ(a.reached[NodeId(2)], 2);
}

// What was sent before arrives, what comes after waits for the next connection.
TEST_F(PeersTest, MessageOverTheFrameLimitBreaks) {
  PipedNode& a = add(1);
  PipedNode& b = add(2);
  introduce();
  settle();
  pass(seconds(5));  // the connection is not new
  for (int times = 1; times <= 3; ++times) {
    a.send(NodeId(2), 1);
    wire::SnapshotChunk chunk;
    chunk.bytes = Slice::copy_of(std::string(wire::kMaxFrameBytes, 'x'));
    a.peers->send(NodeId(2), chunk);
    a.send(NodeId(2), 2);
    settle();
    EXPECT_EQ(a.peers->next_deadline(), Time());
    a.peers->advance(now_);
    EXPECT_EQ(a.lost[NodeId(2)], times);
    settle();
    pass(seconds(2));
    EXPECT_EQ(a.reached[NodeId(2)], times + 1);
  }
  for (const auto& [from, round] : b.rounds) EXPECT_EQ(round, 1u) << "a gap";
}

// A node that keeps saying what cannot be sent does not dial as fast as it can.
TEST_F(PeersTest, BreakOfOurOwnBacksOff) {
  PeersOptions options;
  options.output_bytes_max = 1000;
  PipedNode& a = add(1, options);
  add(2);
  introduce();
  settle();
  milliseconds waited{0};
  for (int times = 0; times < 8; ++times) {
    pass(seconds(5));
    is_clogged_ = true;
    for (uint64_t round = 1; a.peers->next_deadline() != Time(); ++round) {
      ASSERT_LT(round, 1000u);
      a.send(NodeId(2), round);
    }
    is_clogged_ = false;
    a.peers->advance(now_);
    waited = std::chrono::duration_cast<milliseconds>(a.peers->next_deadline() - now_);
  }
  EXPECT_GE(waited, options.reconnect_max / 2);
}

TEST_F(PeersTest, NodeOfTheFirstVersionIsUnderstood) {
  PeersOptions old;
  old.protocol_max = 1;
  PipedNode& a = add(1);
  PipedNode& b = add(2, old);
  PipedNode& c = add(3);
  introduce();
  settle();
  for (PipedNode* from : {&a, &b, &c}) {
    for (PipedNode* to : {&a, &b, &c}) {
      if (from == to) continue;
      from->send(to->id, 5);
      settle();
      ASSERT_FALSE(to->rounds.empty());
      EXPECT_EQ(to->rounds.back(), std::pair(from->id, uint64_t{5}));
      EXPECT_EQ(to->lost[from->id], 0);
    }
  }
}

TEST_F(PeersTest, PeerStoppingInAMessageIsLost) {
  PipedNode& a = add(1);
  PipedNode& b = add(2);
  introduce();
  settle();
  is_clogged_ = true;
  b.send(NodeId(1), 1);
  SocketWork work;
  b.peers->take_work(work);
  ASSERT_EQ(work.write.size(), 1u);
  const auto [node, sink] = ends_[work.write[0].get()];
  ASSERT_EQ(node, &a);
  std::memcpy(sink->read_space().data(), work.write[0]->unsent().data(), 10);
  a.peers->received(sink, 10, now_);
  EXPECT_EQ(a.peers->next_deadline(), now_ + kFrameTimeout);
  now_ += kFrameTimeout;
  a.peers->advance(now_);
  EXPECT_TRUE(sink->is_closed());
  EXPECT_EQ(a.lost[NodeId(2)], 1);
}

// With the clock of the test.
class PeersLogTest : public PeersTest {
 protected:
  PeersLogTest() {
    g_log_time = now_;
    limit_log_lines([] { return g_log_time; });
  }
  ~PeersLogTest() override { limit_log_lines(); }
  static size_t count_of(const std::string& text, const std::string& part) {
    size_t count = 0;
    for (size_t at = text.find(part); at != std::string::npos; at = text.find(part, at + 1)) {
      ++count;
    }
    return count;
  }
  inline static Time g_log_time;
};

// Each with a node id of its own, that it chooses.
TEST_F(PeersLogTest, LinesOfStrangersHaveOneBudget) {
  PipedNode& a = add(1);
  testing::internal::CaptureStderr();
  for (uint64_t id = 100; id < 160; ++id) {
    PipedNode stranger(id);
    const ChannelPtr channel = a.peers->accepted("10.0.0.9:4000", now_);
    ASSERT_NE(channel, nullptr);
    say_hello(a, channel, stranger.hello);
    a.peers->broken(channel, "reset", now_);
    stranger.hello.cluster_name = fmt::format("cluster {}", id);
    const ChannelPtr second = a.peers->accepted("10.0.0.9:4000", now_);
    ASSERT_NE(second, nullptr);
    say_hello(a, second, stranger.hello);
    a.peers->broken(second, "reset", now_);
  }
  const std::string log = testing::internal::GetCapturedStderr();
  EXPECT_GT(count_of(log, "lost the connection"), 0u);
  EXPECT_LE(count_of(log, "lost the connection"), 4u) << log;
  EXPECT_GT(count_of(log, "connection rejected"), 0u);
  EXPECT_LE(count_of(log, "connection rejected"), 4u) << log;
}

// An hour of a peer that is down.
TEST_F(PeersLogTest, DownPeerCostsAFewLinesAMinute) {
  add(1);
  add(2);
  introduce();
  settle();
  unreachable_.insert(NodeId(2));
  testing::internal::CaptureStderr();
  nodes_[0]->peers->broken(between(*nodes_[0], *nodes_[1]), "reset", now_);
  settle();
  const size_t dials_before = dials_.size();
  for (int second = 0; second < 3600; ++second) {
    pass(seconds(1));
    g_log_time = now_;
    report_suppressed_lines();
  }
  const std::string log = testing::internal::GetCapturedStderr();
  EXPECT_GT(dials_.size(), dials_before + 600) << "it is tried all the time";
  EXPECT_LE(count_of(log, "\n"), 60u * 4) << log;
  EXPECT_GE(count_of(log, "peer unreachable node=2"), 60u) << "and the log never falls silent";
  EXPECT_GE(count_of(log, "suppressed event=peer.unreachable key=2"), 59u);
}

TEST_F(PeersTest, SilentConnectionIsClosedInTime) {
  PipedNode& a = add(1);
  ChannelPtr silent = a.peers->accepted("10.0.0.9:4000", now_);
  ASSERT_NE(silent, nullptr);
  pass(a.options.handshake_timeout - milliseconds(1));
  EXPECT_FALSE(silent->is_closed());
  pass(milliseconds(1));
  EXPECT_TRUE(silent->is_closed());
}

// As fast as they are closed, silent ones come again. Who says hello meanwhile is let in.
TEST_F(PeersTest, SilentConnectionsMakeRoom) {
  PipedNode& a = add(1);
  PipedNode& b = add(2);
  std::vector<ChannelPtr> silent;
  const auto flood = [&](size_t count) {
    for (size_t i = 0; i < count; ++i) silent.push_back(a.peers->accepted("10.0.0.9:4000", now_));
  };
  flood(3 * kMaxPendingHandshakes);
  EXPECT_EQ(std::ranges::count_if(silent, &Channel::is_closed), 2 * kMaxPendingHandshakes);
  EXPECT_TRUE(silent.front()->is_closed()) << "the oldest goes first";
  EXPECT_FALSE(silent.back()->is_closed());
  const ChannelPtr honest = a.peers->accepted("10.0.0.9:4001", now_);
  flood(kMaxPendingHandshakes - 1);
  say_hello(a, honest, b.hello);
  EXPECT_EQ(honest->phase(), Channel::Phase::kMessages);
  flood(2 * kMaxPendingHandshakes);
  EXPECT_FALSE(honest->is_closed());
  pass(a.options.handshake_timeout);
  EXPECT_TRUE(std::ranges::all_of(silent, &Channel::is_closed));
}

// It has all the time of a handshake, though others come as fast as they can.
TEST_F(PeersTest, FloodOfOneHostTakesNoOtherHostsPlace) {
  PipedNode& a = add(1);
  const ChannelPtr slow = a.peers->accepted("10.0.0.8:4000", now_);
  for (size_t i = 0; i < 10 * kMaxPendingHandshakes; ++i) {
    a.peers->accepted("10.0.0.9:4000", now_);
  }
  EXPECT_FALSE(slow->is_closed());
  say_hello(a, slow, add(2).hello);
  EXPECT_EQ(slow->phase(), Channel::Phase::kMessages);
}

TEST_F(PeersTest, FloodOfManyHostsLeavesMembersTheirs) {
  PipedNode& a = add(1);
  a.peers->set_peers({{NodeId(2), {{"10.0.0.2", 7101}}}}, now_);
  const ChannelPtr member = a.peers->accepted("10.0.0.2:4000", now_);
  for (size_t i = 0; i < 3 * kMaxPendingHandshakes; ++i) {
    a.peers->accepted(fmt::format("10.0.{}.{}:4000", 1 + i / 100, i % 100), now_);
  }
  EXPECT_FALSE(member->is_closed());
}

// Refused peers that do not read the refusal.
TEST_F(PeersTest, RefusedConnectionsAreBounded) {
  PipedNode& a = add(1);
  a.refuses = NodeId(9);
  wire::Hello hello = a.hello;
  hello.node_id = NodeId(9);
  std::vector<ChannelPtr> refused;
  for (size_t i = 0; i < 3 * kMaxPendingHandshakes; ++i) {
    const ChannelPtr channel = refused.emplace_back(a.peers->accepted("10.0.0.9:4000", now_));
    say_hello(a, channel, hello);
    EXPECT_TRUE(channel->is_closing()) << "the newest is told why";
  }
  EXPECT_EQ(std::ranges::count_if(refused, &Channel::is_closing), kMaxPendingHandshakes);
  pass(a.options.handshake_timeout);
  EXPECT_EQ(a.peers->next_deadline(), Time::max()) << "they are closed";
}

// A good hello, and then the connection breaks, again and again.
TEST_F(PeersTest, PeerThatBreaksAtOnceIsNotHurried) {
  PipedNode& a = add(1);
  add(2);
  a.peers->set_peers({{NodeId(2), {address(NodeId(2))}}}, now_);
  settle();
  for (int turn = 0; turn < 400; ++turn) {
    for (auto& [channel, end] : std::map(ends_)) {
      if (end.first == &a) a.peers->broken(end.second, "reset", now_);
    }
    settle();
    pass(milliseconds(25));
  }
  EXPECT_GT(dials_.size(), 8u);
  EXPECT_LT(dials_.size(), 60u) << "in ten seconds";
  // One that has stood for a while comes back at once.
  pass(seconds(5));
  const int reached = a.reached[NodeId(2)];
  for (auto& [channel, end] : std::map(ends_)) {
    if (end.first == &a) a.peers->broken(end.second, "reset", now_);
  }
  pass(milliseconds(100));
  EXPECT_EQ(a.reached[NodeId(2)], reached + 1);
}

// Accepted strangers leave no state, and are no longer dialled.
TEST_F(PeersTest, StrangerIsForgottenWhenItLeaves) {
  PipedNode& a = add(1);
  for (uint64_t id = 100; id < 100 + 4 * kMaxStrangers; ++id) {
    wire::Hello hello = a.hello;
    hello.node_id = NodeId(id);
    hello.peer_address = "host:9";
    ChannelPtr channel = a.peers->accepted("10.0.0.9:4000", now_);
    ASSERT_NE(channel, nullptr);
    say_hello(a, channel, hello);
    ASSERT_EQ(channel->phase(), Channel::Phase::kMessages) << "too many peers";
    a.peers->broken(channel, "reset", now_);
    settle();
  }
  EXPECT_TRUE(a.peers->counters().empty());
  EXPECT_EQ(a.peers->next_deadline(), Time::max());
}

// They stay connected, each with an id of its own.
TEST_F(PeersTest, StrangersHaveFewPlaces) {
  PipedNode& a = add(1);
  std::vector<ChannelPtr> strangers;
  const auto let_in = [&](uint64_t id, const std::string& remote) {
    wire::Hello hello = a.hello;
    hello.node_id = NodeId(id);
    const ChannelPtr channel = strangers.emplace_back(a.peers->accepted(remote, now_));
    say_hello(a, channel, hello);
    EXPECT_EQ(channel->phase(), Channel::Phase::kMessages) << "the newest is let in";
    return channel;
  };
  const ChannelPtr other_host = let_in(99, "10.0.0.8:4000");
  for (uint64_t id = 100; id < 100 + 4 * kMaxStrangers; ++id) let_in(id, "10.0.0.9:4000");
  EXPECT_EQ(a.peers->counters().size(), kMaxStrangers);
  EXPECT_FALSE(other_host->is_closed()) << "the host with the most gives way";
  EXPECT_EQ(std::ranges::count_if(strangers, &Channel::is_closed), 3 * kMaxStrangers + 1);
}

// Each stays below the limit of one frame.
TEST_F(PeersTest, UnfinishedMessagesOfStrangersAreBounded) {
  PipedNode& a = add(1);
  const std::string begun = beginning_of_a_large_frame(wire::kMaxFrameBytes - 1000);
  std::vector<ChannelPtr> strangers;
  size_t most = 0;
  for (uint64_t id = 100; id < 106; ++id) {
    wire::Hello hello = a.hello;
    hello.node_id = NodeId(id);
    const ChannelPtr channel = strangers.emplace_back(a.peers->accepted("10.0.0.9:4000", now_));
    say_hello(a, channel, hello);
    give(a, channel, begun.substr(0, id == 100 ? size_t{1} << 20 : begun.size()));
    size_t bytes = 0;
    for (const ChannelPtr& each : strangers) bytes += each->is_closed() ? 0 : each->partial_bytes();
    most = std::max(most, bytes);
  }
  EXPECT_LE(most, kMaxStrangersBytes);
  EXPECT_GT(most, wire::kMaxFrameBytes);
  EXPECT_FALSE(strangers.front()->is_closed()) << "who has sent most is cut off";
}

TEST_F(PeersTest, MembersMayAllSendLargeMessages) {
  PipedNode& a = add(1);
  const std::string begun = beginning_of_a_large_frame(wire::kMaxFrameBytes - 1000);
  std::map<NodeId, std::vector<Address>> members;
  for (uint64_t id = 2; id < 6; ++id) members[NodeId(id)] = {address(NodeId(id))};
  a.peers->set_peers(members, now_);
  for (const auto& [id, addresses] : members) {
    wire::Hello hello = a.hello;
    hello.node_id = id;
    const ChannelPtr channel = a.peers->accepted("10.0.0.9:4000", now_);
    say_hello(a, channel, hello);
    give(a, channel, begun);
    EXPECT_FALSE(channel->is_closed());
  }
}

// Nothing that comes behind it is delivered; the other direction breaks with it, and both return.
TEST_F(PeersTest, MessageThatCannotBeTrueBreaks) {
  PipedNode& a = add(1);
  PipedNode& b = add(2);
  introduce();
  settle();
  ASSERT_EQ(b.reached[NodeId(1)], 1);
  b.fault = "it contradicts";
  a.send(NodeId(2), 7);
  a.send(NodeId(2), 8);
  settle();
  EXPECT_EQ(b.rounds.size(), 1u);
  EXPECT_EQ(b.lost[NodeId(1)], 1);
  b.fault.clear();
  pass(seconds(2));
  a.send(NodeId(2), 9);
  settle();
  EXPECT_EQ(b.rounds.back().second, 9u);
}

TEST_F(PeersTest, MessageInAnothersNameBreaks) {
  PipedNode& a = add(1);
  add(2);
  introduce();
  settle();
  nodes_[1]->peers->send(NodeId(1), heartbeat(NodeId(3), NodeId(1), 1));
  nodes_[1]->peers->flush();
  settle();
  EXPECT_TRUE(a.rounds.empty());
  EXPECT_EQ(a.lost[NodeId(2)], 1);
}

TEST_F(PeersTest, RefusedPeerIsTriedAgainInASecond) {
  PipedNode& a = add(1);
  PipedNode& b = add(2);
  b.refuses = NodeId(1);
  a.peers->set_peers({{NodeId(2), {address(NodeId(2))}}}, now_);
  settle();
  ASSERT_EQ(a.refusals.size(), 1u);
  pass(milliseconds(499));
  EXPECT_EQ(dials_.size(), 1u);
  b.refuses = NodeId();
  pass(milliseconds(501));
  EXPECT_EQ(a.reached[NodeId(2)], 1);
}

TEST_F(PeersTest, RefusalIsLoggedAndToldWithoutControls) {
  PipedNode& a = add(1);
  a.peers->set_peers({{NodeId(2), {address(NodeId(2))}}}, now_);
  SocketWork work;
  a.peers->take_work(work);
  ASSERT_EQ(work.dial.size(), 1u);
  const ChannelPtr channel = work.dial[0].channel;
  a.peers->connected(channel, "host", now_);
  std::string stream(wire::kPeerMagic);
  wire::append_refusal(stream, {wire::RefusalCode::kOther, "a\nb\x1b[31m"});
  std::memcpy(channel->read_space().data(), stream.data(), stream.size());
  a.peers->received(channel, stream.size(), now_);
  ASSERT_EQ(a.refusals.size(), 1u);
  EXPECT_EQ(a.refusals[0].second, "a b [31m");
}

TEST_F(PeersTest, HandlerMayTakeThePeerAway) {
  PipedNode& a = add(1);
  PipedNode& b = add(2);
  introduce();
  settle();
  a.on_lost = [&] { a.peers->set_peers({}, now_); };
  b.peers->stop();
  settle();
  EXPECT_EQ(a.lost[NodeId(2)], 1);
  EXPECT_TRUE(a.peers->counters().empty());
  EXPECT_EQ(a.peers->next_deadline(), Time::max());
}

TEST_F(PeersTest, HandlerMayStopEverything) {
  PipedNode& a = add(1);
  PipedNode& b = add(2);
  introduce();
  settle();
  a.on_lost = [&] { a.peers->stop(); };
  b.peers->stop();
  settle();
  pass(seconds(10));
  EXPECT_EQ(a.lost[NodeId(2)], 1);
  EXPECT_EQ(a.reached[NodeId(2)], 1);
}

}  // namespace
}  // namespace connectd::transport
