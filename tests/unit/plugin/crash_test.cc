// The last line of a crashing process names the plugin call, or says that it was not in one.
#include "plugin/crash.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <csignal>
#include <cstdlib>
#include <string>
#include <thread>

#include "plugin/call.h"
#include "tests/unit/plugin/support.h"

namespace connectd::plugin {
namespace {

// Deep enough to run out of any stack; the volatile data keeps the calls from being a loop.
int recurse(int depth) {
  volatile char data[4096];
  data[0] = static_cast<char>(depth);
  return depth == -1 ? 0 : recurse(depth + 1) + data[0];
}

int32_t crasher_create(const connectd_host*, void** self) {
  *self = nullptr;
  return CONNECTD_OK;
}
void crasher_destroy(void*) {}
int32_t apply_crash(void*, const connectd_apply_context*, connectd_bytes command,
                    const connectd_sink*) {
  std::string_view how(reinterpret_cast<const char*>(command.ptr), command.len);
  if (how == "abort") std::abort();
  if (how == "stack") return recurse(0);
  if (how == "bus") ::raise(SIGBUS);
  if (how == "fpe") ::raise(SIGFPE);
  if (how == "ill") ::raise(SIGILL);
  if (how == "segv") ::raise(SIGSEGV);
  return CONNECTD_OK;
}
int32_t snapshot_crash(void*, const connectd_snapshot*, const connectd_sink*) { std::abort(); }
int32_t crasher_restore(void*, const connectd_snapshot*, const connectd_source*) {
  return CONNECTD_OK;
}

constexpr connectd_plugin kCrasher = {
    CONNECTD_PLUGIN_HEAD("crasher", "2.5.0", 1, 1, 0, CONNECTD_FRAMING_LINE),
    crasher_create,
    crasher_destroy,
    nullptr,
    nullptr,
    apply_crash,
    snapshot_crash,
    crasher_restore,
    nullptr};

[[noreturn]] void crash_in_apply(const char* how) {
  install_crash_handler();
  auto instance = make_instance(Plugin::wrap(&kCrasher));
  apply(*instance, 812, how);
  std::_Exit(0);
}

class Crash : public ::testing::Test {
 protected:
  Crash() { GTEST_FLAG_SET(death_test_style, "threadsafe"); }
};

TEST_F(Crash, SignalIsReportedWithItsCall) {
  struct {
    const char* how;
    int signal;
    const char* text;
  } cases[] = {{"segv", SIGSEGV, "11, SIGSEGV"},
               {"abort", SIGABRT, "6, SIGABRT"},
               {"bus", SIGBUS, "7, SIGBUS"},
               {"fpe", SIGFPE, "8, SIGFPE"},
               {"ill", SIGILL, "4, SIGILL"}};
  for (auto& c : cases) {
    EXPECT_EXIT(crash_in_apply(c.how), ::testing::KilledBySignal(c.signal),
                std::string("plugin crasher 2.5.0 crashed in apply at index 812 \\(signal ") +
                    c.text + "\\)\n");
  }
}

TEST_F(Crash, StackOverflowIsReportedOnAnyThread) {
  const char* text =
      "plugin crasher 2.5.0 crashed in apply at index 812 \\(signal 11, SIGSEGV\\)\n";
  EXPECT_EXIT(crash_in_apply("stack"), ::testing::KilledBySignal(SIGSEGV), text);
  EXPECT_EXIT(
      {
        install_crash_handler();
        std::thread thread([] {
          install_crash_stack();
          auto instance = make_instance(Plugin::wrap(&kCrasher));
          apply(*instance, 812, "stack");
        });
        thread.join();
        std::_Exit(0);
      },
      ::testing::KilledBySignal(SIGSEGV), text);
}

TEST_F(Crash, EveryFunctionIsNamed) {
  EXPECT_EXIT(
      {
        install_crash_handler();
        auto instance = make_instance(Plugin::wrap(&kCrasher));
        std::string bytes;
        (void)instance->snapshot(covering(31, 0), into(bytes));
        std::_Exit(0);
      },
      ::testing::KilledBySignal(SIGABRT),
      "plugin crasher 2.5.0 crashed in snapshot at index 31 \\(signal 6, SIGABRT\\)\n");
}

TEST_F(Crash, CrashOutsideCallsNamesConnectd) {
  EXPECT_EXIT(
      {
        install_crash_handler();
        auto instance = make_instance(Plugin::wrap(&kCrasher));
        apply(*instance, 812, "nothing");
        std::abort();
      },
      ::testing::KilledBySignal(SIGABRT), "connectd crashed \\(signal 6, SIGABRT\\)\n");
}

struct sigaction g_chained {};
void pass_on(int number, siginfo_t*, void*) { g_chained.sa_handler(number); }

// As crash reporters do, and the Go runtime.
TEST_F(Crash, HandlerThatPassesOnIsNotCalledAgain) {
  EXPECT_EXIT(
      {
        install_crash_handler();
        struct sigaction theirs {};
        theirs.sa_sigaction = pass_on;
        theirs.sa_flags = SA_SIGINFO | SA_ONSTACK;
        ::sigaction(SIGSEGV, &theirs, &g_chained);
        ::alarm(20);
        auto instance = make_instance(Plugin::wrap(&kCrasher));
        apply(*instance, 812, "segv");
        std::_Exit(0);
      },
      ::testing::KilledBySignal(SIGSEGV),
      "^plugin crasher 2.5.0 crashed in apply at index 812 \\(signal 11, SIGSEGV\\)\n"
      "if this happens on every member[^\n]*\n$");
}

TEST_F(Crash, InnerCallRestoresOuterCall) {
  EXPECT_EQ(CallScope::current(), nullptr);
  CallScope outer("a", "1", "load");
  {
    CallScope inner("b", "2", "apply", 5);
    EXPECT_EQ(CallScope::current(), &inner);
  }
  EXPECT_EQ(CallScope::current(), &outer);
}

}  // namespace
}  // namespace connectd::plugin
