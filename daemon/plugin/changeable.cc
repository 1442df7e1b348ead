#include "plugin/changeable.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>
#include <optional>
#include <system_error>

namespace connectd::plugin {
namespace {

namespace fs = std::filesystem;

constexpr int kMaxLinks = 40;  // as the kernel permits

// Follows a symbolic link.
bool is_changeable(const std::string& path) {
  struct stat status {};
  if (::stat(path.c_str(), &status) != 0) return false;
  const uid_t user = ::geteuid();
  if (user == 0) {
    // Root may write everywhere: who else may?
    return status.st_uid != 0 || (status.st_mode & (S_IWGRP | S_IWOTH)) != 0;
  }
  // By its mode, its group, its access control list; and no on a file system that is mounted
  // read-only for this process, as a unit's ProtectSystem= does.
  if (::faccessat(AT_FDCWD, path.c_str(), W_OK, AT_EACCESS) == 0) return true;
  // An owner can give itself the right.
  return status.st_uid == user && errno != EROFS;
}

// One of the folders above `path`.
std::string changeable_above(const fs::path& path) {
  fs::path folder = path.parent_path();
  while (!folder.empty()) {
    if (is_changeable(folder.string())) return folder.string();
    if (folder == folder.root_path()) break;
    folder = folder.parent_path();
  }
  return "";
}

// The first symbolic link in it, with what is behind it resolved by one step; none: there is none.
std::optional<fs::path> follow_one(const fs::path& path) {
  fs::path done;
  for (auto part = path.begin(); part != path.end(); ++part) {
    if (*part == "..") {  // of what has no links in it
      done = done.parent_path();
      continue;
    }
    const fs::path here = done / *part;
    std::error_code error;
    if (!fs::is_symlink(here, error) || error) {
      done = here;
      continue;
    }
    const fs::path target = fs::read_symlink(here, error);
    if (error) return std::nullopt;
    fs::path next = target.is_absolute() ? target : done / target;
    for (++part; part != path.end(); ++part) next /= *part;
    return next;  // ".." behind a link is above its target: not to be taken out of the text
  }
  return std::nullopt;
}

}  // namespace

std::string changeable_part(const std::string& path) {
  std::error_code error;
  fs::path at = fs::absolute(path, error);
  if (error) at = path;
  if (is_changeable(at.string())) return at.string();
  for (int links = 0; links < kMaxLinks; ++links) {
    if (std::string found = changeable_above(at); !found.empty()) return found;
    const auto next = follow_one(at);
    if (!next) break;
    at = *next;
  }
  return "";
}

}  // namespace connectd::plugin
