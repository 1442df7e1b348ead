#include "config/reload_report.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <fstream>
#include <iterator>
#include <sstream>
#include <utility>

namespace connectd::config {
namespace {

constexpr int kVersion = 1;
constexpr int kOwnerOnly = 0600;  // the text may quote the configuration

std::string lock_path(const std::string& directory) { return directory + "/reload.lock"; }
std::string state_path(const std::string& directory) { return directory + "/reload.state"; }

tl::unexpected<Error> file_error(const char* what, const std::string& path) {
  const ErrorKind kind = errno == ENOENT                     ? ErrorKind::kNotFound
                         : errno == EACCES || errno == EPERM ? ErrorKind::kPermission
                                                             : ErrorKind::kCannotCreate;
  return failure(kind, fmt::format("{}: cannot {}: {}", path, what, errno_text(errno)));
}

struct flock whole_file() {
  struct flock lock {};
  lock.l_type = F_WRLCK;
  lock.l_whence = SEEK_SET;
  return lock;
}

uint64_t own_pid_namespace() {
  struct stat file {};
  return ::stat("/proc/self/ns/pid", &file) == 0 ? file.st_ino : 0;
}

}  // namespace

std::string reload_state_text(const ReloadState& state) {
  return fmt::format("{} {} {} {} {} {}\n{}", kVersion, state.pid, state.pid_namespace, state.begun,
                     state.finished, state.code, state.text);
}

std::optional<ReloadState> parse_reload_state(const std::string& text) {
  const size_t end = text.find('\n');
  if (end == std::string::npos) return std::nullopt;
  std::istringstream line(text.substr(0, end));
  int version = 0;
  ReloadState state;
  line >> version >> state.pid >> state.pid_namespace >> state.begun >> state.finished >>
      state.code;
  // 1 is a node that is the first process of its container.
  if (!line || version != kVersion || state.pid < 1) return std::nullopt;
  state.text = text.substr(end + 1);
  return state;
}

ReloadReport::~ReloadReport() {
  if (lock_ >= 0) ::close(lock_);
}

Result<void> ReloadReport::open(const std::string& directory) {
  const std::string path = lock_path(directory);
  lock_ = ::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, kOwnerOnly);
  if (lock_ < 0) return file_error("open", path);
  struct flock lock = whole_file();
  if (::fcntl(lock_, F_OFD_SETLK, &lock) != 0) {
    auto error = file_error("lock", path);
    ::close(std::exchange(lock_, -1));
    return error;
  }
  directory_ = directory;
  state_.pid = ::getpid();
  state_.pid_namespace = own_pid_namespace();
  return write();
}

Result<void> ReloadReport::begin() {
  ++state_.begun;
  state_.text.clear();
  return write();
}

Result<void> ReloadReport::end(int code, std::string text) {
  state_.finished = state_.begun;
  state_.code = code;
  state_.text = std::move(text);
  return write();
}

Result<void> ReloadReport::write() const {
  if (lock_ < 0) return {};
  const std::string path = state_path(directory_);
  const std::string next = path + ".new";
  const int file =
      ::open(next.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, kOwnerOnly);
  if (file < 0) return file_error("open", next);
  const std::string text = reload_state_text(state_);
  const ssize_t written = ::write(file, text.data(), text.size());
  const int why = written < 0 ? errno : ENOSPC;  // of less than a page or two, the disk is full
  ::close(file);
  if (written != static_cast<ssize_t>(text.size())) {
    errno = why;
    return file_error("write", next);
  }
  if (::rename(next.c_str(), path.c_str()) != 0) return file_error("replace", path);
  return {};
}

Result<ReloadState> read_reload_state(const std::string& directory) {
  const std::string path = lock_path(directory);
  const int file = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOFOLLOW);
  if (file < 0) {
    if (errno != ENOENT) return file_error("open", path);
    return failure(
        ErrorKind::kNotFound,
        fmt::format("{} is missing: no node of this version has run in {}", path, directory));
  }
  struct flock lock = whole_file();
  const int asked = ::fcntl(file, F_OFD_GETLK, &lock);
  ::close(file);
  if (asked != 0) return file_error("look at the lock", path);
  if (lock.l_type == F_UNLCK) {
    return failure(ErrorKind::kUnreachable,
                   fmt::format("no node runs in {}: nobody has locked {}", directory, path));
  }
  std::ifstream in(state_path(directory), std::ios::binary);
  if (!in) return file_error("open", state_path(directory));
  auto state = parse_reload_state({std::istreambuf_iterator<char>(in), {}});
  if (!state) {
    return failure(ErrorKind::kMismatch,
                   fmt::format("{} is not a state that this version knows", state_path(directory)));
  }
  const uint64_t own = own_pid_namespace();
  if (own != 0 && state->pid_namespace != 0 && state->pid_namespace != own) {
    return failure(ErrorKind::kMismatch,
                   fmt::format("the node in {} runs in another PID namespace, such as a container: "
                               "run this command there",
                               directory));
  }
  return *state;
}

}  // namespace connectd::config
