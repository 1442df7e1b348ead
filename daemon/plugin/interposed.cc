// Functions of the C library, and one of OpenSSL, that connectd defines, so that plugins and
// libraries bind to these (docs/adr/0034-what-a-plugin-binds-to.md). Only programs that export
// them link this file: daemon/app/connectd.map lists what they export. For calls from connectd's
// own code each does what the library's does.
//
// To tell whose a descriptor is, connectd's own calls that open one are recorded (the linker's
// --wrap, daemon/app/CMakeLists.txt).
#include <dlfcn.h>
#include <fcntl.h>
#include <pthread.h>
#include <sys/syscall.h>
#include <threads.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cstdarg>
#include <cstdint>
#include <cstdlib>

#include "base/digits.h"
#include "plugin/misuse.h"
#include "plugin/signal_line.h"

namespace connectd::plugin {
namespace {

constexpr std::string_view kMustNotEndThread = "a plugin must not end a thread of connectd";
constexpr std::string_view kMustNotClose = "a plugin must not close what it did not open";
constexpr std::string_view kMustNotMove =
    "a plugin must not change the working directory, which the whole process shares";

// One bit for each descriptor that connectd's own code opened. Above them nothing is caught.
constexpr size_t kMaxDescriptors = 1 << 20;
constinit std::array<std::atomic<uint64_t>, kMaxDescriptors / 64> g_own{};

bool is_own(unsigned descriptor) {
  if (descriptor <= STDERR_FILENO) return true;
  if (descriptor >= kMaxDescriptors) return false;
  return (g_own[descriptor / 64].load(std::memory_order_relaxed) >> descriptor % 64 & 1) != 0;
}

int record(int descriptor) {
  // The standard descriptors are open from the start: whoever closed one, as fclose() does within
  // the C library, would have the log written to a client, or into a segment of the log.
  if (descriptor >= 0 && descriptor <= STDERR_FILENO && is_guarded()) {
    give_back_standard(descriptor);
    end_for_misuse("closed a standard descriptor", kMustNotClose, nullptr);
  }
  if (descriptor < 0 || static_cast<size_t>(descriptor) >= kMaxDescriptors) return descriptor;
  const auto at = static_cast<size_t>(descriptor);
  g_own[at / 64].fetch_or(uint64_t{1} << at % 64, std::memory_order_relaxed);
  return descriptor;
}

void forget(int descriptor) {
  if (descriptor < 0 || static_cast<size_t>(descriptor) >= kMaxDescriptors) return;
  const auto at = static_cast<size_t>(descriptor);
  g_own[at / 64].fetch_and(~(uint64_t{1} << at % 64), std::memory_order_relaxed);
}

// "called exit(0)"
class Did {
 public:
  Did(std::string_view function, int64_t argument) : Did(function) {
    if (argument < 0) add("-");
    const auto value = static_cast<uint64_t>(argument);
    add(Digits(argument < 0 ? 0 - value : value).view());
    add(")");
  }
  explicit Did(std::string_view function) {
    add("called ");
    add(function);
    add("(");
  }
  std::string_view text() const { return {text_, size_}; }
  std::string_view closed() {
    add(")");
    return text();
  }

 private:
  void add(std::string_view part) {
    for (char c : part) {
      if (size_ < sizeof text_) text_[size_++] = c;
    }
  }
  char text_[64];
  size_t size_ = 0;
};

// The C library's own, or that of a sanitizer in between.
template <class Function>
Function* next(const char* name) {
  return reinterpret_cast<Function*>(::dlsym(RTLD_NEXT, name));
}

void check_end(const char* function, int64_t argument, const void* caller) {
  if (is_foreign(caller)) end_for_misuse(Did(function, argument).text(), kMustNotEnd, caller);
}

void check_thread_end(const char* function, const void* caller) {
  // A thread of the plugin's own may end as it likes.
  if (CallScope::current() == nullptr || !is_foreign(caller)) return;
  end_for_misuse(Did(function).closed(), kMustNotEndThread, caller);
}

void check_close(const char* function, unsigned first, unsigned last, const void* caller) {
  if (!is_foreign(caller)) return;
  for (uint64_t at = first; at <= last && at < kMaxDescriptors; ++at) {
    if (!is_own(static_cast<unsigned>(at))) continue;
    end_for_misuse(Did(function, static_cast<int64_t>(at)).text(), kMustNotClose, caller);
  }
}

}  // namespace
}  // namespace connectd::plugin

using namespace connectd::plugin;

#define CALLER __builtin_return_address(0)

extern "C" {
#pragma GCC visibility push(default)

// ---- the end of the process, or of a thread

void exit(int code) {
  check_end("exit", code, CALLER);
  next<void(int)>("exit")(code);
  __builtin_unreachable();
}
void _exit(int code) {
  check_end("_exit", code, CALLER);
  ::syscall(SYS_exit_group, code);
  __builtin_unreachable();
}
void _Exit(int code) noexcept {
  check_end("_Exit", code, CALLER);
  ::syscall(SYS_exit_group, code);
  __builtin_unreachable();
}
void quick_exit(int code) noexcept {
  check_end("quick_exit", code, CALLER);
  next<void(int)>("quick_exit")(code);
  __builtin_unreachable();
}
void pthread_exit(void* value) {
  check_thread_end("pthread_exit", CALLER);
  next<void(void*)>("pthread_exit")(value);
  __builtin_unreachable();
}
void thrd_exit(int value) {
  check_thread_end("thrd_exit", CALLER);
  next<void(int)>("thrd_exit")(value);
  __builtin_unreachable();
}

// ---- descriptors

int close(int descriptor) {
  check_close("close", static_cast<unsigned>(descriptor), static_cast<unsigned>(descriptor),
              CALLER);
  // A child of vfork() shares this memory.
  if (!is_outside(CALLER)) forget(descriptor);
  static const auto real = next<int(int)>("close");
  return real(descriptor);
}
int close_range(unsigned first, unsigned last, int flags) noexcept {
  // With CLOSE_RANGE_CLOEXEC, a value of 4, nothing is closed here.
  if ((flags & 4) == 0) check_close("close_range", first, last, CALLER);
  return static_cast<int>(::syscall(SYS_close_range, first, last, flags));
}
void closefrom(int first) noexcept {
  check_close("closefrom", static_cast<unsigned>(first < 0 ? 0 : first), ~0U, CALLER);
  ::syscall(SYS_close_range, first < 0 ? 0 : first, ~0U, 0);
}
int dup2(int from, int to) noexcept {
  if (from == to) return ::fcntl(from, F_GETFD) < 0 ? -1 : to;
  check_close("dup2", static_cast<unsigned>(to), static_cast<unsigned>(to), CALLER);
  return static_cast<int>(::syscall(SYS_dup3, from, to, 0));
}
int dup3(int from, int to, int flags) noexcept {
  check_close("dup3", static_cast<unsigned>(to), static_cast<unsigned>(to), CALLER);
  return static_cast<int>(::syscall(SYS_dup3, from, to, flags));
}

// ---- the working directory

int chdir(const char* path) noexcept {
  if (is_foreign(CALLER)) end_for_misuse(Did("chdir").closed(), kMustNotMove, CALLER);
  return static_cast<int>(::syscall(SYS_chdir, path));
}
int fchdir(int descriptor) noexcept {
  if (is_foreign(CALLER)) end_for_misuse(Did("fchdir", descriptor).text(), kMustNotMove, CALLER);
  return static_cast<int>(::syscall(SYS_fchdir, descriptor));
}

// ---- OpenSSL, which connectd shares with plugins and their libraries

// Nothing in this process could use OpenSSL after it. Libraries call it when they are done with
// theirs; OpenSSL itself does it at the end of the process.
void OPENSSL_cleanup() {
  if (is_foreign(CALLER)) return;
  if (const auto real = next<void()>("OPENSSL_cleanup")) real();
}

#pragma GCC visibility pop

// ---- connectd's own calls that open a descriptor; by the linker, not for others

// The linker makes these names (--wrap). NOLINTBEGIN(bugprone-reserved-identifier)

int __real_open(const char* path, int flags, ...);
int __real_socket(int domain, int type, int protocol);
int __real_accept(int socket, void* address, void* size);
int __real_accept4(int socket, void* address, void* size, int flags);
int __real_epoll_create1(int flags);
int __real_eventfd(unsigned value, int flags);
int __real_timerfd_create(int clock, int flags);
int __real_memfd_create(const char* name, unsigned flags);
int __real_pipe2(int ends[2], int flags);
int __real_dup(int descriptor);

int __wrap_open(const char* path, int flags, ...) {
  va_list more;
  va_start(more, flags);
  const mode_t mode = (flags & (O_CREAT | O_TMPFILE)) != 0 ? va_arg(more, mode_t) : 0;
  va_end(more);
  return record(__real_open(path, flags, mode));
}
int __wrap_socket(int domain, int type, int protocol) {
  return record(__real_socket(domain, type, protocol));
}
int __wrap_accept(int socket, void* address, void* size) {
  return record(__real_accept(socket, address, size));
}
int __wrap_accept4(int socket, void* address, void* size, int flags) {
  return record(__real_accept4(socket, address, size, flags));
}
int __wrap_epoll_create1(int flags) { return record(__real_epoll_create1(flags)); }
int __wrap_eventfd(unsigned value, int flags) { return record(__real_eventfd(value, flags)); }
int __wrap_timerfd_create(int clock, int flags) {
  return record(__real_timerfd_create(clock, flags));
}
int __wrap_memfd_create(const char* name, unsigned flags) {
  return record(__real_memfd_create(name, flags));
}
int __wrap_pipe2(int ends[2], int flags) {
  const int result = __real_pipe2(ends, flags);
  if (result != 0) return result;
  record(ends[0]);
  record(ends[1]);
  return result;
}
int __wrap_dup(int descriptor) { return record(__real_dup(descriptor)); }
// NOLINTEND(bugprone-reserved-identifier)

}  // extern "C"
