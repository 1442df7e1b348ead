#include "plugin/crash.h"

#include <signal.h>
#include <unistd.h>

#include <cstddef>
#include <cstring>
#include <memory>

#include "base/log.h"
#include "plugin/call.h"

namespace connectd::plugin {
namespace {

// Room for the handler and for what a sanitizer's runtime puts below it.
constexpr size_t kCrashStackBytes = 64 * 1024;
constexpr size_t kMaxLine = 512;

struct NamedSignal {
  int number;
  const char* name;
};
constexpr NamedSignal kSignals[] = {{SIGSEGV, "SIGSEGV"},
                                    {SIGBUS, "SIGBUS"},
                                    {SIGFPE, "SIGFPE"},
                                    {SIGILL, "SIGILL"},
                                    {SIGABRT, "SIGABRT"}};

// Text in a fixed buffer, by means that are safe in a signal handler. What does not fit is cut.
class Line {
 public:
  void text(const char* text) {
    while (*text != '\0' && used_ < kMaxLine - 1) buffer_[used_++] = *text++;
  }
  void number(uint64_t value) {
    char digits[21];
    size_t at = sizeof digits;
    digits[--at] = '\0';
    do {
      digits[--at] = static_cast<char>('0' + value % 10);
      value /= 10;
    } while (value != 0);
    text(digits + at);
  }
  void write_to_stderr() {
    buffer_[used_++] = '\n';
    write_last_line({buffer_, used_});
  }

 private:
  char buffer_[kMaxLine];
  size_t used_ = 0;
};

void on_crash(int number) {
  Line line;
  const CallScope* call = CallScope::current();
  if (call != nullptr) {
    line.text("plugin ");
    line.text(call->name());
    if (call->version()[0] != '\0') line.text(" ");
    line.text(call->version());
    line.text(" crashed in ");
    line.text(call->function());
    if (call->index() != 0) {
      line.text(" at index ");
      line.number(call->index());
    }
  } else {
    line.text("connectd crashed");
  }
  line.text(" (signal ");
  line.number(static_cast<uint64_t>(number));
  for (const NamedSignal& signal : kSignals) {
    if (signal.number != number) continue;
    line.text(", ");
    line.text(signal.name);
  }
  line.text(")");
  line.write_to_stderr();
  if (call != nullptr && (std::strcmp(call->function(), "apply") == 0 ||
                          std::strcmp(call->function(), "on_tick") == 0)) {
    // It will happen again at each start.
    Line hint;
    hint.text(
        "if every member crashes so, and none has applied it, the entry can be skipped, on every "
        "member: connectctl recover --data-dir DIR --skip-entry ");
    hint.number(call->index());
    hint.write_to_stderr();
  }
  // SA_RESETHAND has put the default action back; the signal is blocked until the handler returns.
  ::raise(number);
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
  action.sa_flags = SA_ONSTACK | static_cast<int>(SA_RESETHAND);
  sigemptyset(&action.sa_mask);
  for (const NamedSignal& signal : kSignals) {
    CHECK_EQ(::sigaction(signal.number, &action, nullptr), 0) << "cannot handle " << signal.name;
  }
}

}  // namespace connectd::plugin
