// The identity file: which node, disk and cluster a data directory belongs to. Written once when
// the directory is first used and once more when the cluster is formed; replaced as a whole,
// durably. Start-up and the loop thread. The format is in docs/storage-format.md.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "base/error.h"
#include "base/types.h"
#include "storage/file_system.h"

namespace connectd::storage {

inline constexpr uint32_t kIdentityVersion = 1;
inline constexpr const char* kIdentityFile = "identity";
inline constexpr size_t kMaxGenesisBytes = 1 << 20;

struct Identity {
  NodeId node_id;
  DiskId disk_id;        // random, drawn when the directory is first used
  ClusterId cluster_id;  // none before the cluster was formed
  std::string genesis;   // the founding document; empty before
  bool operator==(const Identity&) const = default;
};

std::string encode_identity(const Identity& identity);
// kData with the reason, naming `path`; kMismatch when a newer connectd wrote it.
Result<Identity> decode_identity(ByteView bytes, const std::string& path);

// Nothing when the directory has no identity file.
Result<std::optional<Identity>> load_identity(FileSystem& files, const std::string& directory);
// Durable on return.
Result<void> save_identity(FileSystem& files, const std::string& directory,
                           const Identity& identity);

}  // namespace connectd::storage
