// The bytes between nodes. docs/protocol.md has every message to the byte.
//
// Each side of a connection sends kPeerMagic once, then frames. A frame is a header and a body:
//
//   offset  size  field
//        0     4  length of the body
//        4     4  group (0 today)
//        8     1  type
//        9     1  version of the header: 1 or 2
//       10     2  zero
//       12     4  version 1: zero; version 2: the low half of the XXH3-64 of the 12 bytes before
//       16     8  checksum: XXH3-64 of the body, seeded with the XXH3-64 of the 16 bytes before
//       24        body
//
// Hellos and refusals have version 1. All other frames have the version of the peer protocol that
// the two hellos agree on (common_version): from version 2 on a changed length is noticed at once,
// and not when that many bytes have come.
//
// A frame is valid when the header's fields are as above, the length is within the limit of its
// type, the checksums fit, and the body is exactly what its type says, each entry's own checksum
// included. No term, index, session or sequence is over kMaxReceivedNumber (base/limits.h).
// Anything else ends the connection: behind a broken frame no boundary can be trusted.
// Pure functions; any thread.
#pragma once

#include <string>
#include <string_view>
#include <variant>

#include "base/bytes.h"
#include "base/error.h"
#include "wire/handshake.h"
#include "wire/peer_messages.h"

namespace connectd::wire {

inline constexpr std::string_view kPeerMagic = "CONNECTD";
inline constexpr size_t kFrameHeaderBytes = 24;
// Bodies. One AppendRequest holds Options::max_append_bytes and one entry of the largest request.
inline constexpr size_t kMaxFrameBytes = size_t{32} << 20;
inline constexpr size_t kMaxHandshakeBytes = size_t{4} << 10;
inline constexpr size_t kMaxNameBytes = 256;      // cluster and plugin
inline constexpr size_t kMaxRefusalBytes = 1024;  // text

// The values are part of the protocol.
enum class FrameType : uint8_t {
  kHello = 1,
  kRefusal = 2,
  kProbe = 3,
  kProbeAnswer = 4,
  kPreVoteRequest = 16,
  kPreVoteResponse = 17,
  kVoteRequest = 18,
  kVoteResponse = 19,
  kAppendRequest = 20,
  kAppendResponse = 21,
  kHeartbeat = 22,
  kHeartbeatResponse = 23,
  kTimeoutNow = 24,
  kReadIndexRequest = 25,
  kReadIndexResponse = 26,
  kForwardProposals = 32,
  kForwardRefused = 33,
  kSnapshotChunk = 34,
  kSnapshotAck = 35,
  kGenesisOffer = 36,
  kGenesisAccepted = 37,
  kDigestReport = 38,
  kDigestQuery = 39,
  kDivergenceVerdict = 40,
  kChangeRequest = 41,
  kChangeAnswer = 42,
  kDiskReport = 46,
  kSnapshotOffer = 48,
};

// The values are part of the protocol.
enum class FrameVersion : uint8_t {
  kFirst = 1,
  kCheckedHeader = 2,
};
// Of the messages between two nodes whose hellos fit.
FrameVersion common_version(const Hello& mine, const Hello& theirs);

struct FrameHeader {
  FrameVersion version{};
  FrameType type{};
  uint32_t length = 0;  // of the body
  uint64_t seed = 0;    // of the checksum
  uint64_t checksum = 0;
};

// The first kFrameHeaderBytes bytes of `from`: to be called, and believed, before a byte of the
// body is made room for.
Result<FrameHeader> decode_frame_header(ByteView from);

// Whether the message shares the body's bytes after decoding, so that a small body in a large block
// is better copied first.
bool carries_payload(FrameType type);

// Appends one frame. False, and `out` as it was, when the body would be over kMaxFrameBytes.
[[nodiscard]] bool append_frame(std::string& out, const PeerMessage& message,
                                FrameVersion version = FrameVersion::kFirst);
// `body` has header.length bytes. Payloads in the result are parts of `body`, not copies.
Result<PeerMessage> decode_frame(const FrameHeader& header, const Slice& body);

void append_hello(std::string& out, const Hello& hello);
void append_refusal(std::string& out, const Refusal& refusal);
void append_probe(std::string& out, const Probe& probe);
// What the connection itself is about. A probe may come once the hellos are exchanged.
using Handshake = std::variant<Hello, Refusal, Probe>;
inline bool is_handshake(FrameType type) { return type <= FrameType::kProbeAnswer; }
// A body may be longer than this version knows: the rest is of later versions, and ignored.
Result<Handshake> decode_handshake(const FrameHeader& header, ByteView body);

}  // namespace connectd::wire
