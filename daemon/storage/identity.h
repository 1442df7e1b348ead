// The identity file: the node, disk and cluster that a data directory belongs to. Written when the
// directory is first used, when the cluster is formed, when the log begins, and by `connectctl
// recover`; always replaced as a whole and made durable. Used at start-up and by the loop thread.
// The format is in docs/storage-format.md.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/error.h"
#include "base/types.h"
#include "raft/types.h"
#include "storage/file_system.h"

namespace connectd::storage {

inline constexpr uint32_t kIdentityVersion = 2;
inline constexpr const char* kIdentityFile = "identity";

struct Identity {
  NodeId node_id;
  DiskId disk_id;  // random, generated when the directory is first used
  // Compared in handshakes. It is the id in the genesis until the cluster is recovered from a lost
  // majority; none before the cluster is formed.
  ClusterId cluster_id;
  std::string genesis;                          // the genesis; empty before the cluster is formed
  bool log_begun = false;                       // from now on, an empty log is a lost log
  std::vector<ClusterId> former_cluster_ids{};  // before each recovery, in order
  std::vector<raft::EntryId> skips{};           // entries not passed to the plugin; sorted
  bool operator==(const Identity&) const = default;
};

std::string encode_identity(const Identity& identity);
// kCorrupt, with `path` and the reason; kNewerVersion when a newer connectd wrote it.
Result<Identity> decode_identity(ByteView bytes, const std::string& path);

// None when the directory has no identity file. For a start see storage/data_directory.h.
Result<std::optional<Identity>> load_identity(FileSystem& files, const std::string& directory);
// That of `directory` or, if it has none, a new one with this node and disk. Durable on return: the
// process that wrote it may have ended before it was. Errors as of examine_directory().
Result<Identity> open_identity(FileSystem& files, const std::string& directory, NodeId node,
                               const DiskId& fresh_disk);
// Durable on return.
Result<void> save_identity(FileSystem& files, const std::string& directory,
                           const Identity& identity);

}  // namespace connectd::storage
