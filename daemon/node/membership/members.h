// The member list: addresses and disks of the members, pending promotions, and removed ids. Each
// configuration has a list (raft::ConfAtIndex::details), which takes effect when the entry is
// appended and is dropped when the entry is truncated. Values; pure functions; any thread.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "base/address.h"
#include "base/bytes.h"
#include "base/error.h"
#include "base/limits.h"
#include "node/membership/change_outcome.h"
#include "node/membership/genesis.h"
#include "raft/types.h"
#include "wire/handshake.h"

namespace connectd::node {

// How a survivor's log ends: what `connectctl recover` reports of it.
struct SurvivorEnd {
  NodeId node;
  Term last_term;  // of the log's last entry
  Index last_index;
  Term term;  // the highest that the node has seen
  bool operator==(const SurvivorEnd&) const = default;
};

// An operator restarted the cluster with the log of one survivor (offline/recover.h).
struct RecoveryRecord {
  ClusterId former;  // the cluster as it was
  ClusterId id;      // the cluster from here on
  NodeId best;       // whose log it is
  int64_t wall_ns = 0;
  std::vector<SurvivorEnd> survivors;  // sorted by node
  bool operator==(const RecoveryRecord&) const = default;
};
// A survivor for `connectctl recover --members`: "2:7:1234:9:00010203".
std::string end_text(const SurvivorEnd& end, const ClusterId& cluster);
inline constexpr size_t kClusterDigits = 8;  // of the cluster's id in it
// What repeats the recovery in `directory`.
std::string recover_command(const std::string& directory, const RecoveryRecord& record);
// Per cluster. Each hello lists all of them.
inline constexpr size_t kMaxRecoveries = kMaxFormerClusters;

// Ids are never used again, so the list of removed ones grows. At this many, `member add` and
// `member remove` are refused: that leaves room for the members that a recovery removes.
inline constexpr size_t kMaxRemovedByChanges = 65'000;

struct MemberList {
  // Sorted by id. A member without a disk is bound to the disk of its first hello. A removed member
  // stays in the list until the next change: the joint configuration requires it.
  std::vector<GenesisMember> members;
  std::vector<NodeId> promote;             // learners that become voters when they have caught up
  std::vector<NodeId> removed;             // sorted; ids are never used again
  std::vector<RecoveryRecord> recoveries;  // in order
  bool operator==(const MemberList&) const = default;

  static MemberList of(const Genesis& genesis);
  // docs/storage-format.md, "Members".
  std::string encode() const;
  static Result<MemberList> decode(ByteView bytes);

  const GenesisMember* find(NodeId id) const;
  bool will_promote(NodeId id) const;
  bool is_removed(NodeId id) const;
  // The cluster of this list: the original one, or the last recovery.
  ClusterId cluster_id(const Genesis& genesis) const;
};

// Whom node `self` dials, and where, in the order to try: only members. `listed`: addresses of the
// configuration file, as hints. `settled`: the configuration of `list` is not joint, so removed
// members are not dialled any more.
std::map<NodeId, std::vector<Address>> addresses_to_dial(NodeId self,
                                                         const std::map<NodeId, Address>& listed,
                                                         const MemberList& list, bool settled);

// A request of an operator.
struct MemberChange {
  enum class Kind : uint8_t {
    kAdd = 1,      // as a learner; becomes a voter by itself unless learner_only
    kPromote = 2,  // a learner becomes a voter when it has caught up
    kRemove = 3,   // for good
    kReplace = 4,  // the same id on a new, empty disk
    // No change: leadership goes to member.id, or to the voter of the highest priority (none).
    kTransfer = 5,
    kSetting = 6,  // of the cluster: `key` gets `value` (node/membership/settings.h)
  } kind = Kind::kAdd;
  GenesisMember member;  // the id; addresses for kAdd, and those to be changed for kReplace
  bool learner_only = false;
  bool force = false;  // even if the reachable voters are not a majority afterwards
  Index expected;      // rejected unless the configuration has this index; none: any
  std::string key{};   // of kSetting alone
  std::string value{};

  std::string encode() const;
  static Result<MemberChange> decode(ByteView bytes);
};

struct PlannedChange {
  raft::ConfState conf;
  MemberList list;
  NodeId other_disk{};  // the member whose disk this change takes away or binds
};

// The change is already in effect: a retry after a lost answer succeeds. Only for a settled list.
std::optional<std::string> is_so_already(const MemberChange& change, const raft::ConfState& conf,
                                         const MemberList& list);

// The members after the change. kUsage: the change is invalid.
Result<PlannedChange> plan_change(const MemberChange& change, const raft::ConfState& conf,
                                  const MemberList& list);
PlannedChange bind_disk(NodeId id, const DiskId& disk, const raft::ConfState& conf,
                        const MemberList& list);
// Other addresses; empty ones stay as they are.
PlannedChange move_member(const GenesisMember& member, const raft::ConfState& conf,
                          const MemberList& list);
// The member is in the list and not in the configuration: its disk was exchanged.
PlannedChange add_learner(NodeId id, const raft::ConfState& conf, const MemberList& list);
PlannedChange promote_now(NodeId id, const raft::ConfState& conf, const MemberList& list);

// Whether a learner of the leader's log up to `last` may become a voter: it can catch up within a
// round trip or two (thesis §4.2.1), and its own log has the member list of `list_index`, which
// binds its disk. Before that it does not vote, and its promotion may require its vote.
inline constexpr uint64_t kPromoteLag = 256;
bool has_caught_up(Index match, Index last, Index list_index);

// Whether `hello` comes from a member of this cluster, with the disk that the cluster knows; else
// what it is told. `index`: of the entry that brought this list; who goes by a newer one is not
// judged by it. `settled`: the change that brought it is over, so that who was removed is not
// needed any more. (What the two hellos alone tell is wire::check_hello's business.)
std::optional<wire::Refusal> check_member(const MemberList& list, Index index, bool settled,
                                          const std::string& cluster_name,
                                          const wire::Hello& hello);

}  // namespace connectd::node
