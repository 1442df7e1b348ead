#include "plugin/crash.h"

#include <pthread.h>
#include <signal.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <atomic>
#include <cstddef>
#include <memory>
#include <string_view>

#include "base/flight_recorder.h"
#include "base/log.h"
#include "plugin/call.h"
#include "plugin/signal_line.h"

namespace connectd::plugin {
namespace {

// Room for the handler and for what a sanitizer's runtime puts below it.
constexpr size_t kCrashStackBytes = 64 * 1024;

struct NamedSignal {
  int number;
  const char* name;
};
constexpr NamedSignal kSignals[] = {{SIGSEGV, "SIGSEGV"},
                                    {SIGBUS, "SIGBUS"},
                                    {SIGFPE, "SIGFPE"},
                                    {SIGILL, "SIGILL"},
                                    {SIGABRT, "SIGABRT"}};

// The thread that crashed first; none: 0.
std::atomic<pid_t> g_crashed{0};
// What the flight recorder may take to be written.
constexpr unsigned kFlightSeconds = 5;
std::atomic<int> g_signal{SIGABRT};

// What the signal does by default: in here, because whoever called this handler may be a handler
// that the plugin installed later and that the kernel would call again.
[[noreturn]] void die_of(int number) {
  struct sigaction action {};
  action.sa_handler = SIG_DFL;
  ::sigaction(number, &action, nullptr);
  sigset_t only;
  sigemptyset(&only);
  sigaddset(&only, number);
  ::pthread_sigmask(SIG_UNBLOCK, &only, nullptr);
  ::raise(number);
  // The first process of a container does not die so.
  ::syscall(SYS_exit_group, 128 + number);
  __builtin_unreachable();
}

// On a disk that hangs the process must end all the same.
void die_of_crash(int) { die_of(g_signal); }

// For whoever looks for what came before.
void write_flight(int number, std::string_view why) {
  g_signal = number;
  struct sigaction action {};
  action.sa_handler = die_of_crash;
  ::sigaction(SIGALRM, &action, nullptr);
  sigset_t only;
  sigemptyset(&only);
  sigaddset(&only, SIGALRM);
  ::pthread_sigmask(SIG_UNBLOCK, &only, nullptr);
  ::alarm(kFlightSeconds);
  const char* path = write_flight_file(FlightFile::kCrash, why);
  ::alarm(0);
  if (path != nullptr) SignalLine().text("the last events are in ").text(path).write_to_stderr();
}

void on_crash(int number) {
  const auto self = static_cast<pid_t>(::syscall(SYS_gettid));
  pid_t first = 0;
  if (!g_crashed.compare_exchange_strong(first, self)) {
    // A crash in this handler, or one that the first one caused on another thread.
    if (first != self) ::sleep(1);
    die_of(number);
  }
  SignalLine line;
  const CallScope* call = CallScope::current();
  if (call != nullptr) {
    line.plugin_of(*call).text(" crashed").place_of(*call);
  } else {
    line.text("connectd crashed");
  }
  line.text(" (signal ").number(static_cast<uint64_t>(number));
  for (const NamedSignal& signal : kSignals) {
    if (signal.number == number) line.text(", ").text(signal.name);
  }
  line.text(")");
  char reason[SignalLine::kMaxLine];
  const std::string_view why(reason, line.view().copy(reason, sizeof reason));
  line.write_to_stderr();
  if (call != nullptr) write_skip_hint(*call);
  write_flight(number, why);
  die_of(number);
}

class CrashStack {
 public:
  CrashStack() : memory_(std::make_unique<std::byte[]>(kCrashStackBytes)) {
    stack_t stack{};
    stack.ss_sp = memory_.get();
    stack.ss_size = kCrashStackBytes;
    CHECK_EQ(::sigaltstack(&stack, nullptr), 0) << "cannot set the stack of the crash handler";
  }
  ~CrashStack() {
    stack_t stack{};
    stack.ss_flags = SS_DISABLE;
    ::sigaltstack(&stack, nullptr);
  }
  CrashStack(const CrashStack&) = delete;
  CrashStack& operator=(const CrashStack&) = delete;

 private:
  std::unique_ptr<std::byte[]> memory_;
};

}  // namespace

void install_crash_stack() { static thread_local CrashStack stack; }

void install_crash_handler() {
  install_crash_stack();
  struct sigaction action {};
  action.sa_handler = on_crash;
  action.sa_flags = SA_ONSTACK;
  sigemptyset(&action.sa_mask);
  for (const NamedSignal& signal : kSignals) {
    CHECK_EQ(::sigaction(signal.number, &action, nullptr), 0) << "cannot handle " << signal.name;
  }
}

}  // namespace connectd::plugin
