// What a node starts from: everything in its data directory, recovered, checked against the
// identity, and restored into an instance of the plugin. Or the beginning of a new log.
//
// Before any of the node's threads runs. Reads the whole log: may take long.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "base/error.h"
#include "node/apply/restored_state.h"
#include "node/options.h"
#include "plugin/plugin.h"
#include "raft/core.h"
#include "storage/file_system.h"
#include "storage/log.h"
#include "storage/recovery.h"
#include "storage/snapshot_store.h"

namespace connectd::node {

struct Opened {
  std::unique_ptr<storage::SnapshotStore> snapshots;
  std::unique_ptr<storage::Log> log;
  RestoredState start;                // the state after the newest snapshot, or the first one
  raft::Initial initial;              // of the core; `snapshot` is the newest one
  uint64_t newest_bytes = 0;          // of the newest snapshot's file
  raft::SnapshotMark older;           // the one before; no index: none
  std::vector<raft::EntryId> skips;   // all that this node's state is, or will be, without; sorted
  std::vector<std::string> warnings;  // for the operator
};

// What a log says of members and settings, as far as it is not in the snapshot; the snapshot's own
// first. What is not committed may be truncated again.
struct Histories {
  std::vector<raft::ConfAtIndex> confs;
  std::vector<raft::SettingsAtIndex> settings;
};
// A data directory as it was read.
struct StoredData {
  const std::string& dir;
  const Genesis& genesis;  // of its identity
  const storage::SnapshotStore& snapshots;
  Index newest;                  // of the newest snapshot that is whole; none: there is none
  const ReplicatedState& state;  // behind it
  const storage::Recovered& log;
};
// What a start refuses, `connectd --check` and `connectctl recover` refuse: a snapshot, a log and
// an identity that do not belong together, or that this version cannot read.
//
// Before the log is opened, because that makes it fit the snapshot. `state`: of the snapshot.
Result<void> check_snapshot(const ReplicatedState& state, const Genesis& genesis,
                            const std::string& dir);
// After it. `highest`: supported feature level. kCorrupt, kNewerVersion.
Result<Histories> read_histories(const StoredData& stored, uint32_t highest);

// The caller has locked `data_dir` and checked its identity; `genesis` is what the identity says.
// kCorrupt: damaged, of another cluster, or lost; the text names the next command.
Result<Opened> open_directory(const NodeOptions& options, const Genesis& genesis,
                              storage::FileSystem& files, const std::string& data_dir,
                              const std::shared_ptr<const plugin::Plugin>& plugin);

}  // namespace connectd::node
