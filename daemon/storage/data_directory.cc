#include "storage/data_directory.h"

#include <fmt/format.h>

#include <algorithm>
#include <string_view>

#include "storage/recovery.h"

namespace connectd::storage {
namespace {

using Names = std::vector<std::string>;

constexpr std::string_view kLostAndFound = "lost+found";  // of a new ext4

constexpr std::string_view kUnnamedMarker = "restore.incomplete.tmp";

// Without an error if the directory is missing.
Result<Names> names_in(FileSystem& files, const std::string& directory) {
  auto names = files.list(directory);
  if (!names && names.error().kind == ErrorKind::kNotFound) return Names();
  return names;
}

bool contains(const Names& names, std::string_view name) {
  return std::ranges::find(names, name) != names.end();
}

bool is_identity(std::string_view name) { return name == kIdentityFile || name == "identity.tmp"; }

Result<bool> has_segments(FileSystem& files, const std::string& directory) {
  auto names = names_in(files, directory + "/log");
  if (!names) return failure(names.error());
  return std::ranges::any_of(*names, [](const std::string& name) { return segment_id_of(name); });
}

Result<bool> has_snapshots(FileSystem& files, const std::string& directory) {
  auto names = names_in(files, directory + "/snapshots");
  if (!names) return failure(names.error());
  return std::ranges::any_of(*names, [](const std::string& name) {
    return name.ends_with(".snapshot") || name.ends_with(".partial");
  });
}

}  // namespace

std::string next_command(const std::string& directory, NodeId node) {
  return fmt::format(
      "To recover, move {} away, start the node with an empty directory, and run: connectctl "
      "member replace {}. A cluster of one node is restored from a backup into the empty "
      "directory: connectctl snapshot restore FILE --config CONFIG",
      directory, node ? fmt::format("{}", node) : "ID");
}

Result<std::optional<Identity>> examine_directory(FileSystem& files, const std::string& directory,
                                                  NodeId node) {
  auto refused = [&](const std::string& why) {
    return failure(ErrorKind::kCorrupt, why + ". " + next_command(directory, node));
  };
  auto names = names_in(files, directory);
  if (!names) return failure(names.error());
  // Its name may not have been given yet.
  if (contains(*names, kRestoreMarker) || contains(*names, kUnnamedMarker)) {
    return failure(
        ErrorKind::kCorrupt,
        fmt::format("{} holds an unfinished restore ({}): it was interrupted, or failed. "
                    "Repeat it, and it begins anew: connectctl snapshot restore FILE "
                    "--config CONFIG",
                    directory, kRestoreMarker));
  }
  auto identity = load_identity(files, directory);
  if (!identity && identity.error().kind == ErrorKind::kCorrupt) {
    return refused(identity.error().text);
  }
  if (!identity) return failure(identity.error());
  auto log = has_segments(files, directory);
  if (!log) return failure(log.error());
  auto snapshots = has_snapshots(files, directory);
  if (!snapshots) return failure(snapshots.error());
  const char* const data = *log ? "a log" : "snapshots";
  if (!*identity && (*log || *snapshots)) {
    return refused(
        fmt::format("{0}/{1} is missing, though {0} has {2}: without it this node would found "
                    "another cluster, or vote again. Nothing was changed. Restore a copy of the "
                    "file",
                    directory, kIdentityFile, data));
  }
  if (*identity && (*identity)->genesis.empty() && (*log || *snapshots)) {
    return refused(
        fmt::format("{0}/{1} belongs to no cluster, though {0} has {2}: the file is not the one "
                    "that was written beside them. Nothing was changed. Restore the newest copy",
                    directory, kIdentityFile, data));
  }
  if (*identity && (*identity)->log_begun && !*log) {
    return refused(
        fmt::format("{0}: the log is empty, though this node has run before: its entries and votes "
                    "are lost, and it must not vote again. Nothing was changed. Is the disk of "
                    "{0}/log mounted?",
                    directory));
  }
  return identity;
}

Result<void> check_free_for_restore(FileSystem& files, const std::string& directory) {
  // A failure before the marker has its name leaves the temporary file, and `--check` the lock.
  const auto is_nothing = [](std::string_view name) {
    return name == "lock" || name == kLostAndFound || name == kUnnamedMarker;
  };
  const auto is_of_restore = [](std::string_view name) {
    return name == kRestoreMarker || name == "log" || name == "snapshots" || is_identity(name);
  };
  auto names = files.list(directory);
  if (!names) return failure(names.error());
  const bool repeats = contains(*names, kRestoreMarker);
  for (const std::string& name : *names) {
    if (is_nothing(name) || (repeats && is_of_restore(name))) continue;
    return failure(ErrorKind::kExists,
                   fmt::format("{} is not empty (it has '{}'): a restore requires a new directory "
                               "and overwrites nothing. Use another one, or move this one away",
                               directory, name));
  }
  return {};
}

Result<void> remove_unfinished_restore(FileSystem& files, const std::string& directory) {
  for (const char* part : {"", "/log", "/snapshots"}) {
    const std::string in = directory + part;
    auto names = names_in(files, in);
    if (!names) return failure(names.error());
    bool removed = false;
    for (const std::string& name : *names) {
      const bool is_ours = *part != '\0' ? name != kLostAndFound : is_identity(name);
      if (!is_ours) continue;
      if (auto done = files.remove(fmt::format("{}/{}", in, name)); !done) return done;
      removed = true;
    }
    if (!removed) continue;
    if (auto done = files.sync_directory(in); !done) return done;
  }
  return {};
}

}  // namespace connectd::storage
