#include "app/process.h"

#include <fcntl.h>
#include <signal.h>
#include <unistd.h>

#include <cerrno>
#include <initializer_list>

namespace connectd::app {
namespace {

// HUP and USR2 are handled once the daemon runs; before that there is nothing to reload or to show.
// XFSZ: a write over the limit fails with EFBIG instead.
constexpr int kIgnored[] = {SIGPIPE, SIGHUP, SIGUSR1,   SIGUSR2, SIGALRM, SIGVTALRM,
                            SIGPROF, SIGIO,  SIGSTKFLT, SIGPWR,  SIGXFSZ};

void ignore(int number) {
  struct sigaction action {};
  if (::sigaction(number, nullptr, &action) != 0 || action.sa_handler != SIG_DFL) return;
  action.sa_handler = SIG_IGN;
  ::sigaction(number, &action, nullptr);
}

}  // namespace

void prepare_process() {
  for (int descriptor : {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO}) {
    if (::fcntl(descriptor, F_GETFD) >= 0 || errno != EBADF) continue;
    // The lowest free number: this one.
    [[maybe_unused]] int opened = ::open("/dev/null", O_RDWR);
  }
  for (int number : kIgnored) ignore(number);
  for (int number = SIGRTMIN; number <= SIGRTMAX; ++number) ignore(number);
}

}  // namespace connectd::app
