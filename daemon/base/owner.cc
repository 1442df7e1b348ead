#include "base/owner.h"

#include <dirent.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <pwd.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <filesystem>
#include <functional>

#include "base/error.h"

namespace connectd {
namespace {

// All that is in a directory and below it, what a directory has before the directory itself.
class Walk final {
 public:
  // `descriptor`: of the very thing that `status` describes, whatever has its name by now.
  using Visit =
      std::function<void(int descriptor, const struct stat& status, const std::string& path)>;

  Walk(dev_t device, Visit visit) : device_(device), visit_(std::move(visit)) {}

  void below(int directory, const std::string& path) {
    const int copy = ::openat(directory, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR* entries = copy < 0 ? nullptr : ::fdopendir(copy);
    if (entries == nullptr) {
      failed("read directory", path);
      if (copy >= 0) ::close(copy);
      return;
    }
    while (true) {
      errno = 0;
      const dirent* next = ::readdir(entries);
      if (next == nullptr) break;
      const std::string name = next->d_name;
      if (name == "." || name == "..") continue;
      entry(::dirfd(entries), name, fmt::format("{}/{}", path, name));
    }
    if (errno != 0) failed("read directory", path);
    ::closedir(entries);
  }

  void entry(int directory, const std::string& name, const std::string& path) {
    const int opened = ::openat(directory, name.c_str(), O_PATH | O_NOFOLLOW | O_CLOEXEC);
    if (opened < 0) {
      if (errno != ENOENT) failed("open", path);  // a node that runs removes files
      return;
    }
    struct stat status {};
    if (::fstat(opened, &status) != 0) {
      failed("read the status of", path);
    } else if (status.st_dev == device_) {
      if (S_ISDIR(status.st_mode)) below(opened, path);
      visit_(opened, status, path);
    }
    ::close(opened);
  }

  // Because of errno. The first one is kept.
  void failed(const char* what, const std::string& path) {
    if (problem_.empty()) problem_ = fmt::format("cannot {} {}: {}", what, path, errno_text(errno));
  }
  const std::string& problem() const { return problem_; }

 private:
  const dev_t device_;
  const Visit visit_;
  std::string problem_;
};

}  // namespace

std::string user_name(uid_t uid) {
  passwd entry{};
  passwd* found = nullptr;
  std::array<char, 4096> text{};
  const int failed = ::getpwuid_r(uid, &entry, text.data(), text.size(), &found);
  return failed == 0 && found != nullptr ? found->pw_name : std::to_string(uid);
}

KeepOwner::KeepOwner(const std::string& path) {
  if (::geteuid() != 0) return;
  std::filesystem::path at = std::filesystem::absolute(path).lexically_normal();
  while ((directory_ = ::open(at.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC)) < 0) {
    if (!at.has_relative_path()) return;
    if (at.has_filename()) missing_ = at.filename().string();
    at = at.parent_path();
  }
  path_ = at.string();
  struct stat status {};
  if (::fstat(directory_, &status) != 0 || status.st_uid == 0) return;
  uid_ = status.st_uid;
  gid_ = status.st_gid;
  device_ = status.st_dev;
  Walk walk(device_, [&](int, const struct stat& found, const std::string&) {
    if (found.st_uid == 0) kept_.insert(found.st_ino);
  });
  if (missing_.empty()) {
    walk.below(directory_, path_);
  } else {
    walk.entry(directory_, missing_, path_ + "/" + missing_);
  }
  problem_ = walk.problem();
}

KeepOwner::~KeepOwner() {
  if (directory_ >= 0) ::close(directory_);
}

std::string KeepOwner::give_back() const {
  if (!applies()) return {};
  if (!problem_.empty()) return problem_;
  Walk walk(device_, [&](int descriptor, const struct stat& found, const std::string& path) {
    // A file with two names may be one that root has elsewhere.
    const bool is_file = S_ISREG(found.st_mode) && found.st_nlink == 1;
    if (found.st_uid != 0 || !(is_file || S_ISDIR(found.st_mode))) return;
    if (kept_.contains(found.st_ino)) return;
    if (::fchownat(descriptor, "", uid_, gid_, AT_EMPTY_PATH) != 0) {
      walk.failed("change the owner of", path);
    }
  });
  if (missing_.empty()) {
    walk.below(directory_, path_);
  } else {
    walk.entry(directory_, missing_, path_ + "/" + missing_);
  }
  return walk.problem();
}

}  // namespace connectd
