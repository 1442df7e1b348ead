// The identity file: which node, disk and cluster a data directory belongs to. Written when the
// directory is first used, when the cluster is formed, when the log is begun, and by `connectctl
// recover`; replaced as a whole, durably. Start-up and the loop thread. The format is in
// docs/storage-format.md.
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
  DiskId disk_id;  // random, drawn when the directory is first used
  // As handshakes compare it: that of the genesis, until the cluster is recovered from the loss of
  // a majority. None before the cluster was formed.
  ClusterId cluster_id;
  std::string genesis;                          // the genesis; empty before
  bool log_begun = false;                       // from here on an empty log is a lost log
  std::vector<ClusterId> former_cluster_ids{};  // before each recovery, in order
  std::vector<raft::EntryId> skips{};           // entries that are not given to the plugin; sorted
  bool operator==(const Identity&) const = default;
};

std::string encode_identity(const Identity& identity);
// kCorrupt with the reason, naming `path`; kNewerVersion when a newer connectd wrote it.
Result<Identity> decode_identity(ByteView bytes, const std::string& path);

// Nothing when the directory has no identity file.
Result<std::optional<Identity>> load_identity(FileSystem& files, const std::string& directory);
// Durable on return.
Result<void> save_identity(FileSystem& files, const std::string& directory,
                           const Identity& identity);

}  // namespace connectd::storage
