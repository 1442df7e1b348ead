// Starts a new cluster from a snapshot: the saved state of an old cluster continues under another
// identity. Offline; needs only the file.
#pragma once

#include <string>

#include "base/error.h"
#include "node/apply/replicated_state.h"
#include "node/membership/genesis.h"
#include "storage/file_system.h"
#include "storage/snapshot_store.h"

namespace connectd::offline {

// The contents of a snapshot file, completely verified.
struct SnapshotDescription {
  storage::SnapshotContent file;
  node::ReplicatedState state;
};
Result<SnapshotDescription> describe_snapshot(storage::FileSystem& files, const std::string& path);

struct RestoreOptions {
  node::GenesisMember founder;  // with its disk's id and its addresses
  ClusterId cluster_id;         // a fresh one
  std::string cluster_name;     // empty: that of the old cluster
};

// Makes `data_dir`, which must be empty or missing, or hold an unfinished restore, the data
// directory of a cluster of one member.
// The plugin's state, its options and the other settings of the old cluster, the applied index, its
// term, the log's time and the digest continue from the snapshot. The sessions are closed, so that
// no request of the new cluster is taken for a repetition of an old one. Nodes of the old cluster
// are refused because of their cluster id. While it is unfinished no node starts there
// (storage::kRestoreMarker), and repeating it begins anew. kExists: the directory has other files.
Result<node::ReplicatedState> restore_into_new_cluster(storage::FileSystem& files,
                                                       const std::string& snapshot,
                                                       const std::string& data_dir,
                                                       const RestoreOptions& options);

}  // namespace connectd::offline
