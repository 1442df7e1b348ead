#include "base/thread.h"

#include <fmt/format.h>
#include <pthread.h>
#include <signal.h>
#include <sys/resource.h>

#include <string>
#include <system_error>

#include "base/cgroup.h"

namespace connectd {
namespace {

// While it lives, threads that are started inherit a mask with all signals but those of a crash,
// which the thread that crashes reports.
class BlockedSignals final {
 public:
  BlockedSignals() {
    sigset_t all;
    sigfillset(&all);
    for (int number : {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT}) sigdelset(&all, number);
    pthread_sigmask(SIG_SETMASK, &all, &before_);
  }
  ~BlockedSignals() { pthread_sigmask(SIG_SETMASK, &before_, nullptr); }

 private:
  sigset_t before_;
};

std::string limits_text() {
  rlimit user{};
  std::string text = "no limit is known";
  if (::getrlimit(RLIMIT_NPROC, &user) == 0 && user.rlim_cur != RLIM_INFINITY) {
    text =
        fmt::format("the user's limit is {} (`ulimit -u`, LimitNPROC= of a unit)", user.rlim_cur);
  }
  if (auto group = cgroup_limit(CgroupLimit::kThreads)) {
    text += fmt::format("; the control group's limit is {} (TasksMax= of a unit)", *group);
  }
  return text;
}

}  // namespace

Result<std::thread> start_thread(std::string_view name, std::function<void()> body) {
  BlockedSignals blocked;
  try {
    return std::thread(std::move(body));
  } catch (const std::system_error& error) {
    return failure(
        ErrorKind::kCannotCreate,
        fmt::format("cannot start the {} thread: {}; connectd needs up to 16 threads: {}", name,
                    errno_text(error.code().value()), limits_text()));
  }
}

}  // namespace connectd
