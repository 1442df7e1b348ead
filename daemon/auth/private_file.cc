#include "auth/private_file.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <optional>
#include <vector>

#include "base/bytes.h"
#include "base/owner.h"

namespace connectd::auth {
namespace {

class Descriptor final {
 public:
  explicit Descriptor(int fd) : fd_(fd) {}
  ~Descriptor() { (void)close(); }
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  int get() const { return fd_; }
  int close() { return fd_ < 0 ? 0 : ::close(std::exchange(fd_, -1)); }

 private:
  int fd_;
};

Error error_of(const std::string& path, std::string_view what) {
  const int number = errno;
  ErrorKind kind = ErrorKind::kDisk;
  if (number == ENOENT || number == ENOTDIR) kind = ErrorKind::kNotFound;
  if (number == EACCES || number == EPERM || number == EROFS) kind = ErrorKind::kPermission;
  if (number == ENOSPC || number == EDQUOT) kind = ErrorKind::kNoSpace;
  return {kind, fmt::format("{}: {}: {}", path, what, errno_text(number))};
}

// ---- who else may read or change it

constexpr unsigned kReadOrWrite = 06;

// An access control list as Linux stores it: u32 version, then {u16 tag, u16 permissions, u32 id}.
// systemd gives a service its credentials by such a list: the group's bits of the mode are then the
// mask of the list, and say nothing of a group.
std::optional<bool> opened_by_list(int fd) {
  constexpr uint16_t kUser = 0x02, kGroupOwner = 0x04, kGroup = 0x08, kMask = 0x10, kOther = 0x20;
  constexpr size_t kHead = 4, kEntry = 8, kMaxBytes = 4096;
  std::vector<uint8_t> bytes(kMaxBytes);
  const ssize_t size = ::fgetxattr(fd, "system.posix_acl_access", bytes.data(), bytes.size());
  if (size < 0) return errno == ERANGE ? std::optional(true) : std::nullopt;
  const size_t end = static_cast<size_t>(size);
  unsigned mask = kReadOrWrite;
  for (size_t at = kHead; at + kEntry <= end; at += kEntry) {
    if (load_le<uint16_t>(&bytes[at]) == kMask) mask = load_le<uint16_t>(&bytes[at + 2]);
  }
  for (size_t at = kHead; at + kEntry <= end; at += kEntry) {
    const auto tag = load_le<uint16_t>(&bytes[at]);
    const unsigned permitted = load_le<uint16_t>(&bytes[at + 2]) & kReadOrWrite;
    const auto id = load_le<uint32_t>(&bytes[at + 4]);
    const bool is_other_user = tag == kUser && id != 0 && id != ::geteuid();
    const bool is_masked = is_other_user || tag == kGroupOwner || tag == kGroup;
    if ((tag == kOther && permitted != 0) || (is_masked && (permitted & mask) != 0)) return true;
  }
  return false;
}

Result<void> check_owner_and_mode(const std::string& path, int fd, const struct stat& info) {
  const bool by_mode = (info.st_mode & (S_IRGRP | S_IWGRP | S_IROTH | S_IWOTH)) != 0;
  if (by_mode && opened_by_list(fd).value_or(true)) {
    return failure(ErrorKind::kPermission,
                   fmt::format("{}: group or others may read or change it (mode {:04o}), and it "
                               "holds secrets: chmod 600 {}",
                               path, info.st_mode & 07777U, path));
  }
  const uid_t self = ::geteuid();
  if (self != 0 && info.st_uid != 0 && info.st_uid != self) {
    return failure(ErrorKind::kPermission,
                   fmt::format("{}: belongs to user {}, who can change it: chown {} {}", path,
                               user_name(info.st_uid), user_name(self), path));
  }
  return {};
}

// ---- writing

Result<void> write_all(const std::string& path, int fd, std::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t written = ::write(fd, bytes.data(), bytes.size());
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) return failure(error_of(path, "cannot be written"));
    bytes.remove_prefix(static_cast<size_t>(written));
  }
  return {};
}

// Into a file that nobody else knows.
Result<void> write_new(const std::string& path, int fd, const struct stat* before,
                       const std::string& content) {
  // Before there is anything in it. Who may not give it away owned the file, or wants to own it.
  if (before != nullptr && ::fchown(fd, before->st_uid, before->st_gid) != 0 && ::geteuid() == 0) {
    return failure(error_of(path, "cannot be given to its owner"));
  }
  if (::fchmod(fd, S_IRUSR | S_IWUSR) != 0) return failure(error_of(path, "chmod"));
  if (auto done = write_all(path, fd, content); !done) return done;
  if (::fsync(fd) != 0) return failure(error_of(path, "cannot be synced"));
  return {};
}

// What a symbolic link leads to; the path itself if it does not exist.
std::string real_path(const std::string& path) {
  char* resolved = ::realpath(path.c_str(), nullptr);
  if (resolved == nullptr) return path;
  std::string text = resolved;
  ::free(resolved);
  return text;
}

}  // namespace

Result<std::string> read_private_file(const std::string& path, size_t max_bytes) {
  // O_NONBLOCK: a named pipe must not stop the process before it is seen to be one.
  Descriptor file(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY));
  if (file.get() < 0) return failure(error_of(path, "cannot be opened"));
  struct stat info {};
  if (::fstat(file.get(), &info) != 0) return failure(error_of(path, "stat"));
  if (!S_ISREG(info.st_mode)) {
    return failure(ErrorKind::kBadConfig, fmt::format("{}: must be a regular file", path));
  }
  if (auto fits = check_owner_and_mode(path, file.get(), info); !fits) return failure(fits.error());
  std::string content;
  std::array<char, 16 << 10> block;  // NOLINT(*-member-init)
  while (content.size() <= max_bytes) {
    const ssize_t bytes = ::read(file.get(), block.data(), block.size());
    if (bytes < 0 && errno == EINTR) continue;
    if (bytes < 0) return failure(error_of(path, "cannot be read"));
    if (bytes == 0) return content;
    content.append(block.data(), static_cast<size_t>(bytes));
  }
  return failure(ErrorKind::kBadConfig,
                 fmt::format("{}: must have at most {} bytes", path, max_bytes));
}

Result<void> replace_private_file(const std::string& path, const std::string& content) {
  const std::string target = real_path(path);
  struct stat before {};
  const bool exists = ::stat(target.c_str(), &before) == 0;
  std::string temporary = target + ".XXXXXX";
  Descriptor file(::mkostemp(temporary.data(), O_CLOEXEC));
  if (file.get() < 0) {
    Error error = error_of(path, "cannot be created");
    if (error.kind == ErrorKind::kNotFound) error.kind = ErrorKind::kCannotCreate;
    return failure(error);
  }
  auto done = write_new(temporary, file.get(), exists ? &before : nullptr, content);
  if (done && file.close() != 0) done = failure(error_of(temporary, "cannot be closed"));
  if (done && ::rename(temporary.c_str(), target.c_str()) != 0) {
    done = failure(error_of(path, "cannot be replaced"));
  }
  if (!done) {
    ::unlink(temporary.c_str());
    return done;
  }
  const size_t slash = target.rfind('/');
  const std::string directory = slash == std::string::npos ? "." : target.substr(0, slash + 1);
  Descriptor parent(::open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (parent.get() < 0 || ::fsync(parent.get()) != 0) {
    return failure(error_of(directory, "cannot be synced"));
  }
  return {};
}

}  // namespace connectd::auth
