// One connection's bytes, without a socket.
#include "transport/channel.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <string>
#include <vector>

#include "base/random.h"
#include "tests/unit/transport/messages.h"

namespace connectd::transport {
namespace {

using ::testing::HasSubstr;
using Phase = Channel::Phase;

wire::PeerMessage heartbeat_of(uint64_t round) {
  return transport::heartbeat(NodeId(2), NodeId(1), round);
}

wire::PeerMessage chunk_of(size_t size, char fill) {
  wire::SnapshotChunk chunk;
  chunk.file.mark = {Index(1), Term(1)};
  chunk.file.bytes = size;
  chunk.bytes = Slice::copy_of(std::string(size, fill));
  return chunk;
}

std::string frame_of(const wire::PeerMessage& message,
                     wire::FrameVersion version = wire::FrameVersion::kFirst) {
  std::string out;
  EXPECT_TRUE(wire::append_frame(out, message, version));
  return out;
}

std::string greeting() {
  wire::Hello hello;
  hello.cluster_name = "test";
  hello.plugin_name = "counter";
  hello.node_id = NodeId(2);
  hello.to = NodeId(1);
  std::string out(wire::kPeerMagic);
  wire::append_hello(out, hello);
  return out;
}

// An accepted connection, and what its bytes have become.
struct Reader {
  Reader() { channel.set_phase(Phase::kMagic); }

  // Hands over `bytes` in reads of at most `most`.
  void give(std::string_view bytes, size_t most = SIZE_MAX) {
    while (!bytes.empty() && why.empty()) {
      std::span<uint8_t> space = channel.read_space();
      ASSERT_FALSE(space.empty());
      const size_t length = std::min({bytes.size(), space.size(), most});
      std::memcpy(space.data(), bytes.data(), length);
      bytes.remove_prefix(length);
      channel.received(length);
      take();
    }
  }
  void take() {
    while (why.empty()) {
      Channel::Input input = channel.next();
      if (auto* message = std::get_if<Channel::Message>(&input)) {
        frame_bytes += message->frame_bytes;
        messages.push_back(std::move(message->message));
      } else if (std::holds_alternative<wire::Handshake>(input)) {
        handshakes++;
        channel.set_phase(next_phase);
      } else if (auto* broken = std::get_if<Channel::Broken>(&input)) {
        why = broken->why;
      } else {
        return;
      }
    }
  }

  Channel channel{1, NodeId(), "10.0.0.2:40000"};
  Phase next_phase = Phase::kMessages;
  std::vector<wire::PeerMessage> messages;
  size_t frame_bytes = 0;
  int handshakes = 0;
  std::string why;
};

TEST(ChannelTest, ReadsOfAnySizeGiveTheSameMessages) {
  std::string stream = greeting();
  for (uint64_t round = 1; round <= 20; ++round) stream += frame_of(heartbeat_of(round));
  for (size_t most = 1; most <= stream.size(); ++most) {
    Reader reader;
    reader.give(stream, most);
    EXPECT_EQ(reader.why, "");
    EXPECT_EQ(reader.handshakes, 1);
    ASSERT_EQ(reader.messages.size(), 20u) << most;
    for (uint64_t i = 0; i < 20; ++i) EXPECT_EQ(round_of(reader.messages[i]), i + 1);
    EXPECT_EQ(reader.frame_bytes, stream.size() - greeting().size());
  }
}

// Messages live on while the block that they may share is used again.
TEST(ChannelTest, MessagesKeepTheirBytes) {
  Random random(7);
  Reader reader;
  reader.give(greeting());
  std::vector<std::pair<size_t, char>> sent;
  std::string stream;
  for (int i = 0; i < 200; ++i) {
    const size_t sizes[] = {1, 100, 5000, kBlockBytes / kShareDivisor, kBlockBytes - 300, 300'000};
    sent.emplace_back(sizes[random.below(std::size(sizes))], static_cast<char>('a' + i % 26));
    stream += frame_of(chunk_of(sent.back().first, sent.back().second));
    if (random.chance(50)) {
      reader.give(stream, 1 + random.below(kBlockBytes));
      stream.clear();
    }
  }
  reader.give(stream);
  ASSERT_EQ(reader.messages.size(), sent.size());
  for (size_t i = 0; i < sent.size(); ++i) {
    const auto& chunk = std::get<wire::SnapshotChunk>(reader.messages[i]);
    EXPECT_TRUE(chunk.bytes.text() == std::string(sent[i].first, sent[i].second)) << i;
  }
}

TEST(ChannelTest, EveryChangedByteBreaks) {
  const std::string good = greeting() + frame_of(heartbeat_of(1));
  for (size_t at = 0; at < good.size(); ++at) {
    std::string stream = good;
    stream[at] = static_cast<char>(stream[at] ^ 0x40);
    Reader reader;
    reader.give(stream);
    // A length that became larger waits for more bytes. Everything else is noticed.
    EXPECT_TRUE(!reader.why.empty() || reader.handshakes + reader.messages.size() < 2) << at;
  }
}

// Also of a message that the other side could not complete: nothing waits for a length.
TEST(ChannelTest, ChangedLengthBreaksAtOnceInVersionTwo) {
  const std::string frame = frame_of(heartbeat_of(1), wire::FrameVersion::kCheckedHeader);
  for (size_t bit = 0; bit < 32; ++bit) {
    Reader reader;
    reader.give(greeting());
    reader.channel.set_frame_version(wire::FrameVersion::kCheckedHeader);
    std::string bad = frame;
    bad[bit / 8] = static_cast<char>(bad[bit / 8] ^ (1 << bit % 8));
    reader.give(bad.substr(0, wire::kFrameHeaderBytes));
    EXPECT_THAT(reader.why, HasSubstr("frame header")) << bit;
  }
}

TEST(ChannelTest, MessagesHaveTheVersionOfTheHellos) {
  using wire::FrameVersion;
  for (auto used : {FrameVersion::kFirst, FrameVersion::kCheckedHeader}) {
    for (auto sent : {FrameVersion::kFirst, FrameVersion::kCheckedHeader}) {
      Reader reader;
      reader.give(greeting());
      reader.channel.set_frame_version(used);
      reader.give(frame_of(heartbeat_of(1), sent));
      EXPECT_EQ(reader.messages.size(), used == sent ? 1u : 0u);
      EXPECT_EQ(reader.why.empty(), used == sent) << reader.why;
    }
  }
}

TEST(ChannelTest, PartialMessageHasADeadline) {
  const Time start = Time() + std::chrono::hours(1);
  Reader reader;
  reader.give(greeting() + frame_of(heartbeat_of(1)));
  reader.channel.expect_rest(start);
  EXPECT_EQ(reader.channel.deadline(), Time::max());
  const std::string small = frame_of(heartbeat_of(2));
  reader.give(small.substr(0, 3));
  reader.channel.expect_rest(start);
  EXPECT_EQ(reader.channel.deadline(), start + kFrameTimeout);
  reader.give(small.substr(3, 3));  // bytes that drip do not help a small message
  reader.channel.expect_rest(start + std::chrono::seconds(3));
  EXPECT_LT(reader.channel.deadline(), start + kFrameTimeout + std::chrono::milliseconds(1));
  reader.give(small.substr(6));
  reader.channel.expect_rest(start + std::chrono::seconds(4));
  EXPECT_EQ(reader.channel.deadline(), Time::max());
  // A large one has the time that its bytes take on a slow link, as long as they come.
  const std::string large = frame_of(chunk_of(kFrameBytesPerSecond * 10, 'x'));
  Time now = start;
  for (size_t at = 0; at < large.size(); at += 100'000) {
    reader.give(large.substr(at, 100'000));
    reader.channel.expect_rest(now);
    if (at + 100'000 < large.size()) {
      EXPECT_LE(reader.channel.deadline(), now + kFrameTimeout);
      EXPECT_GT(reader.channel.deadline(), now);
    }
    now += std::chrono::milliseconds(1900);
  }
  EXPECT_EQ(reader.why, "");
  EXPECT_EQ(reader.channel.deadline(), Time::max());
}

// What came fast buys no time for a trickle behind it.
TEST(ChannelTest, TrickleDoesNotKeepAPartialMessage) {
  Time now = Time() + std::chrono::hours(1);
  Reader reader;
  const std::string large = frame_of(chunk_of(kFrameBytesPerSecond * 100, 'x'));
  reader.give(greeting() + large.substr(0, large.size() - 100));
  reader.channel.expect_rest(now);
  const Time begun = now;
  for (size_t left = 100; left > 50; --left) {
    now += std::chrono::seconds(1);
    if (reader.channel.deadline() <= now) break;
    reader.give(large.substr(large.size() - left, 1));
    reader.channel.expect_rest(now);
  }
  EXPECT_LE(now, begun + kFrameTimeout + std::chrono::seconds(1));
  EXPECT_LE(reader.channel.deadline(), now);
}

TEST(ChannelTest, ClientOnThePeerPortIsTold) {
  for (const char* text : {"GET / HTTP/1.1\r\n", "incr\n", "C\n", "CONNECTE"}) {
    Reader reader;
    reader.give(text);
    EXPECT_THAT(reader.why, HasSubstr("is a client using the peer port?")) << text;
  }
}

TEST(ChannelTest, OnlyAHandshakeComesFirst) {
  Reader reader;
  reader.give(std::string(wire::kPeerMagic) + frame_of(heartbeat_of(1)));
  EXPECT_THAT(reader.why, HasSubstr("unexpected frame"));
  EXPECT_TRUE(reader.messages.empty());
}

TEST(ChannelTest, OnlyARefusalComesToADialler) {
  Reader reader;
  reader.next_phase = Phase::kRefusalOnly;
  reader.give(greeting());
  std::string refusal;
  wire::append_refusal(refusal, {wire::RefusalCode::kOther, "no"});
  reader.give(refusal);
  EXPECT_EQ(reader.handshakes, 2);
  reader.channel.set_phase(Phase::kRefusalOnly);
  reader.give(frame_of(heartbeat_of(1)));
  EXPECT_THAT(reader.why, HasSubstr("unexpected frame"));
}

TEST(ChannelTest, SecondHelloBreaks) {
  Reader reader;
  reader.give(greeting());
  reader.give(greeting().substr(wire::kPeerMagic.size()));
  EXPECT_EQ(reader.why, "duplicate hello");
}

TEST(ChannelTest, HeaderOverTheLimitTakesNoMemory) {
  std::string frame = frame_of(heartbeat_of(1));
  store_le<uint32_t>(reinterpret_cast<uint8_t*>(frame.data()), wire::kMaxFrameBytes + 1);
  Reader reader;
  reader.give(greeting() + frame);
  EXPECT_NE(reader.why, "");
  EXPECT_LE(reader.channel.read_space().size(), kBlockBytes);
}

TEST(ChannelTest, ClosingConnectionDropsWhatComes) {
  Reader reader;
  reader.give(greeting() + frame_of(heartbeat_of(1)).substr(0, 10));
  reader.channel.set_phase(Phase::kClosing);
  for (int i = 0; i < 1000; ++i) reader.give(std::string(kBlockBytes, 'x'));
  EXPECT_EQ(reader.why, "");
  EXPECT_TRUE(reader.messages.empty());
}

TEST(ChannelTest, OutputLeavesInOrderInPiecesOfAnySize) {
  Random random(3);
  Channel channel(1, NodeId(2), "");
  std::string written;
  std::string sent;
  for (int i = 0; i < 300; ++i) {
    std::string frame(random.below(100'000), static_cast<char>('a' + i % 26));
    channel.output() += frame;
    written += frame;
    const size_t length = random.below(channel.unsent().size() + 1);
    sent += channel.unsent().substr(0, length);
    channel.sent(length);
  }
  sent += channel.unsent();
  channel.sent(channel.unsent().size());
  EXPECT_TRUE(sent == written);
  EXPECT_EQ(channel.output().size(), 0u);
  EXPECT_LE(channel.output().capacity(), kKeepOutputBytes);
}

}  // namespace
}  // namespace connectd::transport
