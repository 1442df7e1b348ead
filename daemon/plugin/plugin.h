// A plugin that was found, loaded and checked: its table is complete, and this connectd can serve
// it. What it does is reached through Instance (plugin/instance.h).
//
// Loading: RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE, never dlclose; the code stays mapped until the
// process ends, so names and versions in log lines and in the crash handler never dangle.
//
// Thread: load() and wrap() on one thread at a time (main); a Plugin is immutable after that.
#pragma once

#include <connect/plugin.h>

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"

namespace connectd::plugin {

// A larger file is refused before it is read.
inline constexpr uint64_t kMaxPluginFile = uint64_t{1} << 30;
inline constexpr size_t kMaxVersionText = 128;

struct LoadOptions {
  // Absolute; or relative to `config_dir`; or, when it has no slash, a file in one of `dirs`.
  // The first that exists counts, in this order.
  std::string path;
  std::vector<std::string> dirs;
  // 64 hexadecimal digits, or empty: any file. With it, the bytes that were hashed are the bytes
  // that are loaded: the file is read once into sealed memory, and that is what is mapped. Nobody
  // can change them between the check and the load, or later. (The plugin then has no $ORIGIN.)
  // Without it the file itself is mapped.
  std::string sha256;
  // Where the configuration file lies; empty: the working directory.
  std::string config_dir;
};

class Plugin final {
 public:
  // Errors, each naming the file, what is wrong and what to do:
  //   kNotFound    no such file; lists what was found instead
  //   kPermission  it cannot be read
  //   kBadConfig   `sha256` is no SHA-256
  //   kWrongData   its SHA-256 is another
  //   kMismatch    its ABI major is another
  //   kBadPlugin   it cannot be loaded, or is not a valid plugin
  static Result<std::shared_ptr<const Plugin>> load(const LoadOptions& options);
  // A plugin that is part of this program: tests, simulator. `table` lives as long as the process.
  static Result<std::shared_ptr<const Plugin>> wrap(const connectd_plugin* table);

  const char* name() const { return table_->name; }
  const char* version() const { return table_->version; }
  uint32_t level_min() const { return table_->level_min; }
  uint32_t level_max() const { return table_->level_max; }
  bool has_flag(uint64_t flag) const { return (table_->flags & flag) != 0; }
  uint32_t framing() const { return table_->framing; }  // CONNECTD_FRAMING_*
  std::string abi() const;                              // "1.0"
  // The file it came from; "(built in)" for wrap().
  const std::string& path() const { return path_; }

  const connectd_plugin& table() const { return *table_; }
  // Its timers extension, checked; nullptr without one.
  const connectd_ext_timers* timers() const { return timers_; }
  // Its views for snapshots, checked; nullptr without.
  const connectd_ext_snapshot_view* views() const { return views_; }

 private:
  Plugin(const connectd_plugin* table, const connectd_ext_timers* timers,
         const connectd_ext_snapshot_view* views, std::string path)
      : table_(table), timers_(timers), views_(views), path_(std::move(path)) {}
  static Result<std::shared_ptr<const Plugin>> check(const connectd_plugin* table,
                                                     std::string path);

  const connectd_plugin* table_;
  const connectd_ext_timers* timers_;
  const connectd_ext_snapshot_view* views_;
  std::string path_;
};

}  // namespace connectd::plugin
