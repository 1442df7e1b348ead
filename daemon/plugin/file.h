// From `plugin.path` to bytes that are worth a dlopen: the search, the look at the ELF headers, the
// SHA-256 pin. Nothing of the file runs here.
#pragma once

#include <string>

#include "base/error.h"
#include "plugin/plugin.h"

namespace connectd::plugin {

struct PluginFile {
  std::string path;       // for people: where it was found
  std::string load_path;  // what to hand to dlopen
};

// Errors as Plugin::load. Thread: main.
Result<PluginFile> open_plugin_file(const LoadOptions& options);

}  // namespace connectd::plugin
