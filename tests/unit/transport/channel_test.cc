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

wire::PeerMessage heartbeat(uint64_t round) {
  return transport::heartbeat(NodeId(2), NodeId(1), round);
}

wire::PeerMessage chunk_of(size_t size, char fill) {
  wire::SnapshotChunk chunk;
  chunk.file.mark = {Index(1), Term(1)};
  chunk.file.bytes = size;
  chunk.bytes = Slice::copy_of(std::string(size, fill));
  return chunk;
}

std::string frame_of(const wire::PeerMessage& message) {
  std::string out;
  EXPECT_TRUE(wire::append_frame(out, message));
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
  for (uint64_t round = 1; round <= 20; ++round) stream += frame_of(heartbeat(round));
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
  const std::string good = greeting() + frame_of(heartbeat(1));
  for (size_t at = 0; at < good.size(); ++at) {
    std::string stream = good;
    stream[at] = static_cast<char>(stream[at] ^ 0x40);
    Reader reader;
    reader.give(stream);
    // A length that became larger waits for more bytes. Everything else is noticed.
    EXPECT_TRUE(!reader.why.empty() || reader.handshakes + reader.messages.size() < 2) << at;
  }
}

TEST(ChannelTest, AClientOnThePeerPortIsTold) {
  for (const char* text : {"GET / HTTP/1.1\r\n", "incr\n", "C\n", "CONNECTE"}) {
    Reader reader;
    reader.give(text);
    EXPECT_THAT(reader.why, HasSubstr("is a client using the peer port?")) << text;
  }
}

TEST(ChannelTest, OnlyAHandshakeComesFirst) {
  Reader reader;
  reader.give(std::string(wire::kPeerMagic) + frame_of(heartbeat(1)));
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
  reader.give(frame_of(heartbeat(1)));
  EXPECT_THAT(reader.why, HasSubstr("unexpected frame"));
}

TEST(ChannelTest, ASecondHelloBreaks) {
  Reader reader;
  reader.give(greeting());
  reader.give(greeting().substr(wire::kPeerMagic.size()));
  EXPECT_EQ(reader.why, "duplicate hello");
}

TEST(ChannelTest, AHeaderOverTheLimitTakesNoMemory) {
  std::string frame = frame_of(heartbeat(1));
  store_le<uint32_t>(reinterpret_cast<uint8_t*>(frame.data()), wire::kMaxFrameBytes + 1);
  Reader reader;
  reader.give(greeting() + frame);
  EXPECT_NE(reader.why, "");
  EXPECT_LE(reader.channel.read_space().size(), kBlockBytes);
}

TEST(ChannelTest, AClosingConnectionDropsWhatComes) {
  Reader reader;
  reader.give(greeting() + frame_of(heartbeat(1)).substr(0, 10));
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
