// Who belongs to the cluster, as this node knows it at the moment, and how that changes: the list
// in force, the peers that are connected, the changes that operators ask for, and the steps that
// the leader takes by itself (ADR 15).
//
// What an operator asks is one change; what follows from it is more changes, one after the other,
// whoever leads: a new member's disk is bound, a replaced one comes back as a learner, a learner
// that has caught up is promoted, other addresses are written down.
//
// Pure: events in, effects out. Owner: the loop thread.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>

#include "base/clock.h"
#include "node/effects.h"
#include "node/membership/feature_levels.h"
#include "node/membership/members.h"
#include "raft/core.h"

namespace connectd::node {

class Membership final {
 public:
  // Changes that were passed on to the leader and are not answered.
  static constexpr size_t kMaxAsked = 64;
  // The leader answers at once; what takes longer is lost.
  static constexpr Duration kAnswerTimeout = std::chrono::seconds(3);

  struct Options {
    GenesisMember self;    // with the disk and, unless empty, the addresses this node wants
    ClusterId cluster_id;  // as the identity file has it; none: the one of the genesis
    Duration heartbeat_interval{};  // of this node, for the check of settings
    uint32_t feature_level_max = raft::highest_feature_level();  // of this build
  };
  using Done = std::function<void(ChangeOutcome)>;

  Membership(const Options& options, const Genesis& genesis)
      : options_(options),
        genesis_(genesis),
        feature_levels_(options.self.id, options.feature_level_max) {}

  // ---- what happened
  void peer_reached(NodeId peer, const wire::Hello& hello);
  void peer_lost(NodeId peer);
  // The configuration may have changed: when its entry was appended, or truncated.
  void follow(const raft::Core& core, Effects& out);

  // ---- changes
  // What this node, which leads, does about `change`: refuses, has nothing to do, or gives the
  // core an event. Once that is carried out, concluded() is the answer.
  struct Decision {
    ChangeOutcome outcome;
    std::optional<raft::Event> event;
    std::string notice;  // for the log, once it is carried out; may be empty
  };
  Decision decide(const MemberChange& change, const raft::Core& core) const;
  // The same for a change that another node has passed on.
  Decision decide(const wire::ChangeRequest& request, const raft::Core& core) const;
  ChangeOutcome concluded(const Decision& decision, const raft::Core& core) const;
  // Passes the change on to the leader, which is another node. `done` is called once, in this call
  // or in a later one, and not after this object is gone.
  void ask_leader(const MemberChange& change, const raft::Core& core, Time now, Done done,
                  Effects& out);
  void on_answer(const wire::ChangeAnswer& answer);

  // ---- the turn
  // Now and then: the next step of what is to follow, if this node leads; expires what was asked.
  void advance(const raft::Core& core, Time now, Effects& out);

  // ---- what it knows
  // Of the newest configuration in the log, committed or not.
  const MemberList& list() const { return list_; }
  // The cluster this node belongs to, as handshakes compare it.
  ClusterId cluster_id() const {
    return options_.cluster_id ? options_.cluster_id : genesis_.cluster_id;
  }
  // Whether a peer that says this is welcome.
  std::optional<wire::Refusal> check_peer(const wire::Hello& hello, const raft::Core& core) const;
  // This node is no member any more, for good.
  bool is_removed(const raft::Core& core) const {
    return core.conf_is_settled() && list_.is_removed(options_.self.id);
  }

 private:
  struct Asked {
    Done done;
    Time until;
  };
  NodeId self() const { return options_.self.id; }
  const GenesisMember* connected(NodeId id) const;
  Decision decide_transfer(NodeId to, const raft::Core& core) const;
  Decision decide_level_probe(const raft::Core& core) const;
  Decision decide_setting(const MemberChange& change, const raft::Core& core) const;
  Decision append(const PlannedChange& plan, bool force, const raft::Core& core) const;
  std::optional<PlannedChange> next_step(const raft::Core& core) const;
  std::optional<PlannedChange> step_of(const GenesisMember& member, const raft::Core& core) const;
  void expire(Time now);

  const Options options_;
  const Genesis genesis_;
  MemberList list_;
  Slice list_bytes_;                           // what list_ was read from
  std::map<NodeId, GenesisMember> connected_;  // disk and addresses, as the peers say
  FeatureLevels feature_levels_;               // what the peers have announced
  std::map<uint64_t, Asked> asked_;            // at the leader, by number
  uint64_t next_number_ = 1;
};

}  // namespace connectd::node
