// What a host tells a core: the argument of Core::step(). Values.
#pragma once

#include <cstdint>
#include <optional>
#include <variant>
#include <vector>

#include "base/clock.h"
#include "raft/settings.h"
#include "raft/types.h"

namespace connectd::raft {

struct TimePassed {};  // look at the timers
struct Received {
  Envelope envelope;
};
// On a leader that is not transferring: appended, in order. Otherwise dropped whole
// (Ready::proposals_dropped), and none of it will ever be appended. All or nothing. Only kinds that
// may_be_proposed (raft/entry_kinds.h).
struct Propose {
  std::vector<Proposal> proposals;
};
// Answered by one Ready::reads with this context, or by Ready::reads_dropped. Any role. `lease`: at
// once, if this node leads and holds a lease; if not, like any other.
struct ReadRequest {
  uint64_t context = 0;
  bool lease = false;
};
// None: to the voter of the highest priority that has caught up and is not unfit. Never to one of
// priority 0.
struct TransferLeadership {
  NodeId to;
};
// Other members, or other details. On a leader for which change_refusal() is kNone: one entry is
// appended and in force at once, and if the voters change, the cluster is joint until it is
// committed; then the leader appends the entry that ends it (thesis §4.3). Otherwise ignored.
// `conf.voters_outgoing` must be empty.
struct ChangeConf {
  ConfState conf;
  Slice details;
};
// Whether this node may vote and campaign, whatever the configuration says: not on a disk that the
// cluster does not know as this member's, for the votes of the one before it are forgotten.
struct Suffrage {
  bool may_vote = true;
};
// Whether this node would be of use as a leader. One whose disk completes nothing could not even
// make its own vote durable: it does not campaign, by its own timer or by another's wish. It votes
// as ever.
struct Candidacy {
  bool may_lead = true;
};
// Peers that had better not lead now, those that were named before no more: a leader chooses none
// of them by itself.
struct Unfit {
  std::vector<NodeId> peers;
};
// The connection broke.
struct PeerLost {
  NodeId peer;
};
// A connection stands: probe again at once.
struct PeerReached {
  NodeId peer;
  uint8_t priority = kDefaultPriority;  // as the peer says of itself
};
// Other settings (`confirmed_timeout` is not looked at). On a leader that is ready and is not
// transferring: one entry is appended. Otherwise ignored.
struct ChangeSettings {
  Settings settings;
};
// From now on this node does not stand for election: it is about to stop.
struct Retire {};
// A leader gives up its office with nobody to hand it to; the others elect when they miss it.
struct StepDown {};
// A batch that Ready::append gave is durable. Batches become durable in order.
struct AppendDone {
  uint64_t batch = 0;
};
// Everything up to here was applied.
struct ApplyDone {
  Index index;
};
// Answers Ready::loads: contiguous from the asked index; empty: not there any more (compacted).
struct Loaded {
  Index from;
  std::vector<Entry> entries;
};
// The log was replaced by a snapshot that came from the leader (durable, and applied).
struct SnapshotInstalled {
  SnapshotMark mark;
  ConfState conf;
  int64_t last_stamp_ns = 0;
  Slice details{};
  std::optional<Settings> settings{};  // none: those that were in force at `mark`, or before it
};
// This node took a snapshot, and it is durable.
struct SnapshotTaken {
  SnapshotMark mark;
};
// The log's front was dropped: it now begins at `first_index`.
struct Compacted {
  Index first_index;
};
// A snapshot stream to a peer ended; ok: the peer installed the snapshot at `mark`.
struct SnapshotSent {
  NodeId peer;
  bool ok = false;
  SnapshotMark mark;
};

using Event = std::variant<TimePassed, Received, Propose, ReadRequest, TransferLeadership, PeerLost,
                           PeerReached, AppendDone, ApplyDone, Loaded, SnapshotInstalled,
                           SnapshotTaken, Compacted, SnapshotSent, ChangeConf, Suffrage, Candidacy,
                           Unfit, ChangeSettings, Retire, StepDown>;

}  // namespace connectd::raft
