// A configuration file and command-line overrides -> Config, or everything that is wrong with them:
// document.h finds the values, read_value.h reads each, checks.h looks at all of them together.
// Reads one file; otherwise pure. At start-up and on SIGHUP; any thread.
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "config/config.h"
#include "config/diagnostics.h"

namespace connectd::config {

struct LoadRequest {
  // Without a file: one node, on loopback, with its data in ./connectd-data.
  std::optional<std::string> file;
  std::vector<std::string> sets;        // "section.key=value", the last one of a key wins
  std::optional<std::string> node;      // --node
  std::optional<std::string> data_dir;  // --data-dir
  std::optional<std::string> plugin;    // --plugin
  // It is an error when no plugin is given at all.
  bool need_plugin = false;
};

struct Loaded {
  Config config;
  // Rendered warnings, each ending with a newline; empty: none.
  std::string warnings;

  // The source of the value of `path`: "default", "conf/node1.yaml:9", "--set", "--node".
  std::string source(std::string_view path) const;
  // An error about the value of `path` that was found when it was used ("plugin not found"), with
  // its position, the line and a caret if the value is from the file.
  std::string complain(std::string_view path, std::string text) const;

  std::map<std::string, Place, std::less<>> places;  // of every value that is not a default
  std::string file;
  std::string source_text;
};

// The error's text has all errors and warnings, rendered. Code: 66 no such file, 77 not readable,
// 64 a --set that is not KEY=VALUE, 78 all else.
Result<Loaded> load(const LoadRequest& request);

// For SIGHUP: loads again, all or nothing.
struct Reloaded {
  Config config;  // the running one, with the live keys that changed
  // "raft.tick: 10ms -> 20ms", in the order of the table.
  std::vector<std::string> applied;
  std::vector<std::string> need_restart;
  // Those that a file does not change, each with the command that does.
  std::vector<std::string> of_cluster;
};
// On an error, which is that of load(), nothing changes.
Result<Reloaded> reload(const LoadRequest& request, const Config& running);

}  // namespace connectd::config
