#include "plugin/file.h"

#include <elf.h>
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

namespace connectd::plugin {
namespace {

namespace fs = std::filesystem;

constexpr size_t kMaxListed = 20;           // files named in "found there: ..."
constexpr size_t kMaxScanned = 10000;       // directory entries looked at for that list
constexpr size_t kMaxProgramHeaders = 256;  // a plugin has about ten

#if defined(__x86_64__)
constexpr uint16_t kMachine = EM_X86_64;
#elif defined(__aarch64__)
constexpr uint16_t kMachine = EM_AARCH64;
#elif defined(__riscv)
constexpr uint16_t kMachine = EM_RISCV;
#else
#error "name this processor's ELF machine number here"
#endif

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

// The dynamic loader maps a truncated file without complaint and dies of SIGBUS when it touches
// what is missing; so the headers' promises are compared with the file's size first.
Result<void> check_elf(int fd, uint64_t size, const std::string& path) {
  Elf64_Ehdr header;
  if (size < sizeof header || read_at(fd, &header, sizeof header, 0) != 0 ||
      std::memcmp(header.e_ident, ELFMAG, SELFMAG) != 0) {
    return not_loadable(path,
                        "is not a shared object (no ELF header); build it with 'cc -shared -fPIC'");
  }
  if (header.e_ident[EI_CLASS] != ELFCLASS64 || header.e_ident[EI_DATA] != ELFDATA2LSB ||
      header.e_machine != kMachine) {
    return not_loadable(path,
                        fmt::format("is built for another processor (ELF machine {}, this one is "
                                    "{}); build it on this kind of machine",
                                    header.e_machine, kMachine));
  }
  if (header.e_type != ET_DYN) {
    return not_loadable(path, "is not a shared object; build it with 'cc -shared -fPIC'");
  }
  if (header.e_phnum > kMaxProgramHeaders || header.e_phentsize != sizeof(Elf64_Phdr)) {
    return not_loadable(path, "has damaged ELF headers; copy or build it again");
  }
  auto ends_early = [&](uint64_t offset, uint64_t length) {
    return offset > size || length > size - offset;
  };
  bool truncated = ends_early(header.e_phoff, uint64_t{header.e_phnum} * sizeof(Elf64_Phdr)) ||
                   (header.e_shoff != 0 &&
                    ends_early(header.e_shoff, uint64_t{header.e_shnum} * header.e_shentsize));
  for (size_t i = 0; i < header.e_phnum && !truncated; ++i) {
    Elf64_Phdr segment;
    truncated = read_at(fd, &segment, sizeof segment, header.e_phoff + i * sizeof segment) != 0 ||
                ends_early(segment.p_offset, segment.p_filesz);
  }
  if (truncated) {
    return not_loadable(
        path,
        fmt::format(
            "is truncated: it has {} bytes, fewer than its headers say; copy or build it again",
            size));
  }
  return {};
}

bool is_sha256(std::string_view text) {
  return text.size() == 64 && text.find_first_not_of("0123456789abcdef") == text.npos;
}

// The file's bytes in sealed memory, if their hash is the one wanted; the path to load them by.
Result<std::string> pin(int fd, uint64_t size, const std::string& path, std::string wanted) {
  std::transform(wanted.begin(), wanted.end(), wanted.begin(),
                 [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c; });
  if (!is_sha256(wanted)) {
    return failure(ErrorKind::kBadConfig,
                   fmt::format("plugin.sha256: '{}' is not 64 hexadecimal digits; 'sha256sum {}' "
                               "prints them",
                               wanted, path));
  }
  std::string bytes(size, '\0');
  if (int error = read_at(fd, bytes.data(), size, 0); error != 0) return cannot_read(path, error);
  std::string actual = sha256_hex(as_bytes(bytes));
  if (actual != wanted) {
    return failure(ErrorKind::kWrongData,
                   fmt::format("plugin file {}: its SHA-256 is {}, but plugin.sha256 is {}; "
                               "install the pinned file, or pin this one",
                               path, actual, wanted));
  }
  std::string name = fs::path(path).filename().string();
  FileDescriptor memory(::memfd_create(name.c_str(), MFD_CLOEXEC | MFD_ALLOW_SEALING));
  if (memory.get() < 0) {
    return not_loadable(path, "cannot create memory for its bytes: " + errno_text(errno));
  }
  for (size_t written = 0; written < bytes.size();) {
    ssize_t n = ::write(memory.get(), bytes.data() + written, bytes.size() - written);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return not_loadable(path, "cannot store its bytes: " + errno_text(errno));
    written += static_cast<size_t>(n);
  }
  int seals = F_SEAL_WRITE | F_SEAL_GROW | F_SEAL_SHRINK | F_SEAL_SEAL;
  if (::fcntl(memory.get(), F_ADD_SEALS, seals) != 0) {
    return not_loadable(path, "cannot seal its bytes: " + errno_text(errno));
  }
  // Stays open until the process ends, like the code: dlopen knows loaded objects by their path,
  // and a descriptor number that is used again would find the old one.
  return fmt::format("/proc/self/fd/{}", memory.release());
}

}  // namespace

Result<PluginFile> open_plugin_file(const LoadOptions& options) {
  auto found = find(options);
  if (!found) return failure(found.error());
  const std::string& path = *found;
  // Non-blocking: a FIFO in the place of the file must not hang the start.
  FileDescriptor file(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  if (file.get() < 0) return cannot_read(path, errno);
  struct stat status {};
  if (::fstat(file.get(), &status) != 0) return cannot_read(path, errno);
  if (!S_ISREG(status.st_mode)) {
    return not_loadable(path, "is not a regular file; must be the plugin's .so");
  }
  auto size = static_cast<uint64_t>(status.st_size);
  if (size > kMaxPluginFile) {
    return not_loadable(path, fmt::format("has {} bytes; the limit is {}", size, kMaxPluginFile));
  }
  // The pin goes first: of a file that is not the pinned one nothing else is of interest.
  std::string load_path = path;
  if (!options.sha256.empty()) {
    auto pinned = pin(file.get(), size, path, options.sha256);
    if (!pinned) return failure(pinned.error());
    load_path = *pinned;
  }
  if (auto elf = check_elf(file.get(), size, path); !elf) return failure(elf.error());
  return PluginFile{path, load_path};
}

}  // namespace connectd::plugin
