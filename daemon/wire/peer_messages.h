// What nodes say to each other after the handshake: the core's messages, proposals on their way to
// the leader, and snapshots. Plain values; wire/peer_codec.h gives their bytes.
#pragma once

#include <cstdint>
#include <string>
#include <variant>
#include <vector>

#include "base/types.h"
#include "raft/core.h"
#include "raft/types.h"

namespace connectd::wire {

// From the node that holds clients to the leader. All of one session, sequences contiguous (a session
// open travels alone). A node that is not the leader of `leader_term` refuses it whole, unappended.
struct ForwardProposals {
  Term leader_term;
  std::vector<raft::Proposal> proposals;
};
struct ForwardRefused {
  Term leader_term;      // as it came
  Term term;             // the refuser's
  NodeId leader;         // whom the refuser believes to lead; none: nobody
};

// A snapshot file, cut into chunks in order. The receiver answers each; the sender keeps a small
// window of unanswered ones.
struct SnapshotChunk {
  raft::SnapshotMark mark;
  Term leader_term;
  uint64_t file_size = 0;
  uint64_t offset = 0;
  Slice bytes;           // the chunk with offset + size == file_size is the last
};
struct SnapshotAck {
  raft::SnapshotMark mark;
  uint64_t received = 0; // bytes from the start of the file, all on this node
  enum class State : uint8_t { kReceiving = 0, kInstalled = 1, kRefused = 2 } state = State::kReceiving;
};

// Forming a cluster (before there is one): the founding document, from the lowest id to the others.
struct GenesisOffer { std::string document; };
struct GenesisAccepted { uint64_t document_checksum = 0; };

using PeerMessage = std::variant<raft::Envelope, ForwardProposals, ForwardRefused, SnapshotChunk,
                                 SnapshotAck, GenesisOffer, GenesisAccepted>;

}  // namespace connectd::wire
