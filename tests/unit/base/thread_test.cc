#include "base/thread.h"

#include <gtest/gtest.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <string>

namespace connectd {
namespace {

TEST(StartThread, LeavesSignalsToTheMainThread) {
  sigset_t inside{};
  auto thread = start_thread("test", [&] { pthread_sigmask(SIG_SETMASK, nullptr, &inside); });
  ASSERT_TRUE(thread);
  thread->join();
  EXPECT_TRUE(sigismember(&inside, SIGTERM));
  EXPECT_FALSE(sigismember(&inside, SIGSEGV));
  sigset_t here{};
  pthread_sigmask(SIG_SETMASK, nullptr, &here);
  EXPECT_FALSE(sigismember(&here, SIGTERM));
}

TEST(StartThread, LimitIsAnErrorThatNamesIt) {
  const pid_t child = ::fork();
  if (child == 0) {
    const rlimit none{1, 1};
    ::setrlimit(RLIMIT_NPROC, &none);
    // Root has no such limit.
    if (::getuid() == 0 && (::setgid(65534) != 0 || ::setuid(65534) != 0)) ::_exit(2);
    auto thread = start_thread("apply", [] {});
    if (thread) ::_exit(3);
    if (thread.error().kind != ErrorKind::kCannotCreate) ::_exit(4);
    const std::string& text = thread.error().text;
    const bool names = text.find("cannot start the apply thread") == 0 &&
                       text.find("the user's limit is 1 (`ulimit -u`") != std::string::npos;
    ::_exit(names ? 0 : 5);
  }
  int status = 0;
  ::waitpid(child, &status, 0);
  EXPECT_EQ(WEXITSTATUS(status), 0);
}

}  // namespace
}  // namespace connectd
