// Limits that depend on the size of a peer frame. Each is derived here, so that none of them can
// contradict another.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "base/limits.h"
#include "wire/peer_codec.h"

namespace connectd::wire {

// What a frame has beside one request: the fields of an append request or of forwarded proposals,
// and the header of the entry or the proposal.
inline constexpr size_t kMaxRequestOverhead = 256;
// The largest request that one frame can carry, whatever the founding client.max_request allows.
inline constexpr size_t kMaxRequestBytes = kMaxFrameBytes - kMaxRequestOverhead;
static_assert(kMaxRequestBytes <= kMaxEntryPayloadBytes);
static_assert(kMaxGenesisBytes < kMaxRequestBytes, "the genesis is an entry and an offer");

// Encoded and not yet taken by the socket, for each peer: more, and the connection breaks.
inline constexpr size_t kMaxLinkOutputBytes = size_t{64} << 20;
// The largest window of unacknowledged entries. A window may be exceeded by one message, and other
// messages need room, too; with a larger one a leader would break the link to a follower that is
// behind each time that it fills the window.
inline constexpr size_t kOtherOutputBytes = size_t{4} << 20;
inline constexpr size_t kMaxInflightBytes =
    kMaxLinkOutputBytes - kMaxFrameBytes - kOtherOutputBytes;
static_assert(kMaxInflightBytes >= size_t{16} << 20, "the default of raft.inflight_bytes");

// What is in force. A larger founding value stays valid: no cluster is refused for it.
constexpr uint64_t effective_max_request(uint64_t founding) {
  return std::min<uint64_t>(founding, kMaxRequestBytes);
}

}  // namespace connectd::wire
