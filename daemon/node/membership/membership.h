// The members that this node knows, and their changes: the current list, the connected peers, the
// changes of operators, and the leader's automatic steps (ADR 15).
//
// A change of an operator causes further changes, one after the other, under any leader: it binds a
// new member's disk, adds a replaced member as a learner, promotes a learner that has caught up,
// and records new addresses.
//
// Pure: events in, effects out. Owner: the loop thread.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <set>
#include <string>

#include "base/clock.h"
#include "node/effects.h"
#include "node/membership/feature_levels.h"
#include "node/membership/members.h"
#include "raft/core.h"

namespace connectd::node {

class Membership final {
 public:
  // Forwarded changes without an answer.
  static constexpr size_t kMaxAsked = 64;
  // The leader answers at once; a later answer is treated as lost.
  static constexpr Duration kAnswerTimeout = std::chrono::seconds(3);

  struct Options {
    GenesisMember self;    // with the disk and, unless empty, the addresses this node wants
    ClusterId cluster_id;  // as the identity file has it; none: the one of the genesis
    Duration heartbeat_interval{};  // of this node, for the check of settings
    uint32_t feature_level_max = raft::highest_feature_level();  // of this build
  };
  using Done = std::function<void(ChangeOutcome)>;
  using DiskProblems = std::map<NodeId, std::string>;

  Membership(const Options& options, const Genesis& genesis)
      : options_(options),
        genesis_(genesis),
        feature_levels_(options.self.id, options.feature_level_max) {}

  // ---- what happened
  void peer_reached(NodeId peer, const wire::Hello& hello);
  void peer_lost(NodeId peer);
  // Whoever answers at this peer's address refuses this node.
  void refused_by(NodeId peer, wire::RefusalCode code, Time now);
  // The configuration may have changed: when its entry was appended, or truncated.
  void follow(const raft::Core& core, Effects& out);

  // ---- changes
  // The leader's decision about `change`: reject, already in effect, or an event for the core. Once
  // the core has processed it, concluded() is the answer.
  struct Decision {
    ChangeOutcome outcome;
    std::optional<raft::Event> event;
    std::string notice;  // for the log, once it is carried out; may be empty
  };
  // `disks`: of the voters that should not lead, what is wrong: "is full", "has stalled".
  Decision decide(const MemberChange& change, const raft::Core& core,
                  const DiskProblems& disks = {}) const;
  // The same for a change that another node forwarded.
  Decision decide(const wire::ChangeRequest& request, const raft::Core& core,
                  const DiskProblems& disks) const;
  ChangeOutcome concluded(const Decision& decision, const raft::Core& core) const;
  // Forwards the change to the leader, another node. `done` is called once, in this call or in a
  // later one, and not after this object is gone.
  void ask_leader(const MemberChange& change, const raft::Core& core, Time now, Done done,
                  Effects& out);
  void on_answer(const wire::ChangeAnswer& answer);

  // ---- the turn
  // Periodically: the leader's next automatic step; expires forwarded changes.
  void advance(const raft::Core& core, Time now, Effects& out);

  // ---- what it knows
  // Of the newest configuration in the log, committed or not.
  const MemberList& list() const { return list_; }
  // The cluster id for handshakes.
  ClusterId cluster_id() const {
    return options_.cluster_id ? options_.cluster_id : genesis_.cluster_id;
  }
  // The voters that this node reaches, with itself, are no majority.
  struct LostMajority {
    std::string text;  // which it does not reach, at which addresses; empty: they are one
    // What an operator can do, unless the others serve without this node: they may, and it cannot
    // know. Empty: one of them runs and refuses this node, and says why. (A stranger that answers
    // at a member's address says nothing about the member.)
    std::string remedy;

    std::string full() const { return remedy.empty() ? text : text + ": " + remedy; }
  };
  LostMajority lost_majority(const raft::Core& core) const;
  // Whether to accept a peer with this hello.
  std::optional<wire::Refusal> check_peer(const wire::Hello& hello, const raft::Core& core) const;
  // Whether a message counts that came behind this hello.
  //
  // Of a member, what a quorum is made of (votes, acknowledgements, reports) counts only from the
  // disk that the list names: the disk that a replacement gave up may run on, and would be a second
  // voter with the same id (ADR 15). Requests count from any disk: the sender may know of a
  // replacement that this node has not heard of.
  //
  // Who is no member may be one that this node has not heard of (thesis §4.1), if its hello names
  // later members than this node's, or if this node's are not committed: its requests for votes and
  // what a leader sends count. From others nothing does (ADR 40).
  enum class Hearing : uint8_t {
    kCounts,
    kIgnored,
    kStranger,  // nothing of this connection counts
  };
  Hearing hearing(const wire::Hello& sender, const wire::PeerMessage& message,
                  const raft::Core& core) const;
  static std::string fault_of(Hearing hearing) {
    return hearing == Hearing::kStranger ? "it is no member of this cluster" : "";
  }
  // Why a list of members in `request` cannot be right; empty: there is none, or it can.
  static std::string fault_of(const raft::AppendRequest& request);
  // This node was removed permanently.
  bool is_removed(const raft::Core& core) const {
    return core.conf_is_settled() && list_.is_removed(options_.self.id);
  }

 private:
  struct Asked {
    Done done;
    Time until;
  };
  struct Refusal {
    bool by_stranger = false;
    Time until;  // it stands
  };
  NodeId self() const { return options_.self.id; }
  const GenesisMember* connected(NodeId id) const;
  // A replacement of a member that is connected with the disk that the list names. None: it is not.
  std::optional<Decision> decide_replace_of_connected(NodeId id, const raft::Core& core) const;
  Decision decide_transfer(NodeId to, const raft::Core& core, const DiskProblems& disks) const;
  // Why this voter cannot take over now; empty: it can.
  std::string transfer_problem(NodeId id, const raft::Core& core, const DiskProblems& disks) const;
  Decision decide_level_probe(const raft::Core& core) const;
  Decision decide_setting(const MemberChange& change, const raft::Core& core) const;
  Decision append(const PlannedChange& plan, bool force, const raft::Core& core) const;
  std::optional<PlannedChange> next_step(const raft::Core& core) const;
  std::optional<PlannedChange> step_of(const GenesisMember& member, const raft::Core& core) const;
  void expire(const raft::Core& core, Time now);

  const Options options_;
  const Genesis genesis_;
  MemberList list_;
  Slice list_bytes_;                           // what list_ was read from
  std::map<NodeId, GenesisMember> connected_;  // disk and addresses, as the peers say
  std::map<NodeId, Refusal> refused_by_;       // members, not reached since
  FeatureLevels feature_levels_;               // what the peers have announced
  std::map<uint64_t, Asked> asked_;            // at the leader, by number
  uint64_t next_number_ = 1;
};

}  // namespace connectd::node
