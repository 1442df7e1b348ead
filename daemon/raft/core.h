// The consensus core: a deterministic object that turns events into effects. No I/O, thread, clock,
// log library or global. Same options and same steps: same effects, always.
//
// The host's turn: step() each event that has arrived, then take_ready() once, then do what it
// says. Owner: the loop thread. The log it sees: entries it holds in memory (the tail), and for
// older ones only their terms; it asks the host to load those (Ready::loads).
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "base/clock.h"
#include "base/random.h"
#include "raft/settings.h"
#include "raft/types.h"

namespace connectd::raft {

// Who stands for election, and whom a leader hands over to: the higher the rather. 0: never leads.
inline constexpr uint8_t kDefaultPriority = 100;

struct Options {
  NodeId id;
  // Lower bound; drawn from [T, 2T). Counts while there are no settings
  // (Initial::settings_history).
  Duration election_timeout = std::chrono::milliseconds(500);
  Duration heartbeat_interval = std::chrono::milliseconds(50);
  bool pre_vote = true;
  bool check_quorum = true;
  uint8_t priority = kDefaultPriority;
  uint64_t seed = 0;                  // for timeouts; differs from node to node
  size_t max_append_bytes = 1 << 20;  // of one AppendRequest; at least one entry always goes
  size_t max_append_entries = 8192;
  size_t inflight_bytes = 16 << 20;  // unacknowledged per follower in replicate state
  size_t cache_bytes = 16 << 20;     // durable, applied entries kept in memory for followers
  size_t apply_bytes = 1 << 20;      // of one Ready::committed
};

// A configuration and the entry that brought it.
struct ConfAtIndex {
  Index index;
  ConfState conf;
  // What the host wants to know of the members (addresses, disks) beside who they are. It travels
  // in the entry, is in force and goes out of force with it, and means nothing to the core.
  Slice details{};
};

// What recovery found.
struct Initial {
  HardState hard_state;
  ConfState conf;  // in force at the end of the log
  // The configurations along the log, oldest first, `conf` last: one that is not committed goes out
  // of force if its entry is truncated. Empty: `conf` has been in force all along.
  std::vector<ConfAtIndex> conf_history;
  // Likewise the settings. Empty: Options::election_timeout, and no leases.
  std::vector<SettingsAtIndex> settings_history;
  // This log is begun in this life: nobody was ever promised anything by this node.
  bool is_fresh = false;
  SnapshotMark snapshot;       // newest durable snapshot; {0,0}: none
  Index first_index{1};        // first entry in the log; the log may start below the snapshot
  Term before_first_term;      // term of first_index - 1
  std::vector<TermRun> terms;  // of [first_index, last_index]
  Index last_index;            // first_index - 1 when the log is empty
  Index applied;               // what the state machine holds: the snapshot's index
  int64_t last_stamp_ns = 0;   // of the last entry or the snapshot
};

// ---- events

struct TimePassed {};  // look at the timers
struct Received {
  Envelope envelope;
};
// On a leader that is not transferring: appended, in order. Otherwise dropped whole
// (Ready::proposals_dropped), and none of it will ever be appended. All or nothing. Only of kinds
// that may_be_proposed (raft/entry_kinds.h).
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

// Why a leader takes no change of members now.
enum class ChangeRefusal : uint8_t {
  kNone,
  kNotLeader,
  kNotReady,      // nothing of its own term is committed yet (thesis §4.1, errata)
  kUnderWay,      // the change before is not committed, or the cluster is joint
  kTransferring,  // leadership is being handed over
};

// ---- effects

// One batch for the log writer. The writer makes batches durable in order and may merge the sync of
// several; then the host sends `after_durable` and steps AppendDone{id}.
struct AppendBatch {
  uint64_t id = 0;                     // rises by one from batch to batch
  HardState hard_state;                // always written along
  std::optional<Index> replaces_from;  // logical truncation: these entries replace all from here on
  std::vector<Entry> entries;          // contiguous; may be empty (hard state only)
  std::vector<Envelope> after_durable;  // votes and append responses that speak of this batch
};

// Read `[from, to)` from the log, at most `max_bytes` (at least one entry), step Loaded.
struct LoadRequest {
  Index from;
  Index to;
  size_t max_bytes = 0;
};

// May be served when applied >= index.
struct ReadState {
  uint64_t context = 0;
  Index index;
};

struct Ready {
  std::vector<Envelope> messages;     // may leave now
  std::optional<AppendBatch> append;  // to the log writer
  std::vector<Entry> committed;       // to apply, in order; each exactly once
  std::vector<ReadState> reads;
  std::vector<uint64_t> reads_dropped;  // contexts: ask again (leader unknown or lost)
  size_t proposals_dropped = 0;         // Propose events refused whole, since the last Ready
  std::vector<LoadRequest> loads;
  std::vector<NodeId> snapshots;    // start a snapshot stream to each of these peers
  bool soft_state_changed = false;  // role(), leader() or term() changed
};

struct PeerStatus {
  NodeId id;
  Index match;
  Index next;
  enum class State : uint8_t { kProbe, kReplicate, kSnapshot } state = State::kProbe;
  size_t inflight_bytes = 0;
  bool active = false;   // heard of in the present check-quorum period
  bool is_near = false;  // in that one, or in the one before
  uint8_t priority = kDefaultPriority;
};

class Core final {
 public:
  Core(const Options& options, const Initial& initial, Now now);
  ~Core();
  Core(const Core&) = delete;
  Core& operator=(const Core&) = delete;
  // A copy that goes its own way from here on.
  std::unique_ptr<Core> clone() const;

  void step(Event event, const Now& now);
  Ready take_ready();
  // When TimePassed is wanted next at the latest.
  Time next_deadline() const;

  NodeId id() const;
  Role role() const;
  Term term() const;
  NodeId leader() const;  // none: unknown
  Index last_index() const;
  Index commit_index() const;
  Index applied_index() const;  // as told by ApplyDone
  Index durable_index() const;  // everything up to here is on this node's disk
  Index first_index() const;
  Term term_at(
      Index index) const;  // none when the log does not know it (compacted, or past the end)
  // Null when it is not held in memory. Valid until the next step.
  const Entry* entry_in_memory(Index index) const;
  const ConfState& conf() const;
  // The entry that brought conf(), 0 if it has been in force all along, and its details.
  Index conf_index() const;
  const Slice& conf_details() const;
  // conf() is committed and no other is to follow it: the change that brought it is over.
  bool conf_is_settled() const;
  ChangeRefusal change_refusal() const;
  HardState hard_state() const;
  // The newest in the log, committed or not, and the entry that brought them (0: the founding).
  const Settings& settings() const;
  Index settings_index() const;
  // As it says of itself; the default where it has not been heard.
  uint8_t priority_of(NodeId id) const;
  // Nobody else can have been elected until then, by this node's clock: reads may be served at the
  // commit index. None: no lease is held.
  std::optional<Time> lease_until() const;
  // The leader of `term()` has committed an entry of its own term: reads and changes may begin.
  bool leader_is_ready() const;
  bool is_transferring() const;
  size_t unstable_bytes() const;          // appended and not yet durable here
  std::vector<PeerStatus> peers() const;  // leader: all members but itself; else empty

 private:
  friend class InvariantChecker;
  friend class Fingerprint;
  class Impl;
  explicit Core(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

// The invariants of one core's state, and of a step from one state to the next. Ends the process
// with the broken one (CHECK is in base/log.h; here a failure is reported to the caller so that
// tests can see it). Called after every step in tests and in the simulator.
class InvariantChecker {
 public:
  // Empty when all hold, else the first that does not, in words.
  std::string after_step(const Core& core);
  // The node was restarted from what was durable: what was not may be gone.
  void restarted(NodeId id);

 private:
  struct Seen;
  std::map<NodeId, std::shared_ptr<Seen>> seen_;
};

}  // namespace connectd::raft
