// The contents of a loaded snapshot: the daemon's own replicated state and the plugin's.
#pragma once

#include <memory>

#include "base/error.h"
#include "node/apply/replicated_state.h"
#include "plugin/instance.h"
#include "plugin/plugin.h"
#include "storage/snapshot_store.h"

namespace connectd::node {

struct RestoredState {
  ReplicatedState state;
  std::shared_ptr<plugin::Instance> instance;
};

// Reads a snapshot into a new instance of the plugin: at start, and for one received from the
// leader. Any thread. kCorrupt: the file is damaged; kMismatch: it is of another plugin.
Result<RestoredState> restore_snapshot(storage::SnapshotReader& reader,
                                       const std::shared_ptr<const plugin::Plugin>& plugin);

}  // namespace connectd::node
