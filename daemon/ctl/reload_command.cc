// reload: has a node of this machine read its files again, and waits for the outcome. For
// `systemctl reload`, so it works in the sandbox of the unit: see config/reload_report.h.
#include <poll.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>

#include "base/log.h"
#include "config/reload_report.h"
#include "ctl/commands.h"

namespace connectd::ctl {
namespace {

constexpr int kPollMs = 20;

// A process, whoever gets its id afterwards.
class PidDescriptor final {
 public:
  explicit PidDescriptor(int pid) : fd_(static_cast<int>(::syscall(SYS_pidfd_open, pid, 0))) {}
  ~PidDescriptor() {
    if (fd_ >= 0) ::close(fd_);
  }
  PidDescriptor(const PidDescriptor&) = delete;
  PidDescriptor& operator=(const PidDescriptor&) = delete;

  bool is_open() const { return fd_ >= 0; }
  bool send(int signal) const {
    return ::syscall(SYS_pidfd_send_signal, fd_, signal, nullptr, 0) == 0;
  }
  // Waits a little; true: it has ended.
  bool has_ended() const {
    pollfd descriptor{.fd = fd_, .events = POLLIN, .revents = 0};
    return ::poll(&descriptor, 1, kPollMs) > 0;
  }

 private:
  int fd_;
};

// SIGHUP; returns an errno, or 0. Root sends it as the owner of `directory`: whoever can write the
// state there must not choose which process root signals.
int send_hangup(const PidDescriptor& process, const std::string& directory) {
  struct stat owned {};
  const bool is_others =
      ::geteuid() == 0 && ::stat(directory.c_str(), &owned) == 0 && owned.st_uid != 0;
  if (is_others && ::setresuid(owned.st_uid, owned.st_uid, 0) != 0) return errno;
  const int error = process.send(SIGHUP) ? 0 : errno;
  if (is_others) CHECK_EQ(::setresuid(0, 0, 0), 0);
  return error;
}

ExitCode finished(const Context& context, const config::ReloadState& state) {
  const std::string_view text = state.text;
  if (state.code != 0) {
    const std::string_view line = text.substr(0, text.find_last_not_of('\n') + 1);
    return context.fail(static_cast<ExitCode>(state.code), line);
  }
  context.streams.out << text;
  return ExitCode::kOk;
}

}  // namespace

ExitCode reload_command(Context& context) {
  const std::string& directory = context.arguments[0];
  auto before = config::read_reload_state(directory);
  if (!before) return context.fail(before.error());
  const PidDescriptor process(before->pid);
  // Once more: the lock is held, so the process of the descriptor is the one that wrote the state.
  auto same = config::read_reload_state(directory);
  if (!process.is_open() || !same || same->pid != before->pid) {
    return context.fail(ExitCode::kUnavailable, fmt::format("no node runs in {}", directory));
  }
  if (const int error = send_hangup(process, directory); error != 0) {
    return context.fail(
        error == EPERM ? ExitCode::kPermission : ExitCode::kUnavailable,
        fmt::format(
            "cannot signal process {}: {}{}", before->pid, errno_text(error),
            error == EPERM ? "; run this as the user of the node, who must own " + directory : ""));
  }
  const Time end = context.end_of_wait();
  while (true) {
    const bool has_ended = process.has_ended();
    auto now = config::read_reload_state(directory);
    if (now && now->pid == before->pid && now->finished > same->begun) {
      return finished(context, *now);
    }
    if (has_ended) {
      return context.fail(
          ExitCode::kUnavailable,
          fmt::format("process {} ended before it had read its files; see its log", before->pid));
    }
    if (read_clocks().time >= end) {
      return context.fail(
          ExitCode::kTryAgain,
          fmt::format("process {} has not answered in time: it is starting or stopped, its main "
                      "loop hangs, or it cannot write to {}. It reads its files when it goes on; "
                      "see its log and /livez",
                      before->pid, directory));
    }
  }
}

}  // namespace connectd::ctl
