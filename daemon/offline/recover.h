// What an operator does to the data directory of a node that does not run, when Raft alone goes no
// further: the cluster restarts with the log of one survivor after the loss of a majority, or an
// entry that makes the plugin fail is skipped. `connectctl recover` is the face of it.
//
// The loss of a majority (docs/adr/0021). Which of the survivors' logs is the best is what an
// election would say: the highest last term, then the highest last index (thesis §3.6.1). It holds
// all that any survivor knows to be committed. On that one an entry of kind kRecovery is appended,
// in a term above all that the survivors have seen: it makes the survivor the only voter, the
// others learners that become voters when they have caught up, the lost ones removed, and commits
// all before it. Then, and on the other survivors that is all, the identity file gets another
// cluster id, which follows from the former id and from the survivors: equal on all of them, and
// unknown to those that were lost. Until a survivor's log has the record it does not vote (Node::
// follow_members), so none but the best one's log counts.
//
// A crash in between: the log has the record and the identity file does not name it. The node
// refuses to start, and the same command again completes it.
//
// Nothing here asks or prints. One thread. The caller holds the lock of the directory.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "node/membership/genesis.h"
#include "node/membership/members.h"
#include "raft/types.h"
#include "storage/file_system.h"
#include "storage/identity.h"

namespace connectd::offline {

// What a data directory holds, as a start of its node would find it. Nothing is changed by looking.
struct Survivor {
  storage::Identity identity;
  node::Genesis genesis;
  // The cluster that the log belongs to, and what that was called before. Not always the identity
  // file's: a survivor that has not got the record of a recovery yet has had no part in it, and a
  // wrong one, by a list that was mistyped, can be done again.
  ClusterId cluster;
  std::vector<ClusterId> former;
  node::SurvivorEnd end;
  Index commit;  // everything up to here is known to be committed; more may be
  raft::SnapshotMark snapshot;
  std::vector<raft::EntryId> skipped;  // that the snapshot is without
  int64_t last_stamp_ns = 0;
  raft::ConfState conf;  // the newest in the log, committed or not, and its list
  node::MemberList members;
  Index members_index;
  std::vector<std::string> warnings;  // of what a start would do first

  // The log has the record of a recovery that the identity file does not know.
  bool is_interrupted() const;
};

// kNotFound: no data directory; kCorrupt: damaged; kWrongData: of another cluster, or of none.
Result<Survivor> look_at_survivor(storage::FileSystem& files, const std::string& directory);

// "2:7:1234:9:00010203": node, last term, last index, term, and the beginning of the cluster's id.
std::string survivor_text(const node::SurvivorEnd& end, const ClusterId& cluster);
struct GivenSurvivor {
  node::SurvivorEnd end;
  std::string cluster;  // the beginning of its id
  bool only_id = false;
};
// Also a node's id alone. kUsage with what is wrong.
Result<GivenSurvivor> parse_survivor(std::string_view text);

struct RecoveryPlan {
  node::SurvivorEnd best;
  bool is_best = false;      // this directory's log is the one that counts
  bool is_done = false;      // an earlier run did it all
  bool log_is_done = false;  // an earlier run wrote the record, and was interrupted
  ClusterId id;              // of the cluster from now on
  std::vector<NodeId> lost;  // members that expire, as far as this log knows
  raft::Entry record;        // is_best
};

// kUsage: the list of survivors is invalid; kRefused: it does not fit this directory, or there is a
// majority and nothing to recover.
Result<RecoveryPlan> plan_recovery(const Survivor& survivor, std::vector<GivenSurvivor> given,
                                   int64_t wall_ns);

// Durable on return. After an error the directory is as before, or is_interrupted(): the same again
// completes it.
Result<void> carry_out(storage::FileSystem& files, const std::string& directory,
                       const Survivor& survivor, const RecoveryPlan& plan);

// ---- an entry that the plugin is not given

struct SkipPlan {
  raft::EntryId id;
  bool is_done = false;              // it is skipped already
  std::optional<raft::Entry> entry;  // where the log has it
  std::string notice;                // for the operator; may be empty
};

// "57", or "57:2:0123456789abcdef" with term and checksum, for a log that does not reach it.
struct GivenEntry {
  Index index;
  std::optional<raft::EntryId> id;
};
Result<GivenEntry> parse_entry(std::string_view text);
std::string entry_text(const raft::EntryId& id);

// kRefused: it cannot be skipped here, and why.
Result<SkipPlan> plan_skip(storage::FileSystem& files, const std::string& directory,
                           const Survivor& survivor, const GivenEntry& given);
Result<void> carry_out(storage::FileSystem& files, const std::string& directory,
                       const Survivor& survivor, const SkipPlan& plan);

}  // namespace connectd::offline
