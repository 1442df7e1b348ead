// From `plugin.path` to bytes that are worth a dlopen: the search, the look at the ELF headers, the
// SHA-256 pin, and the copy in sealed memory that is loaded in the file's place. Nothing of the
// file runs here.
#pragma once

#include <sys/stat.h>

#include <string>
#include <string_view>

#include "base/error.h"
#include "plugin/plugin.h"

namespace connectd::plugin {

inline constexpr std::string_view kNoExecuteHint =
    "; the file is in a place without execute permission: a file system mounted noexec, or, under "
    "systemd, a path outside ExecPaths= of the unit. Install it under /usr/lib, or add its "
    "directory to ExecPaths= in a drop-in (systemctl edit)";

struct PluginFile {
  LoadedFile loaded;
  std::string load_path;  // what to hand to dlopen: the copy, or the file itself
};

// Errors as Plugin::load. Thread: main.
Result<PluginFile> open_plugin_file(const LoadOptions& options);

// That the file itself is mapped, and what to take care of then.
std::string map_warning(const std::string& path, std::string_view why);

FileStamp stamp_of(const struct stat& status);
// The whole file, and what it was like just before. `open_file`: where to leave the descriptor, or
// nullptr.
Result<std::string> read_plugin_file(const std::string& path, FileStamp& stamp, int* open_file);

}  // namespace connectd::plugin
