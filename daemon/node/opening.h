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

// The caller has locked `data_dir` and checked its identity; `genesis` is what the identity says.
// kCorrupt: damaged, of another cluster, or lost; the text names the next command.
Result<Opened> open_directory(const NodeOptions& options, const Genesis& genesis,
                              storage::FileSystem& files, const std::string& data_dir,
                              const std::shared_ptr<const plugin::Plugin>& plugin);

}  // namespace connectd::node
