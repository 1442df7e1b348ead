// A snapshot as the beginning of a new cluster: what was saved of an old one continues, under
// another identity. Offline, with nothing but the file.
#pragma once

#include <string>

#include "base/error.h"
#include "node/apply/replicated_state.h"
#include "node/membership/genesis.h"
#include "storage/file_system.h"
#include "storage/snapshot_store.h"

namespace connectd::offline {

// What is in a snapshot file, all of it verified.
struct SnapshotDescription {
  storage::SnapshotContent file;
  node::ReplicatedState state;
};
Result<SnapshotDescription> describe_snapshot(storage::FileSystem& files, const std::string& path);

struct RestoreOptions {
  node::GenesisMember founder;  // with its disk's id and its addresses
  ClusterId cluster_id;         // a fresh one
  std::string cluster_name;     // empty: as the old cluster's
};

// Makes `data_dir`, which must be empty or missing, the data directory of a cluster of one member.
// The plugin's state, its options and the other settings of the old cluster, the applied index, its
// term, the log's time and the digest go on from the snapshot; the sessions are closed, so that
// nobody's old request is taken for a new one's repetition. Who belonged to the old cluster is
// refused by its cluster id. The identity file is written last: without it the directory is none of
// a node.
Result<node::ReplicatedState> restore_into_new_cluster(storage::FileSystem& files,
                                                       const std::string& snapshot,
                                                       const std::string& data_dir,
                                                       const RestoreOptions& options);

}  // namespace connectd::offline
