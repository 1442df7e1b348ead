#include "wire/peer_codec.h"

#include <fmt/format.h>

#include <algorithm>
#include <type_traits>

#include "base/checksum.h"
#include "base/limits.h"
#include "base/log.h"
#include "wire/entry_codec.h"

namespace connectd::wire {
namespace {

constexpr size_t kCheckedBytes = 12;   // the part of the header that its own checksum covers
constexpr size_t kSeedBytes = 16;      // the part of the header that seeds the checksum of the body
constexpr uint8_t kHelloReplaces = 1;  // a flag of hellos
// kind u8, zero u8, zero u16, payload length u32, session, sequence, acked_below
constexpr size_t kProposalHeaderBytes = 32;

bool is_known_type(uint8_t type) {
  return (type >= 1 && type <= 4) || (type >= 16 && type <= 26) || (type >= 32 && type <= 42) ||
         type == 46 || type == 48;
}

tl::unexpected<Error> malformed(std::string text) {
  return failure(ErrorKind::kMalformed, std::move(text));
}

tl::unexpected<Error> malformed_handshake(std::string_view what, const ByteReader& in) {
  return malformed(fmt::format(
      "a malformed {}: {}", what,
      in.is_over_limit() ? "a text is longer than its limit" : "it is shorter than its fields"));
}

// ---- writing

uint32_t header_checksum(const uint8_t* header) {
  return static_cast<uint32_t>(checksum64({header, kCheckedBytes}));
}

// Reserves the header; the body follows.
size_t begin_frame(std::string& out) {
  size_t start = out.size();
  out.append(kFrameHeaderBytes, '\0');
  return start;
}

// Fills in the header. False: the body exceeds `limit`, and the frame was removed.
bool end_frame(std::string& out, size_t start, FrameType type, size_t limit,
               FrameVersion version = FrameVersion::kFirst) {
  size_t length = out.size() - start - kFrameHeaderBytes;
  if (length > limit) {
    out.resize(start);
    return false;
  }
  auto* header = reinterpret_cast<uint8_t*>(out.data()) + start;
  store_le<uint32_t>(header, static_cast<uint32_t>(length));
  store_le<uint32_t>(header + 4, kGroup);
  header[8] = static_cast<uint8_t>(type);
  header[9] = static_cast<uint8_t>(version);
  if (version != FrameVersion::kFirst) store_le<uint32_t>(header + 12, header_checksum(header));
  uint64_t seed = checksum64({header, kSeedBytes});
  store_le<uint64_t>(header + 16, checksum64({header + kFrameHeaderBytes, length}, seed));
  return true;
}

class Writer {
 public:
  explicit Writer(std::string& out) : writer_(out) {}

  template <class Kind>
  Writer& add(Number<Kind> number) {
    writer_.number(number.value());
    return *this;
  }
  template <class T>
  requires std::is_integral_v<T> Writer& add(T number) {
    writer_.number(number);
    return *this;
  }
  Writer& add(bool value) { return add(static_cast<uint8_t>(value)); }
  Writer& add(ByteView bytes) {
    writer_.bytes(bytes);
    return *this;
  }
  Writer& add(const SnapshotFile& file) {
    return add(file.mark.index).add(file.mark.term).add(file.bytes).add(file.checksum);
  }

 private:
  ByteWriter writer_;
};

FrameType write(Writer& out, const raft::PreVoteRequest& m) {
  out.add(m.last_index).add(m.last_term);
  return FrameType::kPreVoteRequest;
}
FrameType write(Writer& out, const raft::PreVoteResponse& m) {
  out.add(m.granted);
  return FrameType::kPreVoteResponse;
}
FrameType write(Writer& out, const raft::VoteRequest& m) {
  out.add(m.last_index).add(m.last_term).add(m.leader_transfer);
  return FrameType::kVoteRequest;
}
FrameType write(Writer& out, const raft::VoteResponse& m) {
  out.add(m.granted).add(m.wall_ns);
  return FrameType::kVoteResponse;
}
FrameType write(Writer& out, const raft::AppendRequest& m) {
  out.add(m.prev_index).add(m.prev_term).add(m.commit).add(m.round);
  out.add(static_cast<uint32_t>(m.entries.size()));
  uint8_t header[kEntryHeaderBytes];
  for (const raft::Entry& entry : m.entries) {
    encode_entry_header(entry, header);
    out.add(ByteView(header)).add(entry.payload.view());
  }
  return FrameType::kAppendRequest;
}
FrameType write(Writer& out, const raft::AppendResponse& m) {
  out.add(m.success).add(m.index).add(m.hint_index).add(m.hint_term).add(m.round).add(m.wall_ns);
  return FrameType::kAppendResponse;
}
FrameType write(Writer& out, const raft::Heartbeat& m) {
  out.add(m.commit).add(m.round);
  return FrameType::kHeartbeat;
}
FrameType write(Writer& out, const raft::HeartbeatResponse& m) {
  out.add(m.round).add(m.wall_ns);
  return FrameType::kHeartbeatResponse;
}
FrameType write(Writer&, const raft::TimeoutNow&) { return FrameType::kTimeoutNow; }
FrameType write(Writer& out, const raft::ReadIndexRequest& m) {
  out.add(m.context);
  return FrameType::kReadIndexRequest;
}
FrameType write(Writer& out, const raft::ReadIndexResponse& m) {
  out.add(m.context).add(m.index);
  return FrameType::kReadIndexResponse;
}
FrameType write(Writer& out, const raft::Envelope& envelope) {
  out.add(envelope.from).add(envelope.to).add(envelope.term);
  return std::visit([&](const auto& m) { return write(out, m); }, envelope.message);
}
FrameType write(Writer& out, const ForwardProposals& m) {
  out.add(m.leader_term).add(static_cast<uint32_t>(m.proposals.size()));
  for (const raft::Proposal& proposal : m.proposals) {
    out.add(static_cast<uint8_t>(proposal.kind)).add(uint8_t{0}).add(uint16_t{0});
    out.add(static_cast<uint32_t>(proposal.payload.size()));
    out.add(proposal.session).add(proposal.sequence).add(proposal.acked_below);
    out.add(proposal.payload.view());
  }
  return FrameType::kForwardProposals;
}
FrameType write(Writer& out, const ForwardRefused& m) {
  out.add(m.leader_term).add(m.term).add(m.leader);
  return FrameType::kForwardRefused;
}
FrameType write(Writer& out, const SnapshotChunk& m) {
  out.add(m.file).add(m.leader_term).add(m.offset).add(m.bytes.view());
  return FrameType::kSnapshotChunk;
}
FrameType write(Writer& out, const SnapshotAck& m) {
  out.add(m.file).add(m.received).add(static_cast<uint8_t>(m.state));
  return FrameType::kSnapshotAck;
}
FrameType write(Writer& out, const SnapshotOffer& m) {
  out.add(m.file).add(m.leader_term);
  return FrameType::kSnapshotOffer;
}
FrameType write(Writer& out, const GenesisOffer& m) {
  out.add(as_bytes(m.document));
  return FrameType::kGenesisOffer;
}
FrameType write(Writer& out, const GenesisAccepted& m) {
  out.add(m.document_checksum);
  return FrameType::kGenesisAccepted;
}
FrameType write(Writer& out, const DigestReport& m) {
  out.add(m.leader_term).add(static_cast<uint8_t>(m.compared)).add(m.known);
  out.add(m.incarnation).add(m.build).add(m.index).add(m.digest).add(m.first).add(m.last);
  return FrameType::kDigestReport;
}
FrameType write(Writer& out, const DigestQuery& m) {
  out.add(m.leader_term).add(static_cast<uint8_t>(m.compared)).add(m.index);
  return FrameType::kDigestQuery;
}
FrameType write(Writer& out, const DivergenceVerdict& m) {
  out.add(m.leader_term).add(static_cast<uint8_t>(m.compared)).add(static_cast<uint8_t>(m.kind));
  out.add(m.agreed).add(m.index).add(m.digest).add(m.other_digest);
  return FrameType::kDivergenceVerdict;
}

FrameType write(Writer& out, const ChangeRequest& m) {
  out.add(m.number).add(as_bytes(m.change));
  return FrameType::kChangeRequest;
}
FrameType write(Writer& out, const ChangeAnswer& m) {
  out.add(m.number).add(as_bytes(m.outcome));
  return FrameType::kChangeAnswer;
}
FrameType write(Writer& out, const DiskReport& m) {
  out.add(m.leader_term).add(m.full).add(m.stalled).add(m.writes_stopped);
  return FrameType::kDiskReport;
}

// Estimates the size of the body, so that `out` grows only once for a large frame.
size_t payload_bytes(const PeerMessage& message) {
  size_t total = 0;
  if (const auto* envelope = std::get_if<raft::Envelope>(&message)) {
    if (const auto* append = std::get_if<raft::AppendRequest>(&envelope->message)) {
      for (const raft::Entry& entry : append->entries) {
        total += kEntryHeaderBytes + entry.payload.size();
      }
    }
  } else if (const auto* forward = std::get_if<ForwardProposals>(&message)) {
    for (const raft::Proposal& proposal : forward->proposals) {
      total += kProposalHeaderBytes + proposal.payload.size();
    }
  } else if (const auto* chunk = std::get_if<SnapshotChunk>(&message)) {
    total = chunk->bytes.size();
  } else if (const auto* offer = std::get_if<GenesisOffer>(&message)) {
    total = offer->document.size();
  }
  return total;
}

// ---- reading

// A ByteReader over a Slice that can return parts of it.
class Reader {
 public:
  explicit Reader(const Slice& body) : body_(body), reader_(body.view()) {}

  template <class T>
  T number() {
    return reader_.number<T>();
  }
  template <class Kind>
  void get(Number<Kind>& to) {
    to = Number<Kind>(bounded(kMaxReceivedNumber));
  }
  void get(NodeId& to) { to = NodeId(bounded(kMaxNodeId)); }
  void get(uint64_t& to) { to = reader_.number<uint64_t>(); }
  void get(int64_t& to) { to = reader_.number<int64_t>(); }
  void get(bool& to) {
    auto value = reader_.number<uint8_t>();
    if (value > 1) reader_.fail();
    to = value == 1;
  }
  void get(Compared& to) {
    auto value = reader_.number<uint8_t>();
    if (value > static_cast<uint8_t>(Compared::kState)) reader_.fail();
    to = static_cast<Compared>(value);
  }
  void get(SnapshotFile& to) {
    get(to.mark.index);
    get(to.mark.term);
    to.bytes = bounded(kMaxReceivedNumber);
    get(to.checksum);
  }
  ByteView bytes(size_t length) { return reader_.bytes(length); }
  Slice slice(size_t length) {
    size_t offset = body_.size() - reader_.left();
    reader_.bytes(length);
    return reader_.ok() ? body_.part(offset, length) : Slice();
  }
  Slice rest() { return slice(reader_.left()); }
  size_t left() const { return reader_.left(); }
  void fail() { reader_.fail(); }
  bool ok() const { return reader_.ok(); }
  bool done() const { return reader_.done(); }
  // Why it failed: the first number that storage could not read back, or 0.
  uint64_t over_limit() const { return over_limit_; }

 private:
  uint64_t bounded(uint64_t limit) {
    auto value = reader_.number<uint64_t>();
    if (value <= limit) return value;
    if (over_limit_ == 0) over_limit_ = value;
    reader_.fail();
    return 0;
  }

  const Slice& body_;
  ByteReader reader_;
  uint64_t over_limit_ = 0;
};

template <class... Fields>
void get_all(Reader& in, Fields&... fields) {
  (in.get(fields), ...);
}

std::string newer_text() {
  return fmt::format(
      "connectd {} (feature level {}) does not know: the sender is a newer version, "
      "and this cluster must not be at its level yet",
      CONNECTD_VERSION, raft::highest_feature_level());
}

// Why the entry whose header was just read is rejected. Checksum first, then kind.
std::string refused_entry(const Reader& in, ByteView header) {
  const size_t length = load_le<uint32_t>(header.data() + 52);
  if (length > in.left()) return "invalid entry header";
  std::string what = unknown_in_entry({header.data(), kEntryHeaderBytes + length});
  if (what.empty()) return "invalid entry header";
  return fmt::format("the entry at index {} has {}, which {}", load_le<uint64_t>(header.data()),
                     what, newer_text());
}

// What is in an entry that this node could not read back from its log, or not count on from.
std::string over_limit_in_entry(const raft::Entry& entry) {
  if (entry.index.value() <= kMaxReceivedNumber && entry.term.value() <= kMaxReceivedNumber &&
      entry.session.value() <= kMaxReceivedNumber && entry.sequence.value() <= kMaxReceivedNumber &&
      entry.acked_below.value() <= kMaxReceivedNumber && entry.stamp_ns <= kMaxReceivedStampNs &&
      entry.stamp_ns >= -kMaxReceivedStampNs) {
    return {};
  }
  return fmt::format("the entry at index {} has a number over its limit", entry.index);
}

// Empty: no error so far. (If bytes are missing, in.ok() is false.)
std::string read_entries(Reader& in, Term sender_term, raft::AppendRequest& m) {
  auto count = in.number<uint32_t>();
  if (count > in.left() / kEntryHeaderBytes) return "the entry count is larger than the frame";
  m.entries.reserve(count);
  Term last_term = m.prev_term;
  for (uint32_t i = 0; i < count; i++) {
    uint32_t length = 0;
    raft::Entry& entry = m.entries.emplace_back();
    ByteView header = in.bytes(kEntryHeaderBytes);
    if (!in.ok()) return "a truncated entry";
    if (!decode_entry_header(header, entry, length)) return refused_entry(in, header);
    entry.payload = in.slice(length);
    if (!in.ok()) return "a truncated entry";
    if (entry.index != m.prev_index + 1 + i || entry.term < last_term || entry.term > sender_term) {
      return fmt::format(
          "the entry at place {} has index {} and term {}, after index {} and term {}", i,
          entry.index, entry.term, m.prev_index + i, last_term);
    }
    if (!verify_entry(entry)) {
      return fmt::format("checksum mismatch of the entry at index {}", entry.index);
    }
    if (auto fault = over_limit_in_entry(entry); !fault.empty()) return fault;
    last_term = entry.term;
  }
  return {};
}

std::string read_proposals(Reader& in, ForwardProposals& m) {
  in.get(m.leader_term);
  auto count = in.number<uint32_t>();
  if (count > in.left() / kProposalHeaderBytes) {
    return "the proposal count is larger than the frame";
  }
  m.proposals.reserve(count);
  for (uint32_t i = 0; i < count; i++) {
    raft::Proposal& proposal = m.proposals.emplace_back();
    auto kind = in.number<uint8_t>();
    auto zero1 = in.number<uint8_t>();
    auto zero2 = in.number<uint16_t>();
    auto length = in.number<uint32_t>();
    get_all(in, proposal.session, proposal.sequence, proposal.acked_below);
    proposal.payload = in.slice(length);
    if (!in.ok()) return "a truncated proposal";
    if (!raft::is_known_entry_kind(kind) || zero1 != 0 || zero2 != 0) {
      return fmt::format("a proposal of kind {}, which {}", kind, newer_text());
    }
    proposal.kind = static_cast<raft::EntryKind>(kind);
    if (!raft::may_be_forwarded(proposal.kind)) {
      return fmt::format("a proposal of kind {} ({}), which no node may forward", kind,
                         raft::row_of(proposal.kind).name);
    }
  }
  return {};
}

std::string read_envelope(Reader& in, FrameType type, raft::Envelope& envelope) {
  get_all(in, envelope.from, envelope.to, envelope.term);
  switch (type) {
    case FrameType::kPreVoteRequest: {
      auto& m = envelope.message.emplace<raft::PreVoteRequest>();
      get_all(in, m.last_index, m.last_term);
      return {};
    }
    case FrameType::kPreVoteResponse:
      in.get(envelope.message.emplace<raft::PreVoteResponse>().granted);
      return {};
    case FrameType::kVoteRequest: {
      auto& m = envelope.message.emplace<raft::VoteRequest>();
      get_all(in, m.last_index, m.last_term, m.leader_transfer);
      return {};
    }
    case FrameType::kVoteResponse: {
      auto& m = envelope.message.emplace<raft::VoteResponse>();
      get_all(in, m.granted, m.wall_ns);
      return {};
    }
    case FrameType::kAppendRequest: {
      auto& m = envelope.message.emplace<raft::AppendRequest>();
      get_all(in, m.prev_index, m.prev_term, m.commit, m.round);
      return read_entries(in, envelope.term, m);
    }
    case FrameType::kAppendResponse: {
      auto& m = envelope.message.emplace<raft::AppendResponse>();
      get_all(in, m.success, m.index, m.hint_index, m.hint_term, m.round, m.wall_ns);
      return {};
    }
    case FrameType::kHeartbeat: {
      auto& m = envelope.message.emplace<raft::Heartbeat>();
      get_all(in, m.commit, m.round);
      return {};
    }
    case FrameType::kHeartbeatResponse: {
      auto& m = envelope.message.emplace<raft::HeartbeatResponse>();
      get_all(in, m.round, m.wall_ns);
      return {};
    }
    case FrameType::kTimeoutNow:
      envelope.message.emplace<raft::TimeoutNow>();
      return {};
    case FrameType::kReadIndexRequest:
      in.get(envelope.message.emplace<raft::ReadIndexRequest>().context);
      return {};
    case FrameType::kReadIndexResponse: {
      auto& m = envelope.message.emplace<raft::ReadIndexResponse>();
      get_all(in, m.context, m.index);
      return {};
    }
    default:
      return "handshake frame after the handshake";
  }
}

std::string read_snapshot_ack(Reader& in, SnapshotAck& m) {
  get_all(in, m.file, m.received);
  auto state = in.number<uint8_t>();
  if (state > static_cast<uint8_t>(SnapshotAck::State::kWorking)) {
    return fmt::format("a snapshot answer of unknown state {}", state);
  }
  m.state = static_cast<SnapshotAck::State>(state);
  if (m.received > m.file.bytes) {
    return fmt::format("{} bytes of a snapshot file of {}", m.received, m.file.bytes);
  }
  return {};
}

std::string read_message(Reader& in, FrameType type, PeerMessage& message) {
  switch (type) {
    case FrameType::kForwardProposals:
      return read_proposals(in, message.emplace<ForwardProposals>());
    case FrameType::kForwardRefused: {
      auto& m = message.emplace<ForwardRefused>();
      get_all(in, m.leader_term, m.term, m.leader);
      return {};
    }
    case FrameType::kSnapshotChunk: {
      auto& m = message.emplace<SnapshotChunk>();
      get_all(in, m.file, m.leader_term, m.offset);
      m.bytes = in.rest();
      if (m.offset > m.file.bytes || m.bytes.size() > m.file.bytes - m.offset) {
        return fmt::format("a snapshot chunk of {} bytes at offset {} of a file of {}",
                           m.bytes.size(), m.offset, m.file.bytes);
      }
      return {};
    }
    case FrameType::kSnapshotAck:
      return read_snapshot_ack(in, message.emplace<SnapshotAck>());
    case FrameType::kSnapshotOffer: {
      auto& m = message.emplace<SnapshotOffer>();
      get_all(in, m.file, m.leader_term);
      return {};
    }
    case FrameType::kGenesisOffer:
      if (in.left() > kMaxGenesisBytes) return "a genesis over its limit";
      message.emplace<GenesisOffer>().document = in.rest().text();
      return {};
    case FrameType::kGenesisAccepted:
      in.get(message.emplace<GenesisAccepted>().document_checksum);
      return {};
    case FrameType::kDigestReport: {
      auto& m = message.emplace<DigestReport>();
      get_all(in, m.leader_term, m.compared, m.known, m.incarnation, m.build, m.index, m.digest,
              m.first, m.last);
      return {};
    }
    case FrameType::kDigestQuery: {
      auto& m = message.emplace<DigestQuery>();
      get_all(in, m.leader_term, m.compared, m.index);
      return {};
    }
    case FrameType::kDivergenceVerdict: {
      auto& m = message.emplace<DivergenceVerdict>();
      get_all(in, m.leader_term, m.compared);
      auto kind = in.number<uint8_t>();
      if (kind > static_cast<uint8_t>(DivergenceVerdict::Kind::kNoMajority)) {
        return fmt::format("a verdict of unknown kind {}", kind);
      }
      m.kind = static_cast<DivergenceVerdict::Kind>(kind);
      get_all(in, m.agreed, m.index, m.digest, m.other_digest);
      return {};
    }
    case FrameType::kChangeRequest: {
      auto& m = message.emplace<ChangeRequest>();
      in.get(m.number);
      m.change = in.rest().text();
      return {};
    }
    case FrameType::kChangeAnswer: {
      auto& m = message.emplace<ChangeAnswer>();
      in.get(m.number);
      m.outcome = in.rest().text();
      return {};
    }
    case FrameType::kDiskReport: {
      auto& m = message.emplace<DiskReport>();
      get_all(in, m.leader_term, m.full, m.stalled, m.writes_stopped);
      return {};
    }
    default:
      return read_envelope(in, type, message.emplace<raft::Envelope>());
  }
}

Result<> check_frame(const FrameHeader& header, ByteView body) {
  CHECK(body.size() == header.length) << "a truncated frame body";
  if (checksum64(body, header.seed) != header.checksum) {
    return malformed(fmt::format(
        "checksum mismatch of a frame of type {} and {} bytes: the bytes changed in transit",
        static_cast<int>(header.type), header.length));
  }
  return {};
}

Result<Handshake> read_refusal(ByteReader& in) {
  Refusal refusal;
  auto code = in.number<uint16_t>();
  if (code <= static_cast<uint16_t>(kLastRefusalCode)) {
    refusal.code = static_cast<RefusalCode>(code);
  }
  in.number<uint16_t>();
  refusal.text = in.counted(kMaxRefusalBytes);
  if (!in.ok()) return malformed_handshake("refusal", in);
  return Handshake(std::move(refusal));
}

}  // namespace

Result<FrameHeader> decode_frame_header(ByteView from) {
  CHECK(from.size() >= kFrameHeaderBytes) << "a truncated frame header";
  const uint8_t* at = from.data();
  auto length = load_le<uint32_t>(at);
  auto group = load_le<uint32_t>(at + 4);
  uint8_t type = at[8];
  uint8_t version = at[9];
  const bool is_checked = version == static_cast<uint8_t>(FrameVersion::kCheckedHeader);
  if (!is_checked && version != static_cast<uint8_t>(FrameVersion::kFirst)) {
    return malformed(
        fmt::format("a frame of version {}; this node supports versions 1 and 2", version));
  }
  if (is_checked && load_le<uint32_t>(at + 12) != header_checksum(at)) {
    return malformed("checksum mismatch of a frame header: the bytes changed in transit");
  }
  if (load_le<uint16_t>(at + 10) != 0 || (!is_checked && load_le<uint32_t>(at + 12) != 0)) {
    return malformed("a frame whose reserved fields are not zero");
  }
  if (group != kGroup) {
    return malformed(
        fmt::format("a frame of group {}; this node has group {} only", group, kGroup));
  }
  if (!is_known_type(type)) {
    return malformed(fmt::format("a frame of type {}, which {}", type, newer_text()));
  }
  size_t limit = is_handshake(static_cast<FrameType>(type)) ? kMaxHandshakeBytes : kMaxFrameBytes;
  if (length > limit) {
    return malformed(fmt::format("a frame of type {} announces {} bytes, over the limit of {}",
                                 type, length, limit));
  }
  return FrameHeader{.version = static_cast<FrameVersion>(version),
                     .type = static_cast<FrameType>(type),
                     .length = length,
                     .seed = checksum64(from.first(kSeedBytes)),
                     .checksum = load_le<uint64_t>(at + 16)};
}

bool carries_payload(FrameType type) {
  return type == FrameType::kAppendRequest || type == FrameType::kForwardProposals ||
         type == FrameType::kSnapshotChunk;
}

FrameVersion common_version(const Hello& mine, const Hello& theirs) {
  const uint16_t version = std::min(mine.protocol_max, theirs.protocol_max);
  return version >= 2 ? FrameVersion::kCheckedHeader : FrameVersion::kFirst;
}

bool append_frame(std::string& out, const PeerMessage& message, FrameVersion version) {
  size_t payload = payload_bytes(message);
  if (payload > kMaxFrameBytes) return false;
  // reserve() grows at least by half each time, so that many small frames do not copy `out` often.
  if (payload > 0) out.reserve(out.size() + payload + 256);
  size_t start = begin_frame(out);
  Writer writer(out);
  FrameType type = std::visit([&](const auto& m) { return write(writer, m); }, message);
  return end_frame(out, start, type, kMaxFrameBytes, version);
}

Result<PeerMessage> decode_frame(const FrameHeader& header, const Slice& body) {
  if (auto checked = check_frame(header, body.view()); !checked) return failure(checked.error());
  Reader in(body);
  PeerMessage message;
  std::string fault = read_message(in, header.type, message);
  if (in.over_limit() != 0) {
    fault = fmt::format("the number {} is over its limit", in.over_limit());
  }
  if (fault.empty() && !in.ok()) fault = "it is shorter than its fields";
  if (fault.empty() && !in.done()) fault = "it is longer than its fields";
  if (!fault.empty()) {
    return malformed(fmt::format("a malformed frame of type {} and {} bytes: {}",
                                 static_cast<int>(header.type), header.length, fault));
  }
  return message;
}

void append_hello(std::string& out, const Hello& hello) {
  CHECK(hello.cluster_name.size() <= kMaxNameBytes && hello.plugin_name.size() <= kMaxNameBytes)
      << "names are checked when the configuration and the plugin are loaded";
  size_t start = begin_frame(out);
  ByteWriter writer(out);
  writer.number(hello.protocol_min);
  writer.number(hello.protocol_max);
  writer.number<uint32_t>(0);
  writer.bytes(hello.cluster_id.bytes);
  writer.bytes(hello.disk_id.bytes);
  writer.number(hello.node_id.value());
  writer.number(hello.to.value());
  writer.number(hello.plugin_level_min);
  writer.number(hello.plugin_level_max);
  writer.number(hello.plugin_level);
  writer.counted(hello.cluster_name);
  writer.counted(hello.plugin_name);
  CHECK(hello.former_cluster_ids.size() <= kMaxFormerClusters &&
        hello.skipped_entries.size() <= kMaxSkippedEntries)
      << "both are counted where they are made";
  const bool has_level =
      hello.feature_level_max > raft::kFirstFeatureLevel || hello.incarnation != 0;
  const bool has_history =
      has_level || !hello.former_cluster_ids.empty() || !hello.skipped_entries.empty();
  if (hello.peer_address.empty() && !hello.members_index && !has_history &&
      hello.priority == Hello().priority) {
    CHECK(end_frame(out, start, FrameType::kHello, kMaxHandshakeBytes));
    return;
  }
  for (const std::string* address :
       {&hello.peer_address, &hello.client_address, &hello.http_address}) {
    // A longer one, which few names have, is unknown to the other side: a part is another address.
    writer.counted(address->size() <= kMaxNameBytes ? *address : std::string_view());
  }
  writer.number(hello.members_index.value());
  writer.number(hello.priority);
  if (has_history) {
    writer.number(static_cast<uint16_t>(hello.former_cluster_ids.size()));
    writer.number(static_cast<uint16_t>(hello.skipped_entries.size()));
    for (const ClusterId& id : hello.former_cluster_ids) writer.bytes(id.bytes);
    for (const raft::EntryId& skip : hello.skipped_entries) {
      writer.number(skip.index.value());
      writer.number(skip.term.value());
      writer.number(skip.checksum);
    }
  }
  if (has_level) {
    writer.number(hello.feature_level_max);
    writer.number(hello.feature_level);
  }
  if (hello.incarnation != 0) writer.number(hello.incarnation);
  if (hello.incarnation != 0 && hello.replaces) writer.number<uint8_t>(kHelloReplaces);
  CHECK(end_frame(out, start, FrameType::kHello, kMaxHandshakeBytes));
}

void append_refusal(std::string& out, const Refusal& refusal) {
  size_t start = begin_frame(out);
  ByteWriter writer(out);
  writer.number(static_cast<uint16_t>(refusal.code));
  writer.number<uint16_t>(0);
  writer.counted(std::string_view(refusal.text).substr(0, kMaxRefusalBytes));
  CHECK(end_frame(out, start, FrameType::kRefusal, kMaxHandshakeBytes));
}

void append_probe(std::string& out, const Probe& probe) {
  size_t start = begin_frame(out);
  ByteWriter(out).number(probe.number);
  const FrameType type = probe.is_answer ? FrameType::kProbeAnswer : FrameType::kProbe;
  CHECK(end_frame(out, start, type, kMaxHandshakeBytes));
}

namespace {

Result<Handshake> decode_hello(ByteReader& in) {
  Hello hello;
  auto get_id = [&](auto& id) {
    ByteView bytes = in.bytes(id.bytes.size());
    std::copy(bytes.begin(), bytes.end(), id.bytes.begin());
  };
  hello.protocol_min = in.number<uint16_t>();
  hello.protocol_max = in.number<uint16_t>();
  in.number<uint32_t>();
  get_id(hello.cluster_id);
  get_id(hello.disk_id);
  auto get_number = [&](uint64_t limit) {
    auto value = in.number<uint64_t>();
    if (value > limit) in.fail();
    return value;
  };
  hello.node_id = NodeId(get_number(kMaxNodeId));
  hello.to = NodeId(get_number(kMaxNodeId));
  hello.plugin_level_min = in.number<uint32_t>();
  hello.plugin_level_max = in.number<uint32_t>();
  hello.plugin_level = in.number<uint32_t>();
  hello.cluster_name = in.counted(kMaxNameBytes);
  hello.plugin_name = in.counted(kMaxNameBytes);
  if (!in.ok()) return malformed_handshake("hello", in);
  // Optional: they may be missing.
  if (in.left() > 0) {
    hello.peer_address = in.counted(kMaxNameBytes);
    hello.client_address = in.counted(kMaxNameBytes);
    hello.http_address = in.counted(kMaxNameBytes);
    hello.members_index = Index(get_number(kMaxReceivedNumber));
    hello.priority = in.number<uint8_t>();
    if (!in.ok()) return malformed_handshake("hello", in);
  }
  if (in.left() > 0) {
    auto former = in.number<uint16_t>();
    auto skips = in.number<uint16_t>();
    if (former > kMaxFormerClusters || skips > kMaxSkippedEntries) in.fail();
    for (; former > 0 && in.ok(); --former) get_id(hello.former_cluster_ids.emplace_back());
    for (; skips > 0 && in.ok(); --skips) {
      raft::EntryId skip;
      skip.index = Index(get_number(kMaxReceivedNumber));
      skip.term = Term(get_number(kMaxReceivedNumber));
      skip.checksum = in.number<uint64_t>();
      if (!hello.skipped_entries.empty() && !(hello.skipped_entries.back() < skip)) in.fail();
      hello.skipped_entries.push_back(skip);
    }
    if (!in.ok()) return malformed("a malformed hello: invalid history");
  }
  if (in.left() > 0) {
    hello.feature_level_max = in.number<uint32_t>();
    hello.feature_level = in.number<uint32_t>();
    if (!in.ok() || hello.feature_level_max == 0 || hello.feature_level > hello.feature_level_max) {
      return malformed("a malformed hello: its feature level is invalid");
    }
  }
  if (in.left() > 0) {
    hello.incarnation = in.number<uint64_t>();
    if (!in.ok()) return malformed("a malformed hello: its incarnation is cut");
  }
  if (in.left() > 0) hello.replaces = (in.number<uint8_t>() & kHelloReplaces) != 0;
  return Handshake(std::move(hello));
}

}  // namespace

Result<Handshake> decode_handshake(const FrameHeader& header, ByteView body) {
  if (auto checked = check_frame(header, body); !checked) return failure(checked.error());
  ByteReader in(body);
  if (header.type == FrameType::kRefusal) return read_refusal(in);
  if (header.type == FrameType::kProbe || header.type == FrameType::kProbeAnswer) {
    Probe probe{header.type == FrameType::kProbeAnswer, in.number<uint64_t>()};
    if (!in.ok()) return malformed_handshake("probe", in);
    return Handshake(probe);
  }
  if (header.type != FrameType::kHello) {
    return malformed(
        fmt::format("a frame of type {} before the handshake", static_cast<int>(header.type)));
  }
  return decode_hello(in);
}

}  // namespace connectd::wire
