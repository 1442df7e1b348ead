#include "wire/peer_codec.h"

#include <gtest/gtest.h>

#include <fstream>
#include <functional>
#include <iterator>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "base/checksum.h"
#include "base/limits.h"
#include "base/random.h"
#include "tests/paths.h"
#include "wire/limits.h"

namespace connectd::wire {
namespace {

raft::Entry entry_at(uint64_t index, uint64_t term, std::string_view payload) {
  raft::Entry entry;
  entry.index = Index(index);
  entry.term = Term(term);
  entry.kind = raft::EntryKind::kCommand;
  entry.session = SessionId(3);
  entry.sequence = Sequence(4);
  entry.acked_below = Sequence(2);
  entry.stamp_ns = 1767312000000000000;
  entry.payload = Slice::copy_of(payload);
  entry.checksum = raft::entry_checksum(entry);
  return entry;
}

raft::Envelope envelope(raft::Message message) {
  return {NodeId(1), NodeId(2), Term(7), std::move(message)};
}

ForwardProposals sample_forward() {
  ForwardProposals forward{Term(7), {}};
  for (uint64_t i = 1; i <= 2; i++) {
    forward.proposals.push_back({raft::EntryKind::kCommand, SessionId(5), Sequence(i),
                                 Sequence(i - 1), Slice::copy_of("incr")});
  }
  forward.proposals.push_back(
      {raft::EntryKind::kSessionOpen, SessionId(), Sequence(), Sequence(), Slice()});
  return forward;
}

SnapshotFile sample_file() { return {{Index(100), Term(5)}, 1000, 0x4142434445464748}; }

DigestReport sample_report() {
  return {Term(7),   Compared::kState,   true,     0x0a0b0c0d0e0f1011, 0x2122232425262728,
          Index(90), 0x3132333435363738, Index(3), Index(100)};
}

// One of each type, with every field different from its default.
std::vector<PeerMessage> samples() {
  raft::AppendRequest append{Index(9), Term(6), Index(8), 77, {}};
  append.entries = {entry_at(10, 6, "incr"), entry_at(11, 7, ""), entry_at(12, 7, "get x")};
  return {
      envelope(raft::PreVoteRequest{Index(10), Term(6)}),
      envelope(raft::PreVoteResponse{true}),
      envelope(raft::VoteRequest{Index(10), Term(6), true}),
      envelope(raft::VoteResponse{true, -5}),
      envelope(append),
      envelope(raft::AppendRequest{Index(9), Term(6), Index(8), 78, {}}),
      envelope(raft::AppendResponse{true, Index(1), Index(2), Term(3), 4, 5}),
      envelope(raft::Heartbeat{Index(9), 3}),
      envelope(raft::HeartbeatResponse{3, 1767312000000000000}),
      envelope(raft::TimeoutNow{}),
      envelope(raft::ReadIndexRequest{0xfedcba9876543210}),
      envelope(raft::ReadIndexResponse{12, Index(34)}),
      sample_forward(),
      ForwardRefused{Term(6), Term(7), NodeId(3)},
      SnapshotChunk{sample_file(), Term(7), 900, Slice::copy_of("the last bytes")},
      SnapshotAck{sample_file(), 914, SnapshotAck::State::kInstalled},
      GenesisOffer{"the founding document"},
      GenesisAccepted{0x1122334455667788},
      sample_report(),
      DigestQuery{Term(7), Compared::kState, Index(0x0102030405060708)},
      ChangeRequest{7, "change"},
      ChangeAnswer{7, "outcome"},
      DiskReport{Term(7), true, false, true},
      DivergenceVerdict{Term(7), Compared::kState, DivergenceVerdict::Kind::kNoMajority, Index(90),
                        Index(91), 0x1111111111111111, 0x2222222222222222},
      SnapshotOffer{sample_file(), Term(7)},
  };
}

Hello sample_hello() {
  Hello hello;
  hello.cluster_name = "demo";
  for (uint8_t i = 0; i < 16; i++) {
    hello.cluster_id.bytes[i] = i;
    hello.disk_id.bytes[i] = static_cast<uint8_t>(0xf0 + i);
  }
  hello.node_id = NodeId(1);
  hello.to = NodeId(2);
  hello.plugin_name = "counter";
  hello.plugin_level_min = 1;
  hello.plugin_level_max = 3;
  hello.plugin_level = 2;
  return hello;
}

std::string encode(const PeerMessage& message) {
  std::string out;
  EXPECT_TRUE(append_frame(out, message));
  return out;
}
std::string encode(const Hello& hello) {
  std::string out;
  append_hello(out, hello);
  return out;
}

// Header, body in a block of its own exact size, message.
Result<PeerMessage> decode(std::string_view bytes) {
  auto header = decode_frame_header(as_bytes(bytes));
  if (!header) return failure(header.error());
  bytes.remove_prefix(kFrameHeaderBytes);
  if (bytes.size() != header->length)
    return failure(ErrorKind::kCorrupt, "length and bytes differ");
  return decode_frame(*header, Slice::copy_of(bytes));
}

// The frame with its body changed and the header made to fit again: what an honest but wrong, or a
// malicious, peer sends.
std::string with_body(std::string_view frame, std::string_view body) {
  std::string out(frame.substr(0, kFrameHeaderBytes));
  auto* header = reinterpret_cast<uint8_t*>(out.data());
  store_le<uint32_t>(header, static_cast<uint32_t>(body.size()));
  store_le<uint64_t>(header + 16, checksum64(as_bytes(body), checksum64({header, 16})));
  out.append(body);
  return out;
}

std::optional<Hello> decode_hello(std::string_view bytes) {
  auto header = decode_frame_header(as_bytes(bytes));
  if (!header) return std::nullopt;
  auto handshake = decode_handshake(*header, as_bytes(bytes.substr(kFrameHeaderBytes)));
  if (!handshake) return std::nullopt;
  return std::get<Hello>(*handshake);
}

std::string hex(std::string_view bytes) {
  std::string out;
  for (char c : bytes) out += fmt::format("{:02x}", static_cast<uint8_t>(c));
  return out;
}

TEST(PeerCodec, EveryTypeComesBackAsItWas) {
  std::set<std::pair<size_t, size_t>> types;
  for (const PeerMessage& message : samples()) {
    const auto* raft_message = std::get_if<raft::Envelope>(&message);
    types.insert({message.index(), raft_message ? raft_message->message.index() : 0});
    std::string bytes = encode(message);
    auto back = decode(bytes);
    ASSERT_TRUE(back) << back.error().text;
    EXPECT_EQ(back->index(), message.index());
    EXPECT_EQ(hex(encode(*back)), hex(bytes));
  }
  size_t count = std::variant_size_v<raft::Message> + std::variant_size_v<PeerMessage> - 1;
  EXPECT_EQ(types.size(), count) << "a type has no sample";
}

TEST(PeerCodec, FieldsLandWhereTheyBelong) {
  auto back = decode(encode(samples()[4]));
  ASSERT_TRUE(back);
  const auto& envelope = std::get<raft::Envelope>(*back);
  EXPECT_EQ(envelope.from, NodeId(1));
  EXPECT_EQ(envelope.to, NodeId(2));
  EXPECT_EQ(envelope.term, Term(7));
  const auto& append = std::get<raft::AppendRequest>(envelope.message);
  EXPECT_EQ(append.prev_index, Index(9));
  EXPECT_EQ(append.prev_term, Term(6));
  EXPECT_EQ(append.commit, Index(8));
  EXPECT_EQ(append.round, 77u);
  ASSERT_EQ(append.entries.size(), 3u);
  EXPECT_EQ(append.entries[2].payload.text(), "get x");
  EXPECT_EQ(append.entries[2].index, Index(12));
  EXPECT_EQ(append.entries[2].acked_below, Sequence(2));
  EXPECT_EQ(append.entries[2].stamp_ns, 1767312000000000000);

  back = decode(encode(sample_forward()));
  ASSERT_TRUE(back);
  const auto& forward = std::get<ForwardProposals>(*back);
  ASSERT_EQ(forward.proposals.size(), 3u);
  EXPECT_EQ(forward.proposals[1].sequence, Sequence(2));
  EXPECT_EQ(forward.proposals[1].acked_below, Sequence(1));
  EXPECT_EQ(forward.proposals[1].payload.text(), "incr");
  EXPECT_EQ(forward.proposals[2].kind, raft::EntryKind::kSessionOpen);

  back = decode(encode(samples()[14]));
  ASSERT_TRUE(back);
  const auto& chunk = std::get<SnapshotChunk>(*back);
  EXPECT_EQ(chunk.file, sample_file());
  EXPECT_EQ(chunk.leader_term, Term(7));
  EXPECT_EQ(chunk.offset, 900u);
  EXPECT_EQ(chunk.bytes.text(), "the last bytes");
}

TEST(PeerCodec, PayloadsShareTheReceivedBytes) {
  std::string bytes = encode(samples()[4]);
  auto header = decode_frame_header(as_bytes(bytes));
  ASSERT_TRUE(header);
  Slice body = Slice::copy_of(std::string_view(bytes).substr(kFrameHeaderBytes));
  auto back = decode_frame(*header, body);
  ASSERT_TRUE(back);
  const auto& append = std::get<raft::AppendRequest>(std::get<raft::Envelope>(*back).message);
  const uint8_t* payload = append.entries[2].payload.data();
  EXPECT_GE(payload, body.data());
  EXPECT_LE(payload + append.entries[2].payload.size(), body.data() + body.size());
}

// The samples of docs/protocol.md, in their order. A change of these is a change of the protocol.
TEST(PeerCodec, GoldenSamplesAreThoseOfTheDocumentation) {
  std::ifstream file(CONNECTD_SOURCE_DIR "/docs/protocol.md");
  std::string page((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
  size_t at = page.find("### Golden samples");
  ASSERT_NE(at, std::string::npos);
  std::vector<std::string> samples_of_page;
  for (at = page.find("```\n", at); at != std::string::npos; at = page.find("```\n", at)) {
    size_t end = page.find("```\n", at + 4);
    ASSERT_NE(end, std::string::npos);
    std::string sample;
    for (char c : page.substr(at + 4, end - at - 4)) {
      if (c != ' ' && c != '\n') sample.push_back(c);
    }
    samples_of_page.push_back(std::move(sample));
    at = end + 4;
  }
  std::string refusal;
  append_refusal(refusal, {RefusalCode::kPluginName, "no"});
  raft::AppendRequest append{Index(9), Term(6), Index(8), 77, {entry_at(10, 7, "incr")}};
  DivergenceVerdict verdict{Term(7),           Compared::kReplies, DivergenceVerdict::Kind::kStop,
                            Index(89),         Index(90),          0x1111111111111111,
                            0x2222222222222222};
  EXPECT_EQ(
      samples_of_page,
      (std::vector<std::string>{
          hex(encode(sample_hello())), hex(refusal),
          hex(encode(envelope(raft::Heartbeat{Index(9), 3}))), hex(encode(envelope(append))),
          hex(encode(ForwardRefused{Term(6), Term(7), NodeId(3)})), hex(encode(sample_report())),
          hex(encode(DigestQuery{Term(7), Compared::kReplies, Index(90)})), hex(encode(verdict)),
          hex(encode(SnapshotOffer{sample_file(), Term(7)})),
          hex(encode(SnapshotAck{sample_file(), 914, SnapshotAck::State::kReceiving})),
          hex(encode(DiskReport{Term(7), true, false, true}))}));
}

TEST(PeerCodec, EveryTruncationIsAnError) {
  for (const PeerMessage& message : samples()) {
    std::string bytes = encode(message);
    std::string_view body = std::string_view(bytes).substr(kFrameHeaderBytes);
    for (size_t length = 0; length < body.size(); length++) {
      // These end in bytes without a count: there a shorter body is another message.
      bool is_open_ended = (std::holds_alternative<SnapshotChunk>(message) && length >= 48) ||
                           (std::holds_alternative<ChangeRequest>(message) && length >= 8) ||
                           (std::holds_alternative<ChangeAnswer>(message) && length >= 8) ||
                           std::holds_alternative<GenesisOffer>(message);
      auto back = decode(with_body(bytes, body.substr(0, length)));
      EXPECT_EQ(back.has_value(), is_open_ended) << "length " << length << " of " << body.size();
      if (!back) {
        EXPECT_NE(back.error().text.find("malformed"), std::string::npos);
      }
    }
    auto longer = decode(with_body(bytes, std::string(body) + '\0'));
    bool is_open_ended = std::holds_alternative<SnapshotChunk>(message) ||
                         std::holds_alternative<ChangeRequest>(message) ||
                         std::holds_alternative<ChangeAnswer>(message) ||
                         std::holds_alternative<GenesisOffer>(message);
    EXPECT_EQ(longer.has_value(), is_open_ended);
  }
}

TEST(PeerCodec, EveryFlippedBitIsAnError) {
  for (const PeerMessage& message : samples()) {
    std::string bytes = encode(message);
    for (size_t bit = 0; bit < bytes.size() * 8; bit++) {
      std::string flipped = bytes;
      flipped[bit / 8] = static_cast<char>(flipped[bit / 8] ^ (1 << (bit % 8)));
      EXPECT_FALSE(decode(flipped)) << "bit " << bit;
    }
  }
}

// A damaged entry in a frame whose own checksum fits: the sender's memory or disk was bad.
TEST(PeerCodec, EveryFlippedBitOfAnEntryIsSeenByItsOwnChecksum) {
  raft::AppendRequest append{Index(9), Term(6), Index(8), 77, {entry_at(10, 7, "incr")}};
  std::string bytes = encode(envelope(append));
  std::string body = bytes.substr(kFrameHeaderBytes);
  const size_t entry_offset = 24 + 4 * 8 + 4;
  for (size_t bit = entry_offset * 8; bit < body.size() * 8; bit++) {
    std::string flipped = body;
    flipped[bit / 8] = static_cast<char>(flipped[bit / 8] ^ (1 << (bit % 8)));
    EXPECT_FALSE(decode(with_body(bytes, flipped))) << "bit " << bit;
  }
}

std::string error_of(const PeerMessage& message) {
  auto back = decode(encode(message));
  return back ? "no error" : back.error().text;
}

TEST(PeerCodec, EntriesMustBeContiguousAndTheirTermsMustRise) {  // catalogue row 23
  raft::AppendRequest append{Index(9), Term(6), Index(8), 77, {}};
  append.entries = {entry_at(10, 6, "a"), entry_at(12, 6, "b")};
  EXPECT_NE(error_of(envelope(append)).find("the entry at place 1 has index 12 and term 6"),
            std::string::npos);
  append.entries = {entry_at(10, 5, "a")};
  EXPECT_NE(error_of(envelope(append)).find("after index 9 and term 6"), std::string::npos);
  append.entries = {entry_at(10, 8, "a")};
  EXPECT_NE(error_of(envelope(append)).find("has index 10 and term 8"), std::string::npos);
  append.prev_index = Index(~uint64_t{0});
  append.entries = {entry_at(0, 7, "a")};
  EXPECT_NE(error_of(envelope(append)).find("is over its limit"), std::string::npos);
  append.prev_index = Index();
  EXPECT_NE(error_of(envelope(append)).find("invalid entry header"), std::string::npos);
}

TEST(PeerCodec, EntryOfUnknownKindIsNamed) {
  raft::AppendRequest append{Index(9), Term(6), Index(8), 77, {entry_at(10, 7, "abc")}};
  raft::Entry& entry = append.entries[0];
  entry.kind = static_cast<raft::EntryKind>(250);
  entry.checksum = raft::entry_checksum(entry);
  std::string text = error_of(envelope(append));
  EXPECT_NE(text.find("the entry at index 10 has kind 250, which connectd "), std::string::npos)
      << text;
  EXPECT_NE(text.find("feature level 1"), std::string::npos) << text;
  // Checksum first, then kind.
  entry.checksum ^= 1;
  EXPECT_NE(error_of(envelope(append)).find("invalid entry header"), std::string::npos);

  entry.kind = static_cast<raft::EntryKind>(raft::kReservedEntryKind);
  entry.checksum = raft::entry_checksum(entry);
  text = error_of(envelope(append));
  EXPECT_NE(text.find("the entry at index 10 has kind 6,"), std::string::npos) << text;
}

TEST(PeerCodec, ForwardsOnlyWhatHoldersPropose) {
  for (const raft::EntryKindRow& row : raft::kEntryKinds) {
    ForwardProposals forward{Term(7), {}};
    forward.proposals.emplace_back().kind = row.kind;
    auto back = decode(encode(forward));
    EXPECT_EQ(back.has_value(), raft::may_be_forwarded(row.kind)) << row.name;
    if (!back && raft::is_known_entry_kind(static_cast<uint8_t>(row.kind))) {
      EXPECT_NE(back.error().text.find("no node may forward"), std::string::npos);
    }
  }
}

TEST(PeerCodec, CountsAreCheckedBeforeAnythingIsAllocated) {
  std::string bytes = encode(envelope(raft::AppendRequest{Index(9), Term(6), Index(8), 77, {}}));
  std::string body = bytes.substr(kFrameHeaderBytes);
  store_le<uint32_t>(reinterpret_cast<uint8_t*>(body.data()) + body.size() - 4, 0xffffffff);
  auto back = decode(with_body(bytes, body));
  ASSERT_FALSE(back);
  EXPECT_NE(back.error().text.find("the entry count is larger"), std::string::npos);

  bytes = encode(ForwardProposals{Term(7), {}});
  body = bytes.substr(kFrameHeaderBytes);
  store_le<uint32_t>(reinterpret_cast<uint8_t*>(body.data()) + body.size() - 4, 0xffffffff);
  back = decode(with_body(bytes, body));
  ASSERT_FALSE(back);
  EXPECT_NE(back.error().text.find("the proposal count is larger"), std::string::npos);
}

TEST(PeerCodec, UnknownComparedOrVerdictKindIsRejected) {
  auto refused = [](const PeerMessage& message, size_t offset, char value, std::string_view text) {
    std::string bytes = encode(message);
    std::string body = bytes.substr(kFrameHeaderBytes);
    body[offset] = value;
    auto back = decode(with_body(bytes, body));
    ASSERT_FALSE(back);
    EXPECT_NE(back.error().text.find(text), std::string::npos) << back.error().text;
  };
  refused(sample_report(), 8, 2, "malformed");
  refused(sample_report(), 9, 2, "malformed");
  refused(DigestQuery{}, 8, 2, "malformed");
  refused(DiskReport{}, 8, 2, "malformed");
  refused(DiskReport{}, 9, 2, "malformed");
  refused(DiskReport{}, 10, 2, "malformed");
  refused(DivergenceVerdict{}, 8, 2, "malformed");
  refused(DivergenceVerdict{}, 9, 2, "a verdict of unknown kind 2");
}

TEST(PeerCodec, HeadersAreCheckedFieldByField) {
  const std::string good = encode(envelope(raft::Heartbeat{Index(9), 3}));
  struct Case {
    size_t offset;
    uint32_t value;
    const char* text;
  };
  const Case cases[] = {
      {0, kMaxFrameBytes + 1, "announces 33554433 bytes, over the limit of 33554432"},
      {4, 1, "a frame of group 1; this node has group 0 only"},
      {8, 0x0100 | 99, "a frame of type 99, which connectd "},
      {8, 0x0300 | 22, "a frame of version 3; this node supports versions 1 and 2"},
      {8, 0x0200 | 22, "checksum mismatch of a frame header"},
      {8, 0x01000100 | 22, "reserved fields are not zero"},
      {12, 1, "reserved fields are not zero"},
  };
  for (const Case& c : cases) {
    std::string bad = good;
    store_le<uint32_t>(reinterpret_cast<uint8_t*>(bad.data()) + c.offset, c.value);
    auto header = decode_frame_header(as_bytes(bad));
    ASSERT_FALSE(header) << c.text;
    EXPECT_NE(header.error().text.find(c.text), std::string::npos) << header.error().text;
  }
  std::string hello = encode(sample_hello());
  store_le<uint32_t>(reinterpret_cast<uint8_t*>(hello.data()), kMaxHandshakeBytes + 1);
  EXPECT_FALSE(decode_frame_header(as_bytes(hello))) << "a handshake has a limit of its own";
}

// From version 2 on each changed bit of what the header says is noticed without the body.
TEST(PeerCodec, HeaderOfVersionTwoIsCheckedAlone) {
  for (const PeerMessage& message : samples()) {
    std::string good;
    ASSERT_TRUE(append_frame(good, message, FrameVersion::kCheckedHeader));
    auto header = decode_frame_header(as_bytes(good));
    ASSERT_TRUE(header);
    EXPECT_EQ(header->version, FrameVersion::kCheckedHeader);
    EXPECT_TRUE(decode(good));
    EXPECT_EQ(good.substr(kFrameHeaderBytes), encode(message).substr(kFrameHeaderBytes));
    for (size_t bit = 0; bit < 16 * 8; ++bit) {
      std::string bad = good;
      bad[bit / 8] = static_cast<char>(bad[bit / 8] ^ (1 << bit % 8));
      EXPECT_FALSE(decode_frame_header(as_bytes(bad))) << bit;
    }
  }
}

TEST(PeerCodec, VersionIsTheHighestOfBoth) {
  Hello now;
  Hello before;
  before.protocol_max = 1;
  EXPECT_EQ(common_version(now, now), FrameVersion::kCheckedHeader);
  EXPECT_EQ(common_version(now, before), FrameVersion::kFirst);
  EXPECT_EQ(common_version(before, now), FrameVersion::kFirst);
  Hello theirs = sample_hello();
  std::swap(theirs.node_id, theirs.to);
  theirs.protocol_max = 1;
  EXPECT_FALSE(check_hello(sample_hello(), theirs));
}

// Every field that ends in the log, or that a node counts on from: the largest number that is read,
// and the smallest one that is not.
TEST(PeerCodec, NumbersThatStorageCannotReadAreRefused) {
  using Make = std::function<PeerMessage(uint64_t)>;
  auto to_entry = [](auto set) {
    return [set](uint64_t n) {
      raft::Entry entry = entry_at(10, 7, "incr");
      set(entry, n);
      entry.checksum = raft::entry_checksum(entry);
      return envelope(raft::AppendRequest{Index(9), Term(6), Index(8), 77, {entry}});
    };
  };
  auto in_term = [](uint64_t n) {
    return [n](raft::Message message) {
      return PeerMessage(raft::Envelope{NodeId(1), NodeId(2), Term(n), std::move(message)});
    };
  };
  auto report = [](auto set) {
    return [set](uint64_t n) {
      DigestReport message = sample_report();
      set(message, n);
      return PeerMessage(message);
    };
  };
  auto verdict = [](auto set) {
    return [set](uint64_t n) {
      DivergenceVerdict message{Term(7), Compared::kState, {}, Index(1), Index(2), 3, 4};
      set(message, n);
      return PeerMessage(message);
    };
  };
  auto proposal = [](auto set) {
    return [set](uint64_t n) {
      ForwardProposals message = sample_forward();
      set(message.proposals[0], n);
      return PeerMessage(message);
    };
  };
  auto file = [](auto set) {
    return [set](uint64_t n) {
      SnapshotFile of = sample_file();
      set(of, n);
      return PeerMessage(SnapshotOffer{of, Term(7)});
    };
  };
  const std::vector<std::pair<const char*, Make>> fields = {
      {"term of a heartbeat", [&](uint64_t n) { return in_term(n)(raft::Heartbeat{}); }},
      {"term of a vote request", [&](uint64_t n) { return in_term(n)(raft::VoteRequest{}); }},
      {"term of a timeout now", [&](uint64_t n) { return in_term(n)(raft::TimeoutNow{}); }},
      {"last index, pre-vote",
       [](uint64_t n) {
         return envelope(raft::PreVoteRequest{Index(n), Term(6)});
       }},
      {"last term, pre-vote",
       [](uint64_t n) {
         return envelope(raft::PreVoteRequest{Index(1), Term(n)});
       }},
      {"last index, vote",
       [](uint64_t n) {
         return envelope(raft::VoteRequest{Index(n), Term(6), false});
       }},
      {"last term, vote",
       [](uint64_t n) {
         return envelope(raft::VoteRequest{Index(1), Term(n), false});
       }},
      {"previous index",
       [](uint64_t n) {
         return envelope(raft::AppendRequest{Index(n), Term(6), Index(8), 7, {}});
       }},
      {"previous term",
       [](uint64_t n) {
         return envelope(raft::AppendRequest{Index(9), Term(n), Index(8), 7, {}});
       }},
      {"commit of an append",
       [](uint64_t n) {
         return envelope(raft::AppendRequest{Index(9), Term(6), Index(n), 7, {}});
       }},
      {"commit of a heartbeat",
       [](uint64_t n) {
         return envelope(raft::Heartbeat{Index(n), 3});
       }},
      {"index of an answer",
       [](uint64_t n) {
         return envelope(raft::AppendResponse{true, Index(n), Index(2), Term(3), 4, 5});
       }},
      {"hint index",
       [](uint64_t n) {
         return envelope(raft::AppendResponse{true, Index(1), Index(n), Term(3), 4, 5});
       }},
      {"hint term",
       [](uint64_t n) {
         return envelope(raft::AppendResponse{true, Index(1), Index(2), Term(n), 4, 5});
       }},
      {"read index",
       [](uint64_t n) {
         return envelope(raft::ReadIndexResponse{1, Index(n)});
       }},
      {"session of an entry",
       to_entry([](raft::Entry& e, uint64_t n) { e.session = SessionId(n); })},
      {"sequence of an entry",
       to_entry([](raft::Entry& e, uint64_t n) { e.sequence = Sequence(n); })},
      {"acked below of an entry",
       to_entry([](raft::Entry& e, uint64_t n) { e.acked_below = Sequence(n); })},
      {"session of a proposal",
       proposal([](raft::Proposal& p, uint64_t n) { p.session = SessionId(n); })},
      {"sequence of a proposal",
       proposal([](raft::Proposal& p, uint64_t n) { p.sequence = Sequence(n); })},
      {"acked below of a proposal",
       proposal([](raft::Proposal& p, uint64_t n) { p.acked_below = Sequence(n); })},
      {"term of a forward",
       [](uint64_t n) {
         return ForwardProposals{Term(n), {}};
       }},
      {"term of a refusal",
       [](uint64_t n) {
         return ForwardRefused{Term(n), Term(7), NodeId(3)};
       }},
      {"term of a refuser",
       [](uint64_t n) {
         return ForwardRefused{Term(6), Term(n), NodeId(3)};
       }},
      {"index of a file", file([](SnapshotFile& f, uint64_t n) { f.mark.index = Index(n); })},
      {"term of a file", file([](SnapshotFile& f, uint64_t n) { f.mark.term = Term(n); })},
      {"bytes of a file", file([](SnapshotFile& f, uint64_t n) { f.bytes = n; })},
      {"term of an offer",
       [](uint64_t n) {
         return SnapshotOffer{sample_file(), Term(n)};
       }},
      {"term of a chunk",
       [](uint64_t n) {
         return SnapshotChunk{sample_file(), Term(n), 0, Slice()};
       }},
      {"term of a report", report([](DigestReport& m, uint64_t n) { m.leader_term = Term(n); })},
      {"index of a report", report([](DigestReport& m, uint64_t n) { m.index = Index(n); })},
      {"first of a report", report([](DigestReport& m, uint64_t n) { m.first = Index(n); })},
      {"last of a report", report([](DigestReport& m, uint64_t n) { m.last = Index(n); })},
      {"term of a query",
       [](uint64_t n) {
         return DigestQuery{Term(n), Compared::kReplies, Index(1)};
       }},
      {"index of a query",
       [](uint64_t n) {
         return DigestQuery{Term(1), Compared::kReplies, Index(n)};
       }},
      {"term of a verdict",
       verdict([](DivergenceVerdict& m, uint64_t n) { m.leader_term = Term(n); })},
      {"agreed of a verdict",
       verdict([](DivergenceVerdict& m, uint64_t n) { m.agreed = Index(n); })},
      {"index of a verdict", verdict([](DivergenceVerdict& m, uint64_t n) { m.index = Index(n); })},
      {"term of a disk report",
       [](uint64_t n) {
         return DiskReport{Term(n), true, true, true};
       }},
  };
  for (const auto& [name, make] : fields) {
    EXPECT_TRUE(decode(encode(make(kMaxReceivedNumber)))) << name;
    for (uint64_t n : {kMaxReceivedNumber + 1, kMaxNumber, uint64_t{1} << 63, UINT64_MAX}) {
      auto back = decode(encode(make(n)));
      ASSERT_FALSE(back) << name << " " << n;
      EXPECT_NE(back.error().text.find("over its limit"), std::string::npos) << back.error().text;
    }
  }
  // Those of an entry are tied to the request's.
  auto place = [](uint64_t index, uint64_t term) {
    return PeerMessage(raft::Envelope{
        NodeId(1), NodeId(2), Term(kMaxReceivedNumber),
        raft::AppendRequest{Index(index - 1), Term(1), Index(1), 1, {entry_at(index, term, "x")}}});
  };
  EXPECT_TRUE(decode(encode(place(kMaxReceivedNumber, kMaxReceivedNumber))));
  EXPECT_FALSE(decode(encode(place(kMaxReceivedNumber + 1, 1))));
  EXPECT_FALSE(decode(encode(place(2, kMaxReceivedNumber + 1))));
  auto stamped = to_entry([](raft::Entry& e, uint64_t n) { e.stamp_ns = static_cast<int64_t>(n); });
  EXPECT_TRUE(decode(encode(stamped(kMaxReceivedStampNs))));
  EXPECT_FALSE(decode(encode(stamped(kMaxReceivedStampNs + 1))));
  EXPECT_FALSE(decode(encode(stamped(uint64_t{1} << 63))));
  EXPECT_FALSE(decode(encode(SnapshotAck{sample_file(), sample_file().bytes + 1, {}})));
  EXPECT_TRUE(decode(encode(ForwardRefused{Term(6), Term(7), NodeId(kMaxNodeId)})));
  EXPECT_FALSE(decode(encode(ForwardRefused{Term(6), Term(7), NodeId(kMaxNodeId + 1)})));
}

TEST(PeerCodec, LargestFramesFitLargerAreNotWritten) {
  raft::AppendRequest append{Index(0), Term(0), Index(0), 1, {}};
  append.entries.push_back(entry_at(1, 1, std::string(size_t{1} << 20, 'a')));
  append.entries.push_back(entry_at(2, 1, std::string(size_t{16} << 20, 'b')));
  EXPECT_TRUE(decode(encode(envelope(append))));

  std::string out = "before";
  append.entries.push_back(entry_at(3, 1, std::string(size_t{16} << 20, 'c')));
  EXPECT_FALSE(append_frame(out, envelope(append)));
  EXPECT_EQ(out, "before");
  SnapshotChunk chunk;
  chunk.bytes = Slice::copy_of(std::string(kMaxFrameBytes - 8, 'x'));
  EXPECT_FALSE(append_frame(out, chunk)) << "the payload fits, the body does not";
  EXPECT_EQ(out, "before");
}

// Whatever a founding client.max_request says, what is admitted can be replicated and forwarded.
TEST(PeerCodec, LargestRequestFitsAFrame) {
  EXPECT_EQ(effective_max_request(1000), 1000u);
  EXPECT_EQ(effective_max_request(uint64_t{64} << 20), kMaxRequestBytes);
  const Slice request = Slice::copy_of(std::string(kMaxRequestBytes, 'x'));
  raft::AppendRequest append{Index(9), Term(6), Index(8), 77, {entry_at(10, 7, request.text())}};
  EXPECT_TRUE(decode(encode(envelope(append))));
  ForwardProposals forward{Term(7), {}};
  forward.proposals.push_back(
      {raft::EntryKind::kCommand, SessionId(5), Sequence(1), Sequence(), request});
  EXPECT_TRUE(decode(encode(forward)));
}

TEST(PeerCodec, RandomBodiesOfEveryTypeNeverCrash) {
  Random random(42);
  const std::string frame = encode(envelope(raft::Heartbeat{Index(9), 3}));
  size_t accepted = 0;
  size_t refused = 0;
  for (int round = 0; round < 20000; round++) {
    std::string header = frame;
    header[8] = static_cast<char>(random.below(43));
    std::string body;
    size_t length = random.below(200);
    for (size_t i = 0; i < length; i++) {
      body.push_back(random.chance(50) ? '\0' : static_cast<char>(random.below(256)));
    }
    auto back = decode(with_body(header, body));
    (back ? accepted : refused)++;
    if (back) {
      EXPECT_EQ(hex(encode(*back)), hex(with_body(header, body)));
    }
  }
  EXPECT_GT(refused, 10000u);
  EXPECT_GT(accepted, 100u);
}

TEST(Handshake, HelloComesBackAsItWas) {
  Hello hello = sample_hello();
  std::string bytes = encode(hello);
  auto header = decode_frame_header(as_bytes(bytes));
  ASSERT_TRUE(header);
  ByteView body = as_bytes(bytes).subspan(kFrameHeaderBytes);
  auto back = decode_handshake(*header, body);
  ASSERT_TRUE(back);
  const auto& got = std::get<Hello>(*back);
  EXPECT_EQ(got.cluster_name, "demo");
  EXPECT_EQ(got.cluster_id, hello.cluster_id);
  EXPECT_EQ(got.disk_id, hello.disk_id);
  EXPECT_EQ(got.node_id, NodeId(1));
  EXPECT_EQ(got.to, NodeId(2));
  EXPECT_EQ(got.plugin_name, "counter");
  EXPECT_EQ(got.plugin_level_min, 1u);
  EXPECT_EQ(got.plugin_level_max, 3u);
  EXPECT_EQ(got.plugin_level, 2u);
  EXPECT_EQ(got.protocol_min, kPeerProtocolMin);
  EXPECT_EQ(got.protocol_max, kPeerProtocolMax);
}

TEST(Handshake, LongerHelloIsReadShorterIsAnError) {
  Hello hello = sample_hello();
  const size_t without_addresses = encode(hello).size() - kFrameHeaderBytes;
  hello.peer_address = "h:1";
  hello.client_address = "h:2";
  hello.http_address = "h:3";
  hello.members_index = Index(77);
  const size_t without_history = encode(hello).size() - kFrameHeaderBytes;
  hello.former_cluster_ids.emplace_back().bytes.fill(8);
  hello.skipped_entries = {{Index(5), Term(2), 77}, {Index(9), Term(2), 78}};
  const size_t without_levels = encode(hello).size() - kFrameHeaderBytes;
  hello.feature_level_max = 5;
  hello.feature_level = 4;
  const size_t without_incarnation = encode(hello).size() - kFrameHeaderBytes;
  hello.incarnation = 0x1122334455667788;
  std::string bytes = encode(hello);
  std::string body = bytes.substr(kFrameHeaderBytes);
  std::string later = with_body(bytes, body + "later fields");
  auto header = decode_frame_header(as_bytes(later));
  ASSERT_TRUE(header);
  auto back = decode_handshake(*header, as_bytes(later).subspan(kFrameHeaderBytes));
  ASSERT_TRUE(back);
  EXPECT_EQ(std::get<Hello>(*back).http_address, "h:3");
  EXPECT_EQ(std::get<Hello>(*back).members_index, Index(77));
  EXPECT_EQ(std::get<Hello>(*back).former_cluster_ids, hello.former_cluster_ids);
  EXPECT_EQ(std::get<Hello>(*back).skipped_entries, hello.skipped_entries);
  EXPECT_EQ(std::get<Hello>(*back).feature_level_max, 5u);
  EXPECT_EQ(std::get<Hello>(*back).feature_level, 4u);
  EXPECT_EQ(std::get<Hello>(*back).incarnation, hello.incarnation);
  for (size_t length = 0; length < body.size(); length++) {
    if (length == without_addresses || length == without_history || length == without_levels ||
        length == without_incarnation) {
      continue;  // a hello may omit them
    }
    std::string cut = with_body(bytes, body.substr(0, length));
    header = decode_frame_header(as_bytes(cut));
    ASSERT_TRUE(header);
    EXPECT_FALSE(decode_handshake(*header, as_bytes(cut).subspan(kFrameHeaderBytes))) << length;
  }
}

TEST(Handshake, NumbersOverTheirLimitAreRefused) {
  auto reads = [](auto set) {
    Hello hello = sample_hello();
    set(hello);
    return decode_hello(encode(hello)).has_value();
  };
  EXPECT_TRUE(reads([](Hello& h) { h.members_index = Index(kMaxReceivedNumber); }));
  EXPECT_FALSE(reads([](Hello& h) { h.members_index = Index(kMaxReceivedNumber + 1); }));
  EXPECT_TRUE(reads([](Hello& h) { h.node_id = NodeId(kMaxNodeId); }));
  EXPECT_FALSE(reads([](Hello& h) { h.node_id = NodeId(kMaxNodeId + 1); }));
  EXPECT_FALSE(reads([](Hello& h) { h.to = NodeId(kMaxNodeId + 1); }));
  auto skip = [](uint64_t index, uint64_t term) {
    return [=](Hello& h) { h.skipped_entries = {{Index(index), Term(term), 1}}; };
  };
  EXPECT_TRUE(reads(skip(kMaxReceivedNumber, kMaxReceivedNumber)));
  EXPECT_FALSE(reads(skip(kMaxReceivedNumber + 1, 1)));
  EXPECT_FALSE(reads(skip(1, kMaxReceivedNumber + 1)));
}

// A part of an address would be another address.
TEST(Handshake, AddressOverItsLimitIsLeftOut) {
  Hello hello = sample_hello();
  hello.peer_address = std::string(kMaxNameBytes, 'a');
  hello.client_address = std::string(kMaxNameBytes + 1, 'b');
  auto back = decode_hello(encode(hello));
  ASSERT_TRUE(back);
  EXPECT_EQ(back->peer_address, hello.peer_address);
  EXPECT_EQ(back->client_address, "");
}

// So builds without levels and this one exchange the same bytes as before.
TEST(Handshake, HelloOfFirstLevelHasNoLevelFields) {
  Hello hello = sample_hello();
  hello.feature_level_max = hello.feature_level = raft::kFirstFeatureLevel;
  EXPECT_EQ(encode(hello), encode(sample_hello()));
  std::string bytes = encode(hello);
  auto header = decode_frame_header(as_bytes(bytes));
  ASSERT_TRUE(header);
  auto back = decode_handshake(*header, as_bytes(bytes).subspan(kFrameHeaderBytes));
  ASSERT_TRUE(back);
  EXPECT_EQ(std::get<Hello>(*back).feature_level_max, raft::kFirstFeatureLevel);
}

TEST(Handshake, ProbeComesBackAsItWas) {
  for (bool is_answer : {false, true}) {
    std::string bytes;
    append_probe(bytes, {is_answer, 77});
    auto header = decode_frame_header(as_bytes(bytes));
    ASSERT_TRUE(header);
    auto back = decode_handshake(*header, as_bytes(bytes).subspan(kFrameHeaderBytes));
    ASSERT_TRUE(back);
    EXPECT_EQ(std::get<Probe>(*back).is_answer, is_answer);
    EXPECT_EQ(std::get<Probe>(*back).number, 77u);
  }
}

TEST(Handshake, HelloWithLevelsAloneComesBack) {
  Hello hello = sample_hello();
  hello.feature_level_max = 3;
  hello.feature_level = 2;
  std::string bytes = encode(hello);
  auto header = decode_frame_header(as_bytes(bytes));
  ASSERT_TRUE(header);
  auto back = decode_handshake(*header, as_bytes(bytes).subspan(kFrameHeaderBytes));
  ASSERT_TRUE(back);
  EXPECT_EQ(std::get<Hello>(*back).feature_level_max, 3u);
  EXPECT_EQ(std::get<Hello>(*back).feature_level, 2u);
  EXPECT_EQ(std::get<Hello>(*back).priority, sample_hello().priority);
}

TEST(Handshake, RefusalComesBackAsItWasAndALongTextIsCut) {
  std::string bytes;
  append_refusal(bytes, {RefusalCode::kDiskId, std::string(5000, 'x')});
  auto header = decode_frame_header(as_bytes(bytes));
  ASSERT_TRUE(header);
  auto back = decode_handshake(*header, as_bytes(bytes).subspan(kFrameHeaderBytes));
  ASSERT_TRUE(back);
  EXPECT_EQ(std::get<Refusal>(*back).code, RefusalCode::kDiskId);
  EXPECT_EQ(std::get<Refusal>(*back).text, std::string(kMaxRefusalBytes, 'x'));
}

TEST(Handshake, TextOverLimitIsNamedInTheError) {
  std::string bytes;
  append_refusal(bytes, {RefusalCode::kDiskId, std::string(kMaxRefusalBytes, 'x')});
  auto error_with_length = [&](uint32_t length) {
    std::string body = bytes.substr(kFrameHeaderBytes);
    store_le<uint32_t>(reinterpret_cast<uint8_t*>(body.data()) + 4, length);
    FrameHeader header = *decode_frame_header(as_bytes(bytes));
    header.length = static_cast<uint32_t>(body.size());
    header.checksum = checksum64(as_bytes(body), header.seed);
    auto back = decode_handshake(header, as_bytes(body));
    return back ? std::string() : back.error().text;
  };
  EXPECT_EQ(error_with_length(kMaxRefusalBytes), "");
  EXPECT_NE(error_with_length(kMaxRefusalBytes + 1).find("longer than its limit"),
            std::string::npos);
  bytes = bytes.substr(0, bytes.size() - 1);
  EXPECT_NE(error_with_length(kMaxRefusalBytes).find("shorter than its fields"), std::string::npos);
}

TEST(Handshake, OtherFramesAreRefusedBeforeIt) {
  std::string bytes = encode(envelope(raft::TimeoutNow{}));
  auto header = decode_frame_header(as_bytes(bytes));
  ASSERT_TRUE(header);
  EXPECT_FALSE(decode_handshake(*header, as_bytes(bytes).subspan(kFrameHeaderBytes)));
  bytes = encode(sample_hello());
  EXPECT_FALSE(decode(bytes)) << "and a hello after it";
}

// Node 2 judges node 1.
class CheckHello : public testing::Test {
 protected:
  CheckHello() : mine_(sample_hello()), theirs_(sample_hello()) {
    mine_.node_id = NodeId(2);
    mine_.to = NodeId(1);
  }
  RefusalCode code() {
    auto refusal = check_hello(mine_, theirs_);
    return refusal ? refusal->code : RefusalCode::kOther;
  }

  Hello mine_;
  Hello theirs_;
};

TEST_F(CheckHello, EqualsMayTalk) { EXPECT_FALSE(check_hello(mine_, theirs_)); }

TEST_F(CheckHello, NodeWithoutAClusterIsAccepted) {
  theirs_.cluster_id = ClusterId();
  theirs_.plugin_level = 0;
  EXPECT_FALSE(check_hello(mine_, theirs_));
}

TEST_F(CheckHello, ProtocolRangesMustOverlap) {
  theirs_.protocol_min = kPeerProtocolMax + 1;
  theirs_.protocol_max = kPeerProtocolMax + 3;
  EXPECT_EQ(code(), RefusalCode::kProtocol);
  theirs_.protocol_min = 1;
  EXPECT_FALSE(check_hello(mine_, theirs_));
}

TEST_F(CheckHello, AnotherClusterNameIsRefusedWithBothNames) {
  theirs_.cluster_name = "other";
  EXPECT_EQ(
      check_hello(mine_, theirs_)->text,
      "node 1 is of cluster \"other\", node 2 of cluster \"demo\": check cluster.name and the "
      "addresses in both configurations");
}

TEST_F(CheckHello, AnotherClusterIdIsRefused) {
  theirs_.cluster_id.bytes[3] ^= 1;
  EXPECT_EQ(code(), RefusalCode::kClusterId);
}

TEST_F(CheckHello, BothSidesRejectUnrecoveredNode) {
  const ClusterId former = theirs_.cluster_id;
  mine_.cluster_id.bytes.fill(9);
  mine_.former_cluster_ids = {former};
  auto refusal = check_hello(mine_, theirs_);
  ASSERT_TRUE(refusal);
  EXPECT_EQ(refusal->code, RefusalCode::kRecovered);
  EXPECT_NE(refusal->text.find("If node 1 is one of the survivors"), std::string::npos)
      << refusal->text;
  EXPECT_LE(refusal->text.size(), kMaxRefusalBytes);
  // The node that was left behind judges by the hello of the other.
  std::swap(mine_, theirs_);
  std::swap(mine_.node_id, theirs_.node_id);
  std::swap(mine_.to, theirs_.to);
  refusal = check_hello(mine_, theirs_);
  ASSERT_TRUE(refusal);
  EXPECT_EQ(refusal->code, RefusalCode::kLeftBehind);
  EXPECT_NE(refusal->text.find("If node 2 is one of the survivors"), std::string::npos)
      << refusal->text;
  // The same history is no reason.
  mine_.cluster_id = theirs_.cluster_id;
  mine_.former_cluster_ids = theirs_.former_cluster_ids;
  EXPECT_FALSE(check_hello(mine_, theirs_));
}

TEST_F(CheckHello, SkippedEntryMismatchNamesTheCommand) {
  const raft::EntryId skip{Index(57), Term(2), 0xabc};
  mine_.skipped_entries = {skip};
  auto refusal = check_hello(mine_, theirs_);
  ASSERT_TRUE(refusal);
  EXPECT_EQ(refusal->code, RefusalCode::kSkips);
  EXPECT_NE(
      refusal->text.find("Run on node 1, while it is stopped: connectctl recover --data-dir DIR "
                         "--skip-entry 57:2:0000000000000abc"),
      std::string::npos)
      << refusal->text;
  theirs_.skipped_entries = {skip};
  EXPECT_FALSE(check_hello(mine_, theirs_));
  theirs_.skipped_entries = {{Index(57), Term(2), 0xabd}};
  EXPECT_TRUE(check_hello(mine_, theirs_)) << "another entry at that index is another one";
  mine_.skipped_entries.clear();
  refusal = check_hello(mine_, theirs_);
  ASSERT_TRUE(refusal);
  EXPECT_NE(refusal->text.find("Run on node 2"), std::string::npos) << refusal->text;
  theirs_.cluster_id = ClusterId();  // it belongs to no cluster yet, and learns them when it joins
  EXPECT_FALSE(check_hello(mine_, theirs_));
}

TEST_F(CheckHello, WrongAddresseeIsRefused) {
  theirs_.to = NodeId(3);
  EXPECT_EQ(code(), RefusalCode::kWrongNode);
  theirs_.to = NodeId(2);
  theirs_.node_id = NodeId(2);  // a node that dials itself
  EXPECT_EQ(code(), RefusalCode::kWrongNode);
}

TEST_F(CheckHello, AnotherPluginIsRefused) {
  theirs_.plugin_name = "kv";
  EXPECT_EQ(code(), RefusalCode::kPluginName);
}

TEST_F(CheckHello, LevelInForceMustBeSupportedByBoth) {
  theirs_.plugin_level_max = 1;
  theirs_.plugin_level = 0;
  EXPECT_EQ(code(), RefusalCode::kPluginLevel) << "2 is in force here, 1 is what they can";
  theirs_.plugin_level_max = 2;
  EXPECT_FALSE(check_hello(mine_, theirs_));
  mine_.plugin_level = 0;
  theirs_.plugin_level_max = 9;
  theirs_.plugin_level = 9;
  EXPECT_EQ(code(), RefusalCode::kPluginLevel) << "and the other way round";
}

// Only the side that is ahead refuses. Code 7: builds without levels know it, and end with 76.
TEST_F(CheckHello, PeerBelowFeatureLevelIsRefused) {
  mine_.feature_level_max = 3;
  mine_.feature_level = 2;
  auto refusal = check_hello(mine_, theirs_);
  ASSERT_TRUE(refusal);
  EXPECT_EQ(refusal->code, RefusalCode::kPluginLevel);
  EXPECT_NE(refusal->text.find("is at feature level 2"), std::string::npos) << refusal->text;
  EXPECT_NE(refusal->text.find("supports levels up to 1"), std::string::npos) << refusal->text;
  theirs_.cluster_id = ClusterId();  // one that joins
  EXPECT_EQ(code(), RefusalCode::kPluginLevel);
  theirs_.feature_level_max = 2;
  EXPECT_FALSE(check_hello(mine_, theirs_));
  theirs_.feature_level_max = theirs_.feature_level = 9;
  EXPECT_FALSE(check_hello(mine_, theirs_)) << "this side is behind: the other one says so";
}

TEST_F(CheckHello, BeforeThereIsALevelTheRangesMustOverlap) {
  mine_.plugin_level = theirs_.plugin_level = 0;
  theirs_.plugin_level_min = 3;
  theirs_.plugin_level_max = 5;
  EXPECT_FALSE(check_hello(mine_, theirs_));
  theirs_.plugin_level_min = 4;
  EXPECT_EQ(code(), RefusalCode::kPluginLevel);
}

}  // namespace
}  // namespace connectd::wire
