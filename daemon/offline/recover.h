// Changes the data directory of a stopped node when Raft alone cannot continue: after the loss of
// a majority the cluster restarts with the log of one survivor, or an entry that makes the plugin
// fail is skipped. `connectctl recover` is its command.
//
// The loss of a majority (docs/adr/0021). The best log of the survivors is the one that would win
// an election: the highest last term, then the highest last index (thesis §3.6.1). It has
// everything that any survivor knows to be committed. This code appends an entry of kind kRecovery
// to it, in a term above all that the survivors have seen. The entry makes that survivor the only
// voter, the others learners that become voters when they have caught up, and the lost members
// removed; and it commits everything before it. Then, on this and all other survivors, the identity
// file gets another cluster id, computed from the former id and the survivors: the same on all of
// them, and unknown to the lost members. A survivor does not vote until its log has the record
// (Membership::follow), so only the best log counts.
//
// After a crash in between, the log has the record and the identity file does not name it. The node
// refuses to start, and repeating the command completes the recovery.
//
// Does not ask or print. One thread. The caller holds the lock of the directory.
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

// The contents of a data directory, as a start of its node would find them. Reading changes
// nothing.
struct Survivor {
  std::string directory;
  storage::Identity identity;
  node::Genesis genesis;
  // The cluster that the log belongs to, and its former ids. Not always those of the identity file:
  // a survivor without the record of a recovery has had no part in it, so a wrong recovery (the
  // list was mistyped) can be repeated.
  ClusterId cluster;
  std::vector<ClusterId> former;
  node::SurvivorEnd end;
  Index commit;  // everything up to here is known to be committed; more may be
  raft::SnapshotMark snapshot;
  std::vector<raft::EntryId> skipped;  // not part of the snapshot
  int64_t last_stamp_ns = 0;
  raft::ConfState conf;  // the newest in the log, committed or not, and its list
  node::MemberList members;
  Index members_index;
  std::vector<std::string> warnings;  // what a start would do first

  // The log has the record of a recovery that the identity file does not know.
  bool is_interrupted() const;
};

// kNotFound: no data directory; kCorrupt: damaged; kWrongData: of another cluster, or of none.
Result<Survivor> look_at_survivor(storage::FileSystem& files, const std::string& directory);

// "2:7:1234:9:00010203:1+2+3": node, last term, last index, term, the beginning of the cluster's
// id, and the voters; with "/1+2" behind them in a joint configuration. Every run must judge by the
// configuration in the best log, or some refuse a list that the others accept.
std::string survivor_text(const Survivor& survivor);
struct GivenSurvivor {
  node::SurvivorEnd end;
  std::string cluster;                    // the beginning of its id
  std::optional<raft::ConfState> voters;  // without learners
  bool only_id = false;
};
// Also a node's id alone, or a survivor without its voters. kUsage: invalid; the text says why.
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

// kUsage: the list of survivors is invalid; kRefused: it does not match this directory, or it is a
// majority, and there is nothing to recover. Whether it is one is judged by the best log's voters,
// the same on every survivor: one that is recovered while the others are not is lost.
Result<RecoveryPlan> plan_recovery(const Survivor& survivor, std::vector<GivenSurvivor> given,
                                   int64_t wall_ns);

// Durable on return. After an error the directory is unchanged, or is_interrupted(): repeating the
// call completes it.
Result<void> carry_out(storage::FileSystem& files, const std::string& directory,
                       const Survivor& survivor, const RecoveryPlan& plan);

// ---- an entry that the plugin does not get

struct SkipPlan {
  raft::EntryId id;
  bool is_done = false;              // it is already skipped
  std::optional<raft::Entry> entry;  // if the log has it
  std::string notice;                // for the operator; may be empty
};

// "57", or "57:2:0123456789abcdef" with term and checksum, for a log that does not reach it.
struct GivenEntry {
  Index index;
  std::optional<raft::EntryId> id;
};
Result<GivenEntry> parse_entry(std::string_view text);
std::string entry_text(const raft::EntryId& id);

// kRefused: it cannot be skipped here; the text says why.
Result<SkipPlan> plan_skip(storage::FileSystem& files, const std::string& directory,
                           const Survivor& survivor, const GivenEntry& given);
Result<void> carry_out(storage::FileSystem& files, const std::string& directory,
                       const Survivor& survivor, const SkipPlan& plan);

}  // namespace connectd::offline
