#include "storage/file_system.h"

#include <dirent.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <map>
#include <optional>
#include <set>
#include <utility>

#include "base/loop_scope.h"
#include "base/mutex.h"
#include "base/owner.h"

namespace connectd::storage {
namespace {

constexpr size_t kZeroBlockBytes = 256 << 10;

const char* error_hint(int error_number) {
  if (error_number == EMFILE) return ": raise the limit of open files (LimitNOFILE= of a unit)";
  if (error_number == ENFILE) return ": the machine has no more open files (fs.file-max)";
  if (error_number == EROFS) {
    return ": it is mounted read-only, or lies outside ReadWritePaths= of the unit";
  }
  return "";
}

bool is_there(const std::string& path) {
  struct stat status {};
  return ::lstat(path.c_str(), &status) == 0;
}

// The data directory that a file is in, by its lock; or the file itself.
std::string owned_part(const std::string& path) {
  std::string at = path;
  for (int up = 0; up < 2; ++up) {
    at = at.substr(0, at.find_last_of('/'));
    if (at.empty() || at == path) break;
    if (is_there(at + "/lock")) return at;
  }
  return path;
}

// A command that ran as root has left files that the service's user cannot open.
std::string owner_hint(const std::string& path, int error_number) {
  struct stat status {};
  if ((error_number != EACCES && error_number != EPERM) || ::stat(path.c_str(), &status) != 0 ||
      status.st_uid == geteuid()) {
    return {};
  }
  const std::string user = user_name(geteuid());
  return fmt::format(
      ": it belongs to user {}, and this process runs as {} (User= of its unit). If a command of "
      "another user has made it: chown -R {}: {}",
      user_name(status.st_uid), user, user, owned_part(path));
}

tl::unexpected<Error> io_failure(const char* what, const std::string& path, int error_number,
                                 ErrorKind otherwise = ErrorKind::kDisk,
                                 const std::string& hint = {}) {
  return failure(io_error_kind(error_number, otherwise),
                 fmt::format("cannot {} {}: {}{}{}{}", what, path, errno_text(error_number),
                             error_hint(error_number), owner_hint(path, error_number), hint));
}

const char* kind_of(mode_t mode) {
  if (S_ISDIR(mode)) return "a directory";
  if (S_ISREG(mode)) return "a file";
  if (S_ISFIFO(mode)) return "a pipe";
  if (S_ISSOCK(mode)) return "a socket";
  return "a device";
}

// Something else has the name: neither waiting nor another attempt helps.
tl::unexpected<Error> wrong_kind(const std::string& path, mode_t mode, const char* wanted) {
  return failure(ErrorKind::kWrongData,
                 fmt::format("{} is {}, not {}: move it away, and put back what belongs there",
                             path, kind_of(mode), wanted));
}

// Nothing: what has the name, if anything does, is not the reason of `error_number`.
std::optional<tl::unexpected<Error>> wrong_thing(const std::string& path, int error_number,
                                                 const char* wanted) {
  struct stat status {};
  if (error_number == ENOENT && ::lstat(path.c_str(), &status) == 0 && S_ISLNK(status.st_mode)) {
    std::array<char, 4096> target{};
    const ssize_t bytes = ::readlink(path.c_str(), target.data(), target.size());
    return failure(ErrorKind::kWrongData,
                   fmt::format("{} is a link to {}, which does not exist: is its disk mounted? If "
                               "it is, put back what belongs there",
                               path, std::string_view(target.data(), bytes < 0 ? 0 : bytes)));
  }
  const bool wants_directory = error_number == ENOTDIR;
  if (!wants_directory && error_number != EISDIR && error_number != ENXIO) return std::nullopt;
  if (::stat(path.c_str(), &status) != 0) return std::nullopt;
  if (wants_directory == S_ISDIR(status.st_mode)) return std::nullopt;
  return wrong_kind(path, status.st_mode, wanted);
}

// What statfs(2) says that `path` is on: "nfs", or a number.
std::string kind_of_file_system(const std::string& path) {
  struct Kind {
    unsigned long magic;
    const char* name;
  };
  constexpr Kind kKinds[] = {
      {0x6969, "nfs"},        {0xff534d42, "cifs"},    {0xfe534d42, "smb"},   {0x01021997, "9p"},
      {0x65735546, "fuse"},   {0x794c7630, "overlay"}, {0x01021994, "tmpfs"}, {0x4d44, "vfat"},
      {0x2011bab0, "exfat"},  {0x7366746e, "ntfs"},    {0xef53, "ext4"},      {0x58465342, "xfs"},
      {0x9123683e, "btrfs"},  {0x2fc12fc1, "zfs"},     {0x00c36400, "ceph"},  {0x01161970, "gfs2"},
      {0x0bd00bd0, "lustre"}, {0x6a656a63, "virtiofs"}};
  struct statfs status {};
  if (statfs(path.c_str(), &status) != 0) return "unknown";
  const auto magic = static_cast<unsigned long>(status.f_type) & 0xffffffff;
  for (const Kind& kind : kKinds) {
    if (kind.magic == magic) return kind.name;
  }
  return fmt::format("{:#x}", magic);
}

// Some network and user-space file systems have no locks, or cannot make a directory durable.
std::string file_system_hint(const std::string& path, int error_number) {
  if (error_number != ENOLCK && error_number != ENOSYS && error_number != EOPNOTSUPP &&
      error_number != EINVAL) {
    return {};
  }
  return fmt::format(
      ": its file system ({}) does not support that. node.data_dir must be on a local file system, "
      "such as ext4 or xfs",
      kind_of_file_system(path));
}

// In debug builds: the loop must not wait for a disk.
void disk_call() {
#ifdef CONNECTD_CHECK_THREADS
  check_off_loop("a disk call");
#endif
}

// A descriptor that is closed with it.
class Descriptor {
 public:
  explicit Descriptor(int number) : number_(number) {}
  Descriptor(Descriptor&& other) noexcept : number_(std::exchange(other.number_, -1)) {}
  Descriptor& operator=(Descriptor&& other) noexcept {
    std::swap(number_, other.number_);
    return *this;
  }
  ~Descriptor() {
    if (number_ >= 0) close(number_);
  }
  int number() const { return number_; }

 private:
  int number_;
};

class RealFile final : public File {
 public:
  RealFile(int descriptor, std::string path) : descriptor_(descriptor), path_(std::move(path)) {}
  ~RealFile() override {
    disk_call();
    close(descriptor_);
  }

  Result<size_t> read_at(uint64_t offset, std::span<uint8_t> to) const override {
    disk_call();
    size_t done = 0;
    while (done < to.size()) {
      ssize_t n =
          pread(descriptor_, to.data() + done, to.size() - done, static_cast<off_t>(offset + done));
      if (n < 0 && errno == EINTR) continue;
      if (n < 0) return io_failure("read", path_, errno);
      if (n == 0) break;
      done += static_cast<size_t>(n);
    }
    return done;
  }

  Result<void> write_at(uint64_t offset, ByteView bytes) override {
    disk_call();
    while (!bytes.empty()) {
      ssize_t n = pwrite(descriptor_, bytes.data(), bytes.size(), static_cast<off_t>(offset));
      if (n < 0 && errno == EINTR) continue;
      if (n < 0) return io_failure("write to", path_, errno);
      bytes = bytes.subspan(static_cast<size_t>(n));
      offset += static_cast<uint64_t>(n);
    }
    return {};
  }

  Result<void> fill_zeros(uint64_t offset, uint64_t bytes) override {
    disk_call();
    const std::vector<uint8_t> zeros(std::min<uint64_t>(bytes, kZeroBlockBytes));
    while (bytes > 0) {
      uint64_t part = std::min<uint64_t>(bytes, zeros.size());
      if (auto done = write_at(offset, ByteView(zeros.data(), part)); !done) return done;
      offset += part;
      bytes -= part;
    }
    return {};
  }

  Result<void> sync() override {
    disk_call();
    while (fdatasync(descriptor_) != 0) {
      if (errno != EINTR) return io_failure("sync", path_, errno, ErrorKind::kSyncFailed);
    }
    return {};
  }

  Result<uint64_t> size() const override {
    struct stat status {};
    if (fstat(descriptor_, &status) != 0) return io_failure("read the status of", path_, errno);
    return static_cast<uint64_t>(status.st_size);
  }

 private:
  const int descriptor_;
  const std::string path_;
};

class RealFileSystem final : public FileSystem {
 public:
  Result<std::unique_ptr<File>> open(const std::string& path, OpenMode mode) override {
    disk_call();
    int flags = O_CLOEXEC;
    if (mode == OpenMode::kRead) flags |= O_RDONLY;
    if (mode == OpenMode::kWrite) flags |= O_RDWR;
    if (mode == OpenMode::kCreate) flags |= O_RDWR | O_CREAT | O_TRUNC;
    // A pipe in the place of a file would wait for its other end.
    int descriptor = ::open(path.c_str(), flags | O_NONBLOCK, 0640);
    if (descriptor < 0) {
      const int error_number = errno;
      if (auto wrong = wrong_thing(path, error_number, "a file")) return *wrong;
      return io_failure(mode == OpenMode::kCreate ? "create" : "open", path, error_number);
    }
    auto file = std::make_unique<RealFile>(descriptor, path);
    struct stat status {};
    if (fstat(descriptor, &status) != 0) return io_failure("read the status of", path, errno);
    if (!S_ISREG(status.st_mode)) return wrong_kind(path, status.st_mode, "a file");
    return file;
  }

  Result<void> rename(const std::string& from, const std::string& to) override {
    disk_call();
    if (::rename(from.c_str(), to.c_str()) != 0) {
      return io_failure("rename", from + " to " + to, errno);
    }
    return {};
  }

  Result<void> remove(const std::string& path) override {
    disk_call();
    if (unlink(path.c_str()) != 0) return io_failure("remove", path, errno);
    return {};
  }

  Result<void> sync_directory(const std::string& path) override {
    disk_call();
    int kept = kept_directory(path);
    const Descriptor opened(kept >= 0 ? -1 : open_directory(path));
    if (kept < 0) kept = opened.number();
    if (kept < 0) return io_failure("open directory", path, errno);
    while (fsync(kept) != 0) {
      const int error_number = errno;
      if (error_number == EINTR) continue;
      return io_failure("sync directory", path, error_number, ErrorKind::kSyncFailed,
                        file_system_hint(path, error_number));
    }
    return {};
  }

  Result<void> make_directory(const std::string& path) override {
    // From the root down, so that each new name is synced in a directory that is durable itself.
    for (size_t end = path.find('/', 1);; end = path.find('/', end + 1)) {
      std::string part = path.substr(0, end);
      if (mkdir(part.c_str(), 0750) == 0) {
        size_t slash = part.find_last_of('/');
        std::string parent = slash == std::string::npos ? "." : part.substr(0, slash);
        if (auto done = sync_directory(parent.empty() ? "/" : parent); !done) return done;
      } else if (errno != EEXIST) {
        return io_failure("create directory", part, errno);
      }
      if (end == std::string::npos) break;
    }
    struct stat status {};
    if (stat(path.c_str(), &status) != 0) {
      const int error_number = errno;
      if (auto wrong = wrong_thing(path, error_number, "a directory")) return *wrong;
      return io_failure("read the status of", path, error_number);
    }
    if (!S_ISDIR(status.st_mode)) return wrong_kind(path, status.st_mode, "a directory");
    if (kept_directory(path) >= 0) return {};
    Descriptor opened(open_directory(path));
    if (opened.number() < 0) return io_failure("open directory", path, errno);
    MutexLock guard(mutex_);
    directories_.insert_or_assign(path, std::move(opened));
    return {};
  }

  Result<std::vector<std::string>> list(const std::string& path) override {
    disk_call();
    DIR* directory = opendir(path.c_str());
    if (directory == nullptr) {
      const int error_number = errno;
      if (auto wrong = wrong_thing(path, error_number, "a directory")) return *wrong;
      return io_failure("list", path, error_number);
    }
    std::vector<std::string> names;
    errno = 0;
    while (const dirent* item = readdir(directory)) {
      std::string name = item->d_name;
      if (name != "." && name != "..") names.push_back(std::move(name));
      errno = 0;
    }
    int error_number = errno;
    closedir(directory);
    if (error_number != 0) return io_failure("list", path, error_number);
    std::sort(names.begin(), names.end());
    return names;
  }

  Result<bool> exists(const std::string& path) override {
    struct stat status {};
    if (stat(path.c_str(), &status) == 0) return true;
    if (errno == ENOENT || errno == ENOTDIR) return false;
    return io_failure("read the status of", path, errno);
  }

  Result<uint64_t> free_bytes(const std::string& path) override {
    disk_call();
    if (auto held = check_lock(path + "/lock"); !held) return failure(held.error());
    struct statvfs status {};
    if (statvfs(path.c_str(), &status) != 0)
      return io_failure("read the free space of", path, errno);
    return static_cast<uint64_t>(status.f_bavail) * status.f_frsize;
  }

  Result<std::unique_ptr<FileLock>> lock(const std::string& path) override;

 private:
  class Lock;
  using FileKey = std::pair<dev_t, ino_t>;

  // Whoever removes the file, or the directory, lets a second process in: then this one may write
  // no more.
  Result<void> check_lock(const std::string& path) {
    MutexLock guard(mutex_);
    const auto held = lock_paths_.find(path);
    struct stat named {};
    if (held == lock_paths_.end()) return {};
    if (stat(path.c_str(), &named) == 0) {
      if (FileKey{named.st_dev, named.st_ino} == held->second) return {};
    } else if (errno != ENOENT && errno != ENOTDIR) {
      return {};  // not known
    }
    return failure(ErrorKind::kWrongData,
                   fmt::format("{} is not the file that this process has locked any more: it was "
                               "removed or replaced, alone or with its directory. Another process "
                               "could use the data, so this one must not",
                               path));
  }

  static int open_directory(const std::string& path) {
    return ::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  }
  // -1: it is not open, or another directory has its name now.
  int kept_directory(const std::string& path) {
    MutexLock guard(mutex_);
    auto found = directories_.find(path);
    if (found == directories_.end()) return -1;
    struct stat named {};
    struct stat kept {};
    if (stat(path.c_str(), &named) != 0 || fstat(found->second.number(), &kept) != 0 ||
        named.st_dev != kept.st_dev || named.st_ino != kept.st_ino) {
      return -1;
    }
    return found->second.number();
  }

  Mutex mutex_;
  // Never closed while this lives, but for one whose name another directory has taken.
  std::map<std::string, Descriptor> directories_ GUARDED_BY(mutex_);
  std::set<FileKey> locked_ GUARDED_BY(mutex_);  // by this object
  std::map<std::string, FileKey> lock_paths_ GUARDED_BY(mutex_);
};

// A classic fcntl() lock: a forked child does not inherit it, where flock() and
// open-file-description locks go with the descriptor. It has two drawbacks: a process does not
// exclude itself (so locked_ does), and closing any descriptor of the file drops the lock (so
// nothing else opens it).
class RealFileSystem::Lock final : public FileLock {
 public:
  Lock(RealFileSystem& files, int descriptor, FileKey key, std::string path)
      : files_(files), descriptor_(descriptor), key_(key), path_(std::move(path)) {}
  ~Lock() override {
    MutexLock guard(files_.mutex_);
    files_.locked_.erase(key_);
    files_.lock_paths_.erase(path_);
    close(descriptor_);
  }

 private:
  RealFileSystem& files_;
  const int descriptor_;
  const FileKey key_;
  const std::string path_;
};

Result<std::unique_ptr<FileLock>> RealFileSystem::lock(const std::string& path) {
  MutexLock guard(mutex_);
  struct stat status {};
  if (stat(path.c_str(), &status) == 0 && locked_.contains({status.st_dev, status.st_ino})) {
    return failure(ErrorKind::kLocked, fmt::format("{} is already locked by this process", path));
  }
  int descriptor = ::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0640);
  if (descriptor < 0) {
    const int error_number = errno;
    if (auto wrong = wrong_thing(path, error_number, "a file")) return *wrong;
    return io_failure("create", path, error_number);
  }
  struct flock request {};
  request.l_type = F_WRLCK;
  request.l_whence = SEEK_SET;
  if (fcntl(descriptor, F_SETLK, &request) != 0) {
    int error_number = errno;
    struct flock holder {};
    holder.l_type = F_WRLCK;
    holder.l_whence = SEEK_SET;
    std::string who = "another process";
    if (fcntl(descriptor, F_GETLK, &holder) == 0 && holder.l_type != F_UNLCK) {
      who = fmt::format("process {}", holder.l_pid);
    }
    close(descriptor);
    if (error_number == EACCES || error_number == EAGAIN) {
      return failure(ErrorKind::kLocked, fmt::format("{} is locked by {}", path, who));
    }
    return io_failure("lock", path, error_number, ErrorKind::kDisk,
                      file_system_hint(path, error_number));
  }
  if (fstat(descriptor, &status) != 0) {
    int error_number = errno;
    close(descriptor);
    return io_failure("read the status of", path, error_number);
  }
  FileKey key{status.st_dev, status.st_ino};
  locked_.insert(key);
  lock_paths_[path] = key;
  return std::make_unique<Lock>(*this, descriptor, key, path);
}

}  // namespace

std::unique_ptr<FileSystem> make_real_file_system() { return std::make_unique<RealFileSystem>(); }

ErrorKind io_error_kind(int error_number, ErrorKind otherwise) {
  switch (error_number) {
    case ENOENT:
      return ErrorKind::kNotFound;
    case EACCES:
    case EPERM:
      return ErrorKind::kPermission;
    case ENOSPC:
    case EDQUOT:
      return ErrorKind::kNoSpace;
    case EMFILE:
    case ENFILE:
      return ErrorKind::kNoDescriptors;
    default:
      return otherwise;
  }
}

Result<std::string> read_file(FileSystem& files, const std::string& path, size_t limit) {
  auto file = files.open(path, OpenMode::kRead);
  if (!file) return failure(file.error());
  auto size = (*file)->size();
  if (!size) return failure(size.error());
  if (*size > limit) {
    return failure(ErrorKind::kCorrupt,
                   fmt::format("{} has {} bytes, more than the limit of {}", path, *size, limit));
  }
  std::string content(*size, '\0');
  auto done = (*file)->read_at(
      0, std::span<uint8_t>(reinterpret_cast<uint8_t*>(content.data()), content.size()));
  if (!done) return failure(done.error());
  content.resize(*done);
  return content;
}

Result<void> replace_file(FileSystem& files, const std::string& directory, const std::string& name,
                          ByteView content) {
  const std::string path = directory + "/" + name;
  const std::string temporary = path + ".tmp";
  {
    auto file = files.open(temporary, OpenMode::kCreate);
    if (!file) return failure(file.error());
    if (auto done = (*file)->write_at(0, content); !done) return done;
    if (auto done = (*file)->sync(); !done) return done;
  }
  if (auto done = files.rename(temporary, path); !done) return done;
  return files.sync_directory(directory);
}

}  // namespace connectd::storage
