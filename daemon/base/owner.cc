#include "base/owner.h"

#include <fmt/format.h>
#include <pwd.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <filesystem>
#include <system_error>

#include "base/error.h"

namespace connectd {
namespace {

// Others' files stay theirs. A file with two names may be one that root has elsewhere.
std::string give(const std::string& path, uid_t uid, gid_t gid) {
  struct stat status {};
  if (::lstat(path.c_str(), &status) != 0) {
    return errno == ENOENT ? "" : fmt::format("{}: {}", path, errno_text(errno));
  }
  if (status.st_uid != 0 || (!S_ISDIR(status.st_mode) && status.st_nlink != 1)) return {};
  if (::lchown(path.c_str(), uid, gid) == 0) return {};
  return fmt::format("cannot change the owner of {}: {}", path, errno_text(errno));
}

}  // namespace

std::string user_name(uid_t uid) {
  passwd entry{};
  passwd* found = nullptr;
  std::array<char, 4096> text{};
  const int failed = ::getpwuid_r(uid, &entry, text.data(), text.size(), &found);
  return failed == 0 && found != nullptr ? found->pw_name : std::to_string(uid);
}

KeepOwner::KeepOwner(const std::string& path) : top_(path) {
  if (::geteuid() != 0) return;
  std::filesystem::path at = std::filesystem::absolute(path).lexically_normal();
  struct stat status {};
  while (::stat(at.c_str(), &status) != 0) {
    if (!at.has_relative_path()) return;
    top_ = at.string();
    at = at.parent_path();
  }
  uid_ = status.st_uid;
  gid_ = status.st_gid;
}

std::string KeepOwner::give_back() const {
  if (!applies()) return {};
  std::string problem = give(top_, uid_, gid_);
  std::error_code error;
  std::filesystem::recursive_directory_iterator entry(top_, error);
  for (const std::filesystem::recursive_directory_iterator end; !error && entry != end;
       entry.increment(error)) {
    if (problem.empty()) problem = give(entry->path().string(), uid_, gid_);
  }
  return problem;
}

}  // namespace connectd
