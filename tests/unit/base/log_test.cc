// The log of a process that ends, in a child process each time: whatever ends it writes what is
// queued first, and a reader that hangs does not keep it.
#include "base/log.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <functional>
#include <stdexcept>
#include <string>
#include <thread>

#include "base/clock.h"
#include "base/log_format.h"

namespace connectd {
namespace {

using ::testing::EndsWith;
using ::testing::HasSubstr;
using ::testing::MatchesRegex;

struct End {
  int status = 0;
  std::string text;
  Duration took{};
};

// Runs `body` in a process whose standard error is a pipe of one page. `reads`: somebody reads it.
End run(const std::function<void()>& body, bool reads, bool journal = false) {
  int ends[2];
  EXPECT_EQ(::pipe(ends), 0);
  ::fcntl(ends[1], F_SETPIPE_SZ, 4096);
  const Time begin = read_clocks().time;
  const pid_t child = ::fork();
  if (child == 0) {
    ::close(ends[0]);
    ::dup2(ends[1], STDERR_FILENO);
    ::signal(SIGABRT, SIG_DFL);
    struct stat pipe {};
    ::fstat(STDERR_FILENO, &pipe);
    ::unsetenv("JOURNAL_STREAM");
    if (journal) {
      ::setenv("JOURNAL_STREAM", fmt::format("{}:{}", pipe.st_dev, pipe.st_ino).c_str(), 1);
    }
    init_logging("log_test");
    if (!start_log_thread()) ::_exit(99);
    body();
    finish_log();
    ::_exit(7);
  }
  ::close(ends[1]);
  End end;
  if (reads) {
    char buffer[4096];
    for (ssize_t n; (n = ::read(ends[0], buffer, sizeof buffer)) > 0;) {
      end.text.append(buffer, static_cast<size_t>(n));
    }
  }
  ::waitpid(child, &end.status, 0);
  end.took = read_clocks().time - begin;
  ::close(ends[0]);
  return end;
}

void log_much() {
  for (int i = 0; i < 300; ++i)
    log_line(LogLevel::kInfo, "test", fmt::format("{} {}", i, std::string(100, 'x')));
}

TEST(Log, EndOfTheProcessWritesWhatIsQueued) {
  const End end = run(
      [] {
        log_much();
        log_line(LogLevel::kError, "test", "the reason");
      },
      true);
  EXPECT_EQ(WEXITSTATUS(end.status), 7);
  EXPECT_THAT(end.text, EndsWith("Z error   test: the reason\n"));
  EXPECT_THAT(end.text, HasSubstr("test: 299 x"));
}

TEST(Log, FailedCheckWritesWhatIsQueuedAndItsText) {
  const End end = run(
      [] {
        log_much();
        CHECK_EQ(1, 2) << "why this cannot be";
      },
      true);
  ASSERT_TRUE(WIFSIGNALED(end.status));
  EXPECT_EQ(WTERMSIG(end.status), SIGABRT);
  EXPECT_THAT(end.text, HasSubstr("test: 299 x"));
  EXPECT_THAT(end.text, HasSubstr("Check failed: 1 == 2 (1 vs. 2) why this cannot be\n"));
  EXPECT_THAT(end.text, HasSubstr("<3>"));
}

TEST(Log, UncaughtExceptionIsNamed) {
  const End end =
      run([] { std::thread([] { throw std::runtime_error("out of threads"); }).join(); }, true);
  EXPECT_EQ(WTERMSIG(end.status), SIGABRT);
  EXPECT_THAT(end.text, HasSubstr("error   connectd: uncaught exception: out of threads\n"));
}

TEST(Log, StuckReaderDelaysNoEnd) {
  const auto is_quick = [](const End& end) { return end.took < std::chrono::seconds(5); };
  EXPECT_TRUE(is_quick(run([] { log_much(); }, false)));
  const End failed = run(
      [] {
        log_much();
        CHECK_EQ(1, 2);
      },
      false);
  EXPECT_TRUE(is_quick(failed));
  EXPECT_EQ(WTERMSIG(failed.status), SIGABRT);
  EXPECT_TRUE(is_quick(run(
      [] {
        log_much();
        write_last_line("connectd crashed\n");
        write_last_line("a hint\n");
      },
      false)));
}

TEST(Log, LastLineComesBehindTheQueue) {
  const End end = run(
      [] {
        log_much();
        write_last_line("connectd crashed\n");
        ::_exit(0);
      },
      true);
  EXPECT_THAT(end.text, EndsWith("xxx\n<3>connectd crashed\n"));
}

TEST(Log, JournalGetsAPriorityOnEachLineAndNoTime) {
  const End end = run(
      [] {
        log_line(LogLevel::kError, "config", "reload rejected:\nn.yaml:1:1: error: x\n");
        print_to_stderr(LogLevel::kError, "n.yaml:2:1: error: y\n    2 | y\n");
        write_last_line("connectd crashed\n");
      },
      true, true);
  EXPECT_EQ(end.text,
            "<3>error   config: reload rejected:\n"
            "<3>error   config: n.yaml:1:1: error: x\n"
            "<3>n.yaml:2:1: error: y\n"
            "<3>    2 | y\n"
            "<3>connectd crashed\n");
}

// `<3>` is for the journal, which takes it away; others read each line as JSON.
TEST(Log, JsonHasAPriorityInTheJournalOnly) {
  const auto body = [] {
    set_log_format(LogFormat::kJson);
    log_line(LogLevel::kError, "a", "b\nc");
    write_last_line("plugin \xff crashed\n");
  };
  const std::string line =
      "[{]\"time\":\"[-0-9T:.]+Z\",\"level\":\"error\",\"priority\":3,\"event\":\"plugin.line\","
      "\"area\":\"a\",(\"node\".*\",)?\"message\":\"b\\\\nc\"[}]\n";
  const std::string last =
      "[{]\"time\":\"[-0-9T:.]+Z\",\"level\":\"error\",\"priority\":3,\"event\":\"process.fatal\","
      "\"area\":\"connectd\",(\"node\".*\",)?\"message\":\"plugin \\\\\\\\xff crashed\"[}]\n";
  EXPECT_THAT(run(body, true).text, MatchesRegex(line + last));
  EXPECT_THAT(run(body, true, true).text, MatchesRegex("<3>" + line + "<3>" + last));
}

TEST(Log, OtherReadersGetTimesAndPlainPrints) {
  const End end = run(
      [] {
        log_line(LogLevel::kWarning, "a", "b");
        print_to_stderr(LogLevel::kError, "n.yaml:2:1: error: y");
      },
      true);
  EXPECT_THAT(end.text, MatchesRegex("<4>[-0-9]*T[:.0-9]*Z warning a: b\nn.yaml:2:1: error: y\n"));
}

}  // namespace
}  // namespace connectd
