#include "ctl/processes.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <signal.h>
#include <spawn.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>
#include <fstream>
#include <sstream>

extern char** environ;

namespace connectd::ctl {
namespace {

// Whether the process was started with `--config config_file`. The same file by another path
// counts, because the directory may have been named by a link.
bool runs_with(int pid, const std::string& config_file) {
  std::ifstream in(fmt::format("/proc/{}/cmdline", pid), std::ios::binary);
  std::error_code ec;
  for (std::string word, before; std::getline(in, word, '\0'); before = word) {
    if (before != "--config") continue;
    if (word == config_file || std::filesystem::equivalent(word, config_file, ec)) return true;
  }
  return false;
}

}  // namespace

std::optional<Process> look_at_process(int pid) {
  if (pid <= 1) return std::nullopt;
  std::ifstream in(fmt::format("/proc/{}/stat", pid));
  std::string stat;
  if (!std::getline(in, stat)) return std::nullopt;
  // The name in parentheses may contain anything; the fields are behind its last ')'.
  size_t close = stat.rfind(')');
  if (close == std::string::npos) return std::nullopt;
  std::istringstream fields(stat.substr(close + 1));
  std::string state;
  fields >> state;  // field 3
  if (!fields || state == "Z" || state == "X") return std::nullopt;
  std::string skipped;
  for (int i = 4; i < 22; ++i) fields >> skipped;
  Process process;
  process.pid = pid;
  fields >> process.started;
  if (!fields) return std::nullopt;
  return process;
}

Result<Process> start_process(const std::string& program, const std::vector<std::string>& arguments,
                              const std::string& log_file) {
  posix_spawn_file_actions_t actions;
  posix_spawnattr_t attributes;
  posix_spawn_file_actions_init(&actions);
  posix_spawnattr_init(&attributes);
  posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSID);
  posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0);
  posix_spawn_file_actions_addopen(&actions, 1, log_file.c_str(), O_WRONLY | O_CREAT | O_APPEND,
                                   0640);
  posix_spawn_file_actions_adddup2(&actions, 1, 2);
  std::vector<std::string> words = {program};
  words.insert(words.end(), arguments.begin(), arguments.end());
  std::vector<char*> argv;
  argv.reserve(words.size() + 1);
  for (std::string& word : words) argv.push_back(word.data());
  argv.push_back(nullptr);
  pid_t pid = 0;
  int error = posix_spawn(&pid, program.c_str(), &actions, &attributes, argv.data(), environ);
  posix_spawnattr_destroy(&attributes);
  posix_spawn_file_actions_destroy(&actions);
  if (error != 0) {
    return failure(error == ENOENT ? ErrorKind::kNotFound : ErrorKind::kCannotCreate,
                   fmt::format("cannot start {}: {}", program, errno_text(error)));
  }
  // If it has ended already, it remains a process until its parent waits for it.
  if (auto process = look_at_process(pid)) return *process;
  return Process{pid, 0};
}

Result<void> write_pid_file(const std::string& path, const Process& process) {
  std::ofstream out(path, std::ios::trunc);
  out << process.pid << '\n';
  out.flush();
  if (!out) {
    return failure(ErrorKind::kCannotCreate,
                   fmt::format("cannot write {}: {}", path, errno_text(errno)));
  }
  return {};
}

std::optional<Process> running_process(const std::string& pid_file,
                                       const std::string& config_file) {
  std::ifstream in(pid_file);
  int pid = 0;
  if (!(in >> pid)) return std::nullopt;
  std::optional<Process> found = look_at_process(pid);
  if (!found || !runs_with(pid, config_file)) return std::nullopt;
  // Still the one whose command line this was.
  const std::optional<Process> again = look_at_process(pid);
  return again && again->started == found->started ? found : std::nullopt;
}

Result<void> signal_process(const Process& process, int signal) {
  // The descriptor refers to this very process: its id cannot be reused between check and signal.
  int descriptor = static_cast<int>(::syscall(SYS_pidfd_open, process.pid, 0));
  if (descriptor < 0) {
    return failure(errno == ESRCH ? ErrorKind::kNotFound : ErrorKind::kPermission,
                   fmt::format("process {}: {}", process.pid, errno_text(errno)));
  }
  std::optional<Process> found = look_at_process(process.pid);
  Result<void> result;
  if (!found || found->started != process.started) {
    result = failure(ErrorKind::kNotFound, fmt::format("process {} has ended", process.pid));
  } else if (::syscall(SYS_pidfd_send_signal, descriptor, signal, nullptr, 0) != 0) {
    result = failure(errno == ESRCH ? ErrorKind::kNotFound : ErrorKind::kPermission,
                     fmt::format("process {}: {}", process.pid, errno_text(errno)));
  }
  ::close(descriptor);
  return result;
}

}  // namespace connectd::ctl
