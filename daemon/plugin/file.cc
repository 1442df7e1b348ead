#include "plugin/file.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <system_error>
#include <utility>
#include <vector>

#include "base/bytes.h"
#include "base/sha256.h"
#include "plugin/changeable.h"
#include "plugin/elf_image.h"

namespace connectd::plugin {
namespace {

namespace fs = std::filesystem;

constexpr size_t kMaxListed = 20;      // files named in "found there: ..."
constexpr size_t kMaxScanned = 10000;  // directory entries looked at for that list
constexpr size_t kMaxNamed = 5;        // symbols named in "it exports ..."
constexpr size_t kMaxSymbol = 80;      // bytes of such a name
// Linux 6.3 and glibc 2.38 have names for them.
constexpr unsigned kMemoryNoExec = 0x8;  // MFD_NOEXEC_SEAL
constexpr unsigned kMemoryExec = 0x10;   // MFD_EXEC

class FileDescriptor {
 public:
  explicit FileDescriptor(int fd) : fd_(fd) {}
  ~FileDescriptor() {
    if (fd_ >= 0) ::close(fd_);
  }
  FileDescriptor(const FileDescriptor&) = delete;
  FileDescriptor& operator=(const FileDescriptor&) = delete;
  int get() const { return fd_; }
  int release() { return std::exchange(fd_, -1); }

 private:
  int fd_;
};

std::string join(const std::vector<std::string>& parts) {
  return fmt::format("{}", fmt::join(parts, ", "));
}

std::vector<std::string> plugins_in(const std::vector<std::string>& dirs) {
  std::vector<std::string> found;
  size_t scanned = 0;
  for (const std::string& dir : dirs) {
    std::error_code error;
    fs::directory_iterator entry(dir, error);
    for (; !error && entry != fs::directory_iterator() && scanned < kMaxScanned;
         entry.increment(error), ++scanned) {
      if (entry->path().extension() == ".so") found.push_back(entry->path().filename().string());
    }
  }
  std::sort(found.begin(), found.end());
  found.erase(std::unique(found.begin(), found.end()), found.end());
  if (found.size() > kMaxListed) {
    size_t more = found.size() - kMaxListed;
    found.resize(kMaxListed);
    found.push_back(fmt::format("and {} more", more));
  }
  return found;
}

Result<std::string> find(const LoadOptions& options) {
  if (options.path.empty()) {
    return failure(ErrorKind::kBadConfig, "missing plugin; set plugin.path, or pass --plugin FILE");
  }
  fs::path path(options.path);
  fs::path base = options.config_dir.empty() ? fs::path(".") : fs::path(options.config_dir);
  std::vector<fs::path> candidates;
  std::vector<std::string> searched;
  if (path.is_absolute()) {
    candidates.push_back(path);
    searched.push_back(path.parent_path().string());
  } else {
    candidates.push_back(base / path);
    searched.push_back(candidates.back().parent_path().string());
    if (!path.has_parent_path()) {
      for (const std::string& dir : options.dirs) {
        candidates.push_back(fs::path(dir) / path);
        searched.push_back(dir);
      }
    }
  }
  for (const fs::path& candidate : candidates) {
    std::error_code error;
    fs::file_status status = fs::status(candidate, error);
    // What exists but cannot be looked at is for open() to complain about.
    if (status.type() != fs::file_type::not_found) {
      // Absolute, or dlopen would search the system's library path for a name without a slash.
      fs::path absolute = fs::absolute(candidate, error);
      return (error ? candidate : absolute).lexically_normal().string();
    }
  }
  std::vector<std::string> found = plugins_in(searched);
  return failure(
      ErrorKind::kNotFound,
      fmt::format("plugin '{}' not found in {}; {}; correct plugin.path, plugin.dirs or --plugin",
                  options.path, join(searched),
                  found.empty() ? "no .so file found there" : "found there: " + join(found)));
}

tl::unexpected<Error> not_loadable(const std::string& path, std::string_view why) {
  return failure(ErrorKind::kBadPlugin, fmt::format("plugin file {}: {}", path, why));
}

tl::unexpected<Error> cannot_read(const std::string& path, int error_number) {
  ErrorKind kind = error_number == ENOENT   ? ErrorKind::kNotFound
                   : error_number == EACCES ? ErrorKind::kPermission
                                            : ErrorKind::kBadPlugin;
  return failure(
      kind, fmt::format(
                "plugin file {}: cannot read it: {}; it must be readable for the user of connectd",
                path, errno_text(error_number)));
}

// Exactly `size` bytes at `offset`; 0, or an errno value. An early end is EIO.
int read_at(int fd, void* to, size_t size, uint64_t offset) {
  auto* at = static_cast<uint8_t*>(to);
  while (size > 0) {
    ssize_t got = ::pread(fd, at, size, static_cast<off_t>(offset));
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) return got == 0 ? EIO : errno;
    at += got;
    offset += static_cast<uint64_t>(got);
    size -= static_cast<size_t>(got);
  }
  return 0;
}

bool is_sha256(std::string_view text) {
  return text.size() == 64 && text.find_first_not_of("0123456789abcdef") == text.npos;
}

Result<void> check_pin(const std::string& actual, const std::string& path, std::string wanted) {
  std::transform(wanted.begin(), wanted.end(), wanted.begin(),
                 [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c; });
  if (!is_sha256(wanted)) {
    return failure(ErrorKind::kBadConfig,
                   fmt::format("plugin.sha256: '{}' is not 64 hexadecimal digits; 'sha256sum {}' "
                               "prints them",
                               wanted, path));
  }
  if (actual == wanted) return {};
  return failure(ErrorKind::kWrongData,
                 fmt::format("plugin file {}: its SHA-256 is {}, but plugin.sha256 is {}; "
                             "install the pinned file, or pin this one",
                             path, actual, wanted));
}

// Memory has no directory that a file system, or the service manager, could forbid to execute from;
// so the file is asked where it lies.
Result<void> check_executable(int fd, const std::string& path) {
  void* mapped = ::mmap(nullptr, 1, PROT_READ | PROT_EXEC, MAP_PRIVATE, fd, 0);
  if (mapped == MAP_FAILED) {
    const int error = errno;
    if (error != EPERM && error != EACCES) {
      return not_loadable(path, fmt::format("cannot be loaded: failed to map segment as code: {}",
                                            errno_text(error)));
    }
    // Another start would meet the same: not an error that systemd should restart after.
    return failure(
        ErrorKind::kPermission,
        fmt::format("plugin file {}: no permission to execute it: failed to map segment as code: "
                    "{}{}",
                    path, errno_text(error), kNoExecuteHint));
  }
  ::munmap(mapped, 1);
  return {};
}

int create_memory(const char* name) {
  constexpr unsigned kFlags = MFD_CLOEXEC | MFD_ALLOW_SEALING;
  int fd = ::memfd_create(name, kFlags | kMemoryExec);
  if (fd < 0 && errno == EINVAL) fd = ::memfd_create(name, kFlags);  // an older kernel
  // vm.memfd_noexec=2. The mode of a file does not count for mmap().
  if (fd < 0 && errno == EACCES) fd = ::memfd_create(name, kFlags | kMemoryNoExec);
  return fd;
}

// The bytes in sealed memory; the path to load them by. The error is why it cannot be done.
tl::expected<std::string, std::string> seal(const std::string& bytes, const std::string& path) {
  std::string name = fs::path(path).filename().string();
  FileDescriptor memory(create_memory(name.c_str()));
  if (memory.get() < 0) return tl::unexpected(fmt::format("memfd_create: {}", errno_text(errno)));
  for (size_t written = 0; written < bytes.size();) {
    ssize_t n = ::write(memory.get(), bytes.data() + written, bytes.size() - written);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return tl::unexpected(fmt::format("write: {}", errno_text(errno)));
    written += static_cast<size_t>(n);
  }
  int seals = F_SEAL_WRITE | F_SEAL_GROW | F_SEAL_SHRINK | F_SEAL_SEAL;
  if (::fcntl(memory.get(), F_ADD_SEALS, seals) != 0) {
    return tl::unexpected(fmt::format("F_ADD_SEALS: {}", errno_text(errno)));
  }
  // Not /proc/self: a debugger would look at its own descriptors.
  std::string load_path = fmt::format("/proc/{}/fd/{}", ::getpid(), memory.get());
  if (::access(load_path.c_str(), R_OK) != 0) {
    return tl::unexpected(fmt::format("{}: {}", load_path, errno_text(errno)));
  }
  // Stays open until the process ends, like the code: dlopen knows loaded objects by their path,
  // and a descriptor number that is used again would find the old one.
  memory.release();
  return load_path;
}

std::string export_warning(const std::string& path, std::string_view bytes) {
  std::vector<std::string> symbols = exported_symbols(bytes);
  if (symbols.empty()) return "";
  const size_t count = symbols.size();
  symbols.resize(std::min(count, kMaxNamed));
  for (std::string& symbol : symbols) {
    if (symbol.size() <= kMaxSymbol) continue;
    symbol.resize(kMaxSymbol);
    symbol += "...";
  }
  if (count > kMaxNamed) symbols.push_back(fmt::format("and {} more", count - kMaxNamed));
  return fmt::format(
      "plugin file {}: exports {} symbol{} besides connectd_plugin_v1: {}; a library of the "
      "process that has one of the same name would take its place. Hide them: compile with "
      "-fvisibility=hidden -fvisibility-inlines-hidden, or link with the SDK's version script "
      "(-Wl,--version-script=connectd-plugin.map)",
      path, count, count == 1 ? "" : "s", join(symbols));
}

}  // namespace

std::string map_warning(const std::string& path, std::string_view why) {
  return fmt::format(
      "plugin file {}: {}, so it is mapped from the file: whoever writes into the file while this "
      "process runs crashes it. Replace it by rename, as 'install' and 'mv' do",
      path, why);
}

FileStamp stamp_of(const struct stat& status) {
  auto nanoseconds = [](const timespec& time) {
    return int64_t{time.tv_sec} * 1'000'000'000 + time.tv_nsec;
  };
  return {uint64_t{status.st_dev}, uint64_t{status.st_ino}, static_cast<uint64_t>(status.st_size),
          nanoseconds(status.st_mtim), nanoseconds(status.st_ctim)};
}

Result<std::string> read_plugin_file(const std::string& path, FileStamp& stamp, int* open_file) {
  // Non-blocking: a FIFO in the place of the file must not hang the start.
  FileDescriptor file(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  if (file.get() < 0) return cannot_read(path, errno);
  struct stat status {};
  if (::fstat(file.get(), &status) != 0) return cannot_read(path, errno);
  if (!S_ISREG(status.st_mode)) {
    return not_loadable(path, "is not a regular file; must be the plugin's .so");
  }
  stamp = stamp_of(status);
  if (stamp.size > kMaxPluginFile) {
    return not_loadable(path,
                        fmt::format("has {} bytes; the limit is {}", stamp.size, kMaxPluginFile));
  }
  std::string bytes(stamp.size, '\0');
  if (int error = read_at(file.get(), bytes.data(), bytes.size(), 0); error != 0) {
    return cannot_read(path, error);
  }
  if (open_file != nullptr) *open_file = file.release();
  return bytes;
}

Result<PluginFile> open_plugin_file(const LoadOptions& options) {
  auto found = find(options);
  if (!found) return failure(found.error());
  PluginFile result;
  result.loaded.path = *found;
  const std::string& path = result.loaded.path;
  if (options.must_be_safe) {
    if (const std::string part = changeable_part(path); !part.empty()) {
      return failure(
          ErrorKind::kPermission,
          fmt::format(
              "plugin file {}: {} {}, so who can write files as this user chooses the code "
              "of the next start: `chown root` and `chmod go-w` it, install the plugin "
              "under /usr/lib/connectd/plugins, or set plugin.sha256; for development, "
              "plugin.allow_writable: on",
              path, part == path ? "it" : part,
              ::geteuid() == 0 ? "is not root's alone" : "may be changed by connectd's user"));
    }
  }
  int descriptor = -1;
  auto bytes = read_plugin_file(path, result.loaded.stamp, &descriptor);
  if (!bytes) return failure(bytes.error());
  FileDescriptor file(descriptor);
  result.loaded.sha256 = sha256_hex(as_bytes(*bytes));
  // The pin goes first: of a file that is not the pinned one nothing else is of interest.
  const bool is_pinned = !options.sha256.empty();
  if (is_pinned) {
    auto pin = check_pin(result.loaded.sha256, path, options.sha256);
    if (!pin) return failure(pin.error());
  }
  if (std::string why = elf_problem(*bytes); !why.empty()) return not_loadable(path, why);
  if (auto executable = check_executable(file.get(), path); !executable) {
    return failure(executable.error());
  }
  if (std::string warning = export_warning(path, *bytes); !warning.empty()) {
    result.loaded.warnings.push_back(std::move(warning));
  }
  result.load_path = path;
  // What is pinned is never mapped from a file that somebody may change.
  if (!is_pinned && uses_origin(*bytes)) {
    result.loaded.warnings.push_back(map_warning(path, "its library search path uses $ORIGIN"));
    return result;
  }
  auto sealed = seal(*bytes, path);
  if (sealed) {
    result.load_path = *sealed;
  } else if (is_pinned) {
    return not_loadable(path, fmt::format("cannot be copied to memory: {}", sealed.error()));
  } else {
    result.loaded.warnings.push_back(
        map_warning(path, fmt::format("cannot be copied to memory ({})", sealed.error())));
  }
  return result;
}

}  // namespace connectd::plugin
