// What nodes say to each other after the handshake: the core's messages, proposals on their way to
// the leader, and snapshots. Plain values; wire/peer_codec.h gives their bytes.
#pragma once

#include <cstdint>
#include <string>
#include <variant>
#include <vector>

#include "base/types.h"
#include "raft/types.h"
#include "wire/snapshot_file.h"

namespace connectd::wire {

// From the node that holds clients to the leader. All of one session, sequences contiguous (a
// session open travels alone). A node that is not the leader of `leader_term` refuses it whole,
// unappended.
struct ForwardProposals {
  Term leader_term;
  std::vector<raft::Proposal> proposals;
};
struct ForwardRefused {
  Term leader_term;  // as it came
  Term term;         // the refuser's
  NodeId leader;     // whom the refuser believes to lead; none: nobody
};

// A snapshot file on its way to a follower. The leader offers it; the answer says how much of this
// very file is on the follower's disk, from this transfer or an earlier one, by this leader or
// another. From there on the file comes in chunks, in order. The receiver answers each; the sender
// keeps a small window of unanswered ones, and offers again when it hears nothing.
struct SnapshotOffer {
  SnapshotFile file;
  Term leader_term;
};
struct SnapshotChunk {
  SnapshotFile file;
  Term leader_term;
  uint64_t offset = 0;
  Slice bytes;  // the chunk with offset + size == file.bytes is the last
};
struct SnapshotAck {
  SnapshotFile file;
  uint64_t received = 0;  // bytes from the start of the file, all on this node
  enum class State : uint8_t {
    kReceiving = 0,
    kInstalled = 1,
    kRefused = 2,  // the transfer is over
    kWorking = 3,  // it is alive and at it; `received` says nothing
  } state = State::kReceiving;
};

// Forming a cluster (before there is one): the genesis, from the lowest id to the others.
struct GenesisOffer {
  std::string document;
};
struct GenesisAccepted {
  uint64_t document_checksum = 0;
};

// The comparison of the replicas (node/divergence/divergence.h). What is compared at an index: the
// digest chain, or the hash of the plugin's canonical snapshot.
enum class Compared : uint8_t { kReplies = 0, kState = 1 };

// A follower to its leader: unasked as its applied index advances, and as the answer to a
// DigestQuery.
struct DigestReport {
  Term leader_term;
  Compared compared = Compared::kReplies;
  bool known = false;        // there is a value for `index`
  uint64_t incarnation = 0;  // of the sender: its earlier processes' values count no more
  // XXH3-64 of the plugin's version text for kState, else 0: another build may write other bytes.
  uint64_t build = 0;
  Index index;
  uint64_t digest = 0;  // 0 when not known
  Index first;          // the sender has values from here ...
  Index last;           // ... to here
};
// The leader to a follower: what is your value at `index`?
struct DigestQuery {
  Term leader_term;
  Compared compared = Compared::kReplies;
  Index index;
};
// The leader to a follower: what came of the comparison.
struct DivergenceVerdict {
  Term leader_term;
  Compared compared = Compared::kReplies;
  enum class Kind : uint8_t {
    kStop = 0,        // the receiver is in the minority
    kNoMajority = 1,  // no value has a majority: no writes are taken; said again while it lasts
  } kind = Kind::kStop;
  Index agreed;               // the last index known to be equal; none: there is none
  Index index;                // the first one known to differ
  uint64_t digest = 0;        // kStop: the receiver's own there; else the leader's
  uint64_t other_digest = 0;  // the other one
};

// A membership change, from the node that was asked to the leader (node/membership/members.h has
// the bytes), and what became of it. `number` is the asker's; an answer that is lost is not asked
// for again.
struct ChangeRequest {
  uint64_t number = 0;
  std::string change;
};
struct ChangeAnswer {
  uint64_t number = 0;
  std::string outcome;
};

// What a node says of its disk, to every peer: when it changes, when a connection stands, and again
// now and then, for messages are lost (node/disk/disk_watch.h).
struct DiskReport {
  Term leader_term;   // that the sender leads; none: it does not lead
  bool full = false;  // less space than the sender's storage.min_free_disk, or no room in its log
  bool stalled = false;  // it has completed nothing for the sender's storage.stall_timeout
  // Of a leader: no quorum has space, or its own log no room: no command is taken from anybody.
  bool writes_stopped = false;
};

using PeerMessage =
    std::variant<raft::Envelope, ForwardProposals, ForwardRefused, SnapshotChunk, SnapshotAck,
                 GenesisOffer, GenesisAccepted, DigestReport, DigestQuery, DivergenceVerdict,
                 ChangeRequest, ChangeAnswer, DiskReport, SnapshotOffer>;

}  // namespace connectd::wire
