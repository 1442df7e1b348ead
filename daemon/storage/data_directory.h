// What a data directory holds before its node uses it. A start, `connectd --check`, `connectctl
// recover` and `connectctl snapshot restore` begin here. Start-up, one thread; changes nothing.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "base/error.h"
#include "base/types.h"
#include "storage/file_system.h"
#include "storage/identity.h"

namespace connectd::storage {

// There while a restore is unfinished: durable before anything else of it, and removed last.
inline constexpr const char* kRestoreMarker = "restore.incomplete";

// How the node goes on without these data. `node`: of the commands; 0: not known.
std::string next_command(const std::string& directory, NodeId node);

// None: no node has used the directory, or there is none. kCorrupt: a restore into it is
// unfinished; or the identity, or the log, is missing beside what only a node that ran leaves:
// without them it would found another cluster, or vote again. The text names the next command.
Result<std::optional<Identity>> examine_directory(FileSystem& files, const std::string& directory,
                                                  NodeId node);

// kExists: something is there that a restore has not left, such as a node's data. What a restore
// may find without being the second one: a lock, and what a new file system has.
Result<void> check_free_for_restore(FileSystem& files, const std::string& directory);
// Removes what an unfinished restore has left, but for the marker. The directory is locked.
Result<void> remove_unfinished_restore(FileSystem& files, const std::string& directory);

}  // namespace connectd::storage
