// The events that a host passes to Core::step(). Values.
#pragma once

#include <cstdint>
#include <optional>
#include <variant>
#include <vector>

#include "base/clock.h"
#include "raft/settings.h"
#include "raft/types.h"

namespace connectd::raft {

struct TimePassed {};  // check the timers
struct Received {
  Envelope envelope;
};
// A leader that is not transferring appends all proposals, in order. Otherwise all are dropped
// (Ready::proposals_dropped), and none will ever be appended. All kinds must satisfy
// may_be_proposed() (raft/entry_kinds.h).
struct Propose {
  std::vector<Proposal> proposals;
};
// Answered by one Ready::reads or Ready::reads_dropped with this context. Any role. `lease`: answer
// at once if this node leads and holds a lease; otherwise as without it.
struct ReadRequest {
  uint64_t context = 0;
  bool lease = false;
};
// `to` none: the voter of the highest priority that has caught up and is not unfit. Never a node of
// priority 0.
struct TransferLeadership {
  NodeId to;
};
// Changes the members or their details. Ignored unless the node leads and change_refusal() is
// kNone. The leader appends one entry, which takes effect at once. If the voters change, the
// cluster is joint until that entry is committed; then the leader appends the entry that ends the
// joint configuration (thesis §4.3). `conf.voters_outgoing` must be empty.
//
// `other_disk`: this member answers from another disk from now on. What the leader knows of its log
// is of the disk before, and is forgotten: `match` is a promise of one disk (Progress).
struct ChangeConf {
  ConfState conf;
  Slice details;
  NodeId other_disk{};
};
// Whether this node may vote and campaign, whatever the configuration says. It may not on a disk
// that the cluster does not know as this member's, because the votes on the previous disk are lost.
struct Suffrage {
  bool may_vote = true;
};
// Whether this node can lead. A node whose disk completes nothing cannot even make its own vote
// durable, so it does not campaign, neither on its own timer nor on TimeoutNow. It still votes.
struct Candidacy {
  bool may_lead = true;
};
// The peers that should not lead now; replaces the previous list. A leader does not choose one of
// them as its successor by itself.
struct Unfit {
  std::vector<NodeId> peers;
};
// Each peer has answered or failed once since this node started. Until then a node with
// Options::awaits_peers that has heard no leader does not campaign: one of the peers may know that
// the cluster was recovered without this node (docs/adr/0021-disaster-recovery.md).
struct PeersTried {};
// The connection broke.
struct PeerLost {
  NodeId peer;
};
// Connected: probe at once.
struct PeerReached {
  NodeId peer;
  uint8_t priority = kDefaultPriority;  // as reported by the peer
};
// Changes the settings; `confirmed_timeout` is ignored. A leader that is ready and not transferring
// appends one entry; otherwise the event is ignored.
struct ChangeSettings {
  Settings settings;
};
// This node does not campaign any more: it is about to stop.
struct Retire {};
// A leader steps down without a successor; the others elect after their timeouts.
struct StepDown {};
// A batch from Ready::append is durable. Batches become durable in order.
struct AppendDone {
  uint64_t batch = 0;
};
// Everything up to `index` is applied.
struct ApplyDone {
  Index index;
};
// Answers Ready::loads: contiguous from the requested index; empty: compacted.
struct Loaded {
  Index from;
  std::vector<Entry> entries;
};
// A snapshot from the leader has replaced the log; it is durable and applied.
struct SnapshotInstalled {
  SnapshotMark mark;
  ConfState conf;
  int64_t last_stamp_ns = 0;
  Slice details{};
  std::optional<Settings> settings{};  // none: those in force at or before `mark`
};
// This node has taken a snapshot, which is durable.
struct SnapshotTaken {
  SnapshotMark mark;
};
// The log was compacted: it now begins at `first_index`.
struct Compacted {
  Index first_index;
};
// A snapshot stream to a peer has ended; ok: the peer installed the snapshot at `mark`.
struct SnapshotSent {
  NodeId peer;
  bool ok = false;
  SnapshotMark mark;
};

using Event = std::variant<TimePassed, Received, Propose, ReadRequest, TransferLeadership, PeerLost,
                           PeerReached, AppendDone, ApplyDone, Loaded, SnapshotInstalled,
                           SnapshotTaken, Compacted, SnapshotSent, ChangeConf, Suffrage, Candidacy,
                           Unfit, ChangeSettings, Retire, StepDown, PeersTried>;

}  // namespace connectd::raft
