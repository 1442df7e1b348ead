// A plugin that was found, loaded and checked: its table is complete, and this connectd can serve
// it. What it does is reached through Instance (plugin/instance.h).
//
// What is loaded is a copy of the file in sealed memory: the file may be overwritten, or removed,
// while the process runs. Loading: RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE, never dlclose; the code
// stays mapped until the process ends, so names and versions in log lines and in the crash handler
// never dangle.
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
  // 64 hexadecimal digits, or empty: any file. The bytes that were hashed are the bytes that are
  // loaded: nobody can change them between the check and the load, or later. A file that uses
  // $ORIGIN is mapped from where it lies, unless it is pinned by this: then it has no $ORIGIN.
  std::string sha256;
  // Where the configuration file lies; empty: the working directory.
  std::string config_dir;
  // Refuse a file that this process's user could exchange (plugin/changeable.h).
  bool must_be_safe = false;
};

// Tells a file that was changed from one that was not, without reading it.
struct FileStamp {
  uint64_t device = 0;
  uint64_t inode = 0;
  uint64_t size = 0;
  int64_t modified_ns = 0;
  int64_t changed_ns = 0;
  bool operator==(const FileStamp&) const = default;
};

// What was loaded, and from where.
struct LoadedFile {
  std::string path;
  std::string sha256;  // empty: no file
  FileStamp stamp;     // just before it was read
  // For whoever installs the plugin; one line each.
  std::vector<std::string> warnings;
};

class Plugin final {
 public:
  // Errors, each naming the file, what is wrong and what to do:
  //   kNotFound    no such file; lists what was found instead
  //   kPermission  it cannot be read, or must be safe and is not
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
  // The file it came from; "(built in)" for wrap().
  const std::string& path() const { return file_.path; }
  const LoadedFile& file() const { return file_; }
  const std::vector<std::string>& warnings() const { return file_.warnings; }

  const connectd_plugin& table() const { return *table_; }
  // Its timers extension, checked; nullptr without one.
  const connectd_ext_timers* timers() const { return timers_; }
  // Its views for snapshots, checked; nullptr without.
  const connectd_ext_snapshot_view* views() const { return views_; }

 private:
  Plugin(const connectd_plugin* table, const connectd_ext_timers* timers,
         const connectd_ext_snapshot_view* views, LoadedFile file)
      : table_(table), timers_(timers), views_(views), file_(std::move(file)) {}
  static Result<std::shared_ptr<const Plugin>> check(const connectd_plugin* table, LoadedFile file);

  const connectd_plugin* table_;
  const connectd_ext_timers* timers_;
  const connectd_ext_snapshot_view* views_;
  LoadedFile file_;
};

}  // namespace connectd::plugin
