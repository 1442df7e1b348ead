#include "plugin/misuse.h"

#include <dlfcn.h>
#include <fcntl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <atomic>
#include <cstdlib>

#include "base/log.h"
#include "plugin/call.h"
#include "plugin/signal_line.h"

// Where this program's own code lies: the linker's names.
extern "C" const char __executable_start;  // NOLINT(bugprone-reserved-identifier)
extern "C" const char etext;

namespace connectd::plugin {
namespace {

std::atomic<pid_t> g_guarded{0};  // the process; 0: none yet
int g_exit_code = 0;
int g_stderr = -1;  // standard error, also when somebody has closed descriptor 2
std::atomic<bool> g_exit_is_expected{false};

void on_exit() {
  if (!is_guarded() || g_exit_is_expected) return;
  end_for_misuse("ended the process", kMustNotEnd, nullptr);
}

}  // namespace

void install_misuse_guard(int exit_code) {
  g_exit_code = exit_code;
  g_stderr = ::fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, STDERR_FILENO + 1);
  g_guarded = ::getpid();
  CHECK_EQ(std::atexit(on_exit), 0);
  CHECK_EQ(::at_quick_exit(on_exit), 0);
}

void expect_exit() { g_exit_is_expected = true; }

bool is_guarded() { return g_guarded.load(std::memory_order_relaxed) == ::getpid(); }

bool is_outside(const void* caller) {
  const char* at = static_cast<const char*>(caller);
  return at < &__executable_start || at >= &etext;
}

bool is_foreign(const void* caller) { return is_outside(caller) && is_guarded(); }

void give_back_standard(int descriptor) {
  ::syscall(SYS_close, descriptor);
  if (descriptor == STDERR_FILENO && g_stderr >= 0) {
    ::syscall(SYS_dup3, g_stderr, STDERR_FILENO, 0);
  }
}

void end_for_misuse(std::string_view did, std::string_view why, const void* caller) {
  static std::atomic<bool> begun{false};
  // Functions that run at the end of the process may come here again.
  if (begun.exchange(true)) ::syscall(SYS_exit_group, g_exit_code);
  SignalLine line;
  const CallScope* call = CallScope::current();
  if (call != nullptr) {
    line.plugin_of(*call).text(" ").text(did).place_of(*call);
  } else {
    // A thread of the plugin's own, or a library's.
    Dl_info info{};
    const bool known =
        caller != nullptr && ::dladdr(caller, &info) != 0 && info.dli_fname != nullptr;
    line.text(known ? info.dli_fname : "code of a plugin or a library").text(" ").text(did);
    line.text(" outside any call of a plugin");
  }
  line.text(": ").text(why).write_to_stderr();
  if (call != nullptr) write_skip_hint(*call);
  ::syscall(SYS_exit_group, g_exit_code);
  __builtin_unreachable();
}

}  // namespace connectd::plugin
