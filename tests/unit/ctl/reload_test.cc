#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <csignal>
#include <filesystem>
#include <fstream>
#include <thread>

#include "config/reload_report.h"
#include "support.h"

namespace connectd::ctl {
namespace {

using config::parse_reload_state;
using config::read_reload_state;
using config::reload_state_text;
using config::ReloadReport;
using config::ReloadState;
using ::testing::HasSubstr;

TEST(ReloadState, IsReadBackAsWritten) {
  for (const char* text : {"", "reload found no changes\n", "a\nb\n\nc", "1 2 3 4 5\n"}) {
    const ReloadState state{4711, 4026531836, 8, 7, 78, text};
    EXPECT_EQ(parse_reload_state(reload_state_text(state)), state);
  }
}

TEST(ReloadState, OtherTextsAreRefused) {
  for (const char* text : {"", "1 4711 5 8 7 78", "2 4711 5 8 7 78\n", "1 4711 5 8 7\n",
                           "1 0 5 8 7 78\n", "1 -1 5 8 7 78\n", "{}\n"}) {
    EXPECT_FALSE(parse_reload_state(text)) << text;
  }
}

TEST(ReloadReport, IsReadWhileTheProcessLives) {
  TemporaryDirectory files;
  const std::string directory = files.path("");
  EXPECT_EQ(read_reload_state(directory).error().kind, ErrorKind::kNotFound);
  {
    ReloadReport report;
    ASSERT_TRUE(report.open(directory));
    ReloadState expected = *read_reload_state(directory);
    EXPECT_NE(expected.pid_namespace, 0u);
    EXPECT_EQ(expected, (ReloadState{getpid(), expected.pid_namespace, 0, 0, 0, ""}));
    EXPECT_TRUE(report.begin());
    expected.begun = 1;
    EXPECT_EQ(*read_reload_state(directory), expected);
    EXPECT_TRUE(report.end(78, "n1.yaml:3: error\n"));
    expected = {getpid(), expected.pid_namespace, 1, 1, 78, "n1.yaml:3: error\n"};
    EXPECT_EQ(*read_reload_state(directory), expected);

    ReloadReport second;
    EXPECT_FALSE(second.open(directory)) << "it would overwrite the first one's";
    EXPECT_TRUE(second.begin());
    EXPECT_EQ(read_reload_state(directory)->finished, 1u);

    std::ofstream(directory + "/reload.state") << "9 of a later version\n";
    EXPECT_EQ(read_reload_state(directory).error().kind, ErrorKind::kMismatch);

    // The same number is another process there.
    ++expected.pid_namespace;
    std::ofstream(directory + "/reload.state") << reload_state_text(expected);
    const auto elsewhere = read_reload_state(directory);
    EXPECT_EQ(elsewhere.error().kind, ErrorKind::kMismatch);
    EXPECT_THAT(elsewhere.error().text, HasSubstr("in another PID namespace"));
  }
  const auto dead = read_reload_state(directory);
  EXPECT_EQ(dead.error().kind, ErrorKind::kUnreachable);
  EXPECT_THAT(dead.error().text, HasSubstr("no node runs in"));
}

TEST(ReloadReport, WithoutADirectoryNothingFails) {
  ReloadReport report;
  EXPECT_FALSE(report.open("/nonexistent"));
  EXPECT_TRUE(report.begin());
  EXPECT_TRUE(report.end(0, ""));
}

TEST(ReloadReport, StateThatCannotBeWrittenIsAnError) {
  TemporaryDirectory files;
  ReloadReport report;
  ASSERT_TRUE(report.open(files.path("")));
  ASSERT_TRUE(std::filesystem::create_directory(files.path("reload.state.new")));
  EXPECT_THAT(report.begin().error().text, HasSubstr("reload.state.new: cannot open"));
}

// Whoever owns the directory may write any number there.
TEST(Reload, RootSignalsProcessesOfTheOwnerOnly) {
  if (getuid() != 0) GTEST_SKIP() << "needs root";
  TemporaryDirectory files;
  const pid_t node = fork();
  ASSERT_GE(node, 0);
  if (node == 0) {  // of root, and ends with the test
    std::signal(SIGHUP, SIG_IGN);
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    ReloadReport report;
    if (!report.open(files.path(""))) _exit(1);
    while (true) pause();
  }
  while (!read_reload_state(files.path("")) && waitpid(node, nullptr, WNOHANG) == 0) {
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  const std::vector<std::string> words = {"reload", files.path(""), "--timeout", "20ms"};
  EXPECT_EQ(connectctl(words).code, ExitCode::kTryAgain) << "root's own, which does not answer";
  EXPECT_EQ(chown(files.path("").c_str(), 65534, 65534), 0);
  const Outcome refused = connectctl(words);
  EXPECT_EQ(refused.code, ExitCode::kPermission);
  EXPECT_THAT(refused.err, HasSubstr("cannot signal process " + std::to_string(node)));
  EXPECT_EQ(geteuid(), 0u);
  kill(node, SIGKILL);
  EXPECT_EQ(waitpid(node, nullptr, 0), node);
}

}  // namespace
}  // namespace connectd::ctl
