#include "ctl/cert_files.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>

#include "auth/private_file.h"

namespace connectd::ctl {
namespace {

constexpr mode_t kKeyMode = 0600;

// What a symbolic link leads to.
std::string real_path(const std::string& path) {
  char* resolved = ::realpath(path.c_str(), nullptr);
  if (resolved == nullptr) return path;
  std::string text = resolved;
  ::free(resolved);
  return text;
}

// Closed at the end, which lets the next one in.
class Lock final {
 public:
  explicit Lock(const std::string& path) : fd_(::open(path.c_str(), O_RDONLY | O_CLOEXEC)) {
    is_held_ = fd_ >= 0 && ::flock(fd_, LOCK_EX | LOCK_NB) == 0;
  }
  ~Lock() {
    if (fd_ >= 0) ::close(fd_);
  }
  Lock(const Lock&) = delete;
  Lock& operator=(const Lock&) = delete;
  bool is_held() const { return is_held_; }

 private:
  const int fd_;
  bool is_held_ = false;
};

// As the file that it will replace: it is for the same readers.
bool take_owner_and_mode(const std::string& path, const struct stat& like) {
  return (::chown(path.c_str(), like.st_uid, like.st_gid) == 0 || ::geteuid() != 0) &&
         ::chmod(path.c_str(), like.st_mode & 07777) == 0;
}

}  // namespace

Error cannot_write(const std::string& path) {
  const int error = errno;
  if (error == EEXIST) {
    return {ErrorKind::kExists, fmt::format("{}: exists already, and is never overwritten", path)};
  }
  const ErrorKind kind = error == EACCES || error == EPERM    ? ErrorKind::kPermission
                         : error == ENOENT                    ? ErrorKind::kNotFound
                         : error == ENOSPC || error == EDQUOT ? ErrorKind::kNoSpace
                                                              : ErrorKind::kCannotCreate;
  return {kind, fmt::format("{}: cannot be written: {}", path, errno_text(error))};
}

Result<void> write_new(const std::string& path, std::string_view text, mode_t mode) {
  const int fd = ::open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, mode);
  if (fd < 0) return failure(cannot_write(path));
  bool good = true;
  while (!text.empty() && good) {
    const ssize_t written = ::write(fd, text.data(), text.size());
    if (written < 0 && errno == EINTR) continue;
    good = written > 0;
    if (good) text.remove_prefix(static_cast<size_t>(written));
  }
  good = good && ::fsync(fd) == 0;
  const Error error = good ? Error{} : cannot_write(path);
  ::close(fd);
  if (good) return {};
  ::unlink(path.c_str());
  return failure(error);
}

// The key first: a certificate without one is of no use.
Result<void> write_pair(const std::string& base, const tls::Made& made) {
  const std::string certificate = base + ".pem";
  const std::string key = base + ".key";
  if (::access(certificate.c_str(), F_OK) == 0) {
    errno = EEXIST;
    return failure(cannot_write(certificate));
  }
  if (auto done = write_new(key, made.key, kKeyMode); !done) return done;
  auto done = write_new(certificate, made.certificate, kPublicFileMode);
  if (!done) ::unlink(key.c_str());
  return done;
}

// Both texts are on the disk before the first file is replaced, so the time in which the two do not
// belong together is that of two renames and a sync. Nothing could replace both at once; who reads
// them in that time sees that the key is not the certificate's.
Result<void> replace_pair(const std::string& base, const tls::Made& made) {
  const std::string certificate = real_path(base + ".pem");
  const std::string fresh = certificate + ".new";
  const std::string old = certificate + ".old";
  struct stat before {};
  if (::stat(certificate.c_str(), &before) != 0) return failure(cannot_write(certificate));
  const Lock lock(certificate);
  if (!lock.is_held()) {
    return failure(ErrorKind::kLocked, fmt::format("{}: another command replaces it", certificate));
  }
  ::unlink(fresh.c_str());
  if (auto done = write_new(fresh, made.certificate, kPublicFileMode); !done) return done;
  ::unlink(old.c_str());
  const bool ready =
      take_owner_and_mode(fresh, before) && ::link(certificate.c_str(), old.c_str()) == 0;
  Result<void> done;
  if (!ready) done = failure(cannot_write(certificate));
  if (done) done = auth::replace_private_file(base + ".key", made.key);
  if (done && std::rename(fresh.c_str(), certificate.c_str()) != 0) {
    done = failure(cannot_write(certificate));
  }
  if (!done) ::unlink(fresh.c_str());
  return done;
}

}  // namespace connectd::ctl
