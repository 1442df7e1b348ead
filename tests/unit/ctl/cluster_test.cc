#include <arpa/inet.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include <chrono>
#include <fstream>
#include <thread>

#include "config/load.h"
#include "ctl/cluster_ports.h"
#include "ctl/processes.h"
#include "support.h"
#include "tests/paths.h"

namespace connectd::ctl {
namespace {

using ::testing::HasSubstr;

const std::string kFake = std::string(CONNECTD_BINARY_DIR) + "/bin/fake_connectd";

bool port_is_free(uint16_t port) {
  int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  int on = 1;
  setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(port);
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  bool free = bind(fd, reinterpret_cast<sockaddr*>(&address), sizeof address) == 0;
  close(fd);
  return free;
}

class ClusterTest : public ::testing::Test {
 protected:
  void SetUp() override {
    // HTTP ports that are free at the moment, not for outgoing connections, and not those of the
    // same test in a process that began beside this one.
    for (port_ = 12000 + static_cast<uint16_t>(getpid() % 2000 * 10); port_ < 60000; port_ += 10) {
      if (port_is_free(port_ + 200) && port_is_free(port_ + 201) && port_is_free(port_ + 202))
        break;
    }
    directory_ = files_.path("cluster");
  }
  void TearDown() override {
    for (int i = 1; i <= 3; ++i) {
      auto process = running(i);
      if (!process) continue;
      (void)signal_process(*process, SIGKILL);
      (void)waitpid(process->pid, nullptr, 0);
    }
  }
  std::string plugin(const std::string& name) {
    std::ofstream(files_.path(name)) << "stands for a plugin";
    return files_.path(name);
  }
  std::string pid_file(int node) const {
    return directory_ + "/node" + std::to_string(node) + ".pid";
  }
  std::optional<Process> running(int node) const {
    return running_process(pid_file(node), directory_ + "/node" + std::to_string(node) + ".yaml");
  }
  Outcome start(const std::string& plugin_name, std::vector<std::string> more = {}) {
    std::vector<std::string> arguments = {
        "cluster",    "start", directory_, "--plugin",           plugin(plugin_name),
        "--connectd", kFake,   "--port",   std::to_string(port_)};
    arguments.insert(arguments.end(), more.begin(), more.end());
    return connectctl(arguments);
  }

  TemporaryDirectory files_;
  std::string directory_;
  uint16_t port_ = 0;
};

TEST_F(ClusterTest, StartsShowsAndStops) {
  Outcome started = start("good.so");
  ASSERT_EQ(started.code, ExitCode::kOk) << started.err;
  EXPECT_THAT(
      started.err,
      HasSubstr("ready. Try: connectctl -e 127.0.0.1:" + std::to_string(port_ + 200) + ","));
  EXPECT_THAT(started.out, HasSubstr("127.0.0.1:" + std::to_string(port_ + 102)));
  for (int i = 1; i <= 3; ++i) {
    config::LoadRequest request;
    request.file = directory_ + "/node" + std::to_string(i) + ".yaml";
    request.need_plugin = true;
    Result<config::Loaded> loaded = config::load(request);
    ASSERT_TRUE(loaded) << loaded.error().text;
    EXPECT_EQ(loaded->warnings, "");
    EXPECT_EQ(loaded->config.node.id, NodeId(static_cast<uint64_t>(i)));
  }
  EXPECT_EQ(connectctl({"cluster", "status", directory_}).code, ExitCode::kOk);

  // Starting again leaves those that run alone.
  int before = running(2)->pid;
  EXPECT_EQ(connectctl({"cluster", "start", directory_, "--connectd", kFake}).code, ExitCode::kOk);
  EXPECT_EQ(running(2)->pid, before);

  // A stopped node is started again.
  ASSERT_TRUE(signal_process(*running(2), SIGKILL));
  ASSERT_EQ(waitpid(before, nullptr, 0), before);
  Outcome status = connectctl({"cluster", "status", directory_});
  EXPECT_EQ(status.code, ExitCode::kNegative);
  EXPECT_THAT(status.out, HasSubstr("n2    stopped"));
  EXPECT_EQ(connectctl({"cluster", "start", directory_, "--connectd", kFake}).code, ExitCode::kOk);
  EXPECT_NE(running(2)->pid, before);

  Outcome stopped = connectctl({"cluster", "stop", directory_});
  EXPECT_EQ(stopped.code, ExitCode::kOk) << stopped.err;
  EXPECT_EQ(stopped.err, "3 of 3 nodes were running and have stopped\n");
  EXPECT_EQ(connectctl({"cluster", "status", directory_}).code, ExitCode::kNegative);
  EXPECT_EQ(connectctl({"cluster", "stop", directory_}).err,
            "0 of 3 nodes were running and have stopped\n");
}

TEST_F(ClusterTest, AnotherNumberOfNodesIsRefused) {
  ASSERT_EQ(start("good.so", {"--nodes", "1"}).code, ExitCode::kOk);
  Outcome other = start("good.so", {"--nodes", "3"});
  EXPECT_EQ(other.code, ExitCode::kUsage);
  EXPECT_THAT(other.err, HasSubstr("already has a cluster of 1"));
}

TEST_F(ClusterTest, NodeThatEndsIsShownWithItsLog) {
  Outcome outcome = start("fails.so", {"--nodes", "1"});
  EXPECT_EQ(outcome.code, ExitCode::kNegative);
  EXPECT_THAT(outcome.err, HasSubstr("  this plugin fails\n"));
  EXPECT_THAT(outcome.err, HasSubstr("node 1 exited with exit code 81"));
}

TEST_F(ClusterTest, NodeThatIsNotReadyInTimeIsNamed) {
  Outcome outcome = start("waits.so", {"--nodes", "1", "--timeout", "2s"});
  EXPECT_EQ(outcome.code, ExitCode::kTryAgain);
  EXPECT_THAT(outcome.err, HasSubstr("node 1 is not ready in time (waiting for nobody)"));
}

TEST_F(ClusterTest, NodeThatDoesNotStopIsNotKilled) {
  ASSERT_EQ(start("stays.so", {"--nodes", "1"}).code, ExitCode::kOk);
  Outcome outcome = connectctl({"cluster", "stop", directory_, "--timeout", "200ms"});
  EXPECT_EQ(outcome.code, ExitCode::kTryAgain);
  EXPECT_THAT(outcome.err, HasSubstr("kill -9"));
  EXPECT_TRUE(running(1));
}

TEST_F(ClusterTest, PidThatBelongsToAnotherIsLeftAlone) {
  ASSERT_EQ(start("good.so", {"--nodes", "1"}).code, ExitCode::kOk);
  ASSERT_EQ(connectctl({"cluster", "stop", directory_}).code, ExitCode::kOk);
  // The pid of this test, which is no node: a stop would end the test.
  Process own = *look_at_process(getpid());
  std::ofstream(pid_file(1)) << own.pid << '\n';
  EXPECT_FALSE(running(1));
  EXPECT_EQ(connectctl({"cluster", "stop", directory_}).code, ExitCode::kOk);
  EXPECT_FALSE(signal_process({own.pid, own.started + 1}, SIGKILL));
  EXPECT_TRUE(signal_process(own, 0));
  std::ofstream(pid_file(1)) << "garbage";
  EXPECT_FALSE(running(1));
}

// kill $(cat node1.pid): a second number would be killed, too.
TEST_F(ClusterTest, PidFileIsOneNumber) {
  ASSERT_EQ(start("good.so", {"--nodes", "1"}).code, ExitCode::kOk);
  std::ifstream in(pid_file(1));
  const std::string text{std::istreambuf_iterator<char>(in), {}};
  ASSERT_TRUE(running(1));
  EXPECT_EQ(text, std::to_string(running(1)->pid) + "\n");

  // The same files by another path, and the pid file of an earlier version.
  std::filesystem::create_directory_symlink(directory_, files_.path("link"));
  EXPECT_EQ(connectctl({"cluster", "status", files_.path("link")}).code, ExitCode::kOk);
  std::ofstream(pid_file(1), std::ios::app) << "123456\n";
  EXPECT_EQ(connectctl({"cluster", "stop", directory_}).err,
            "1 of 1 nodes were running and have stopped\n");
}

TEST_F(ClusterTest, PortsOfOutgoingConnectionsAreNamed) {
  if (EphemeralPorts::read().text() != "32768 to 60999") GTEST_SKIP() << "not the usual range";
  // No node is started; the ports are looked at before.
  const std::string connectd = "/nonexistent/connectd";
  auto start_at = [&](const std::string& port) {
    return connectctl({"cluster", "start", files_.path("at" + port), "--plugin", plugin("good.so"),
                       "--connectd", connectd, "--port", port});
  };
  EXPECT_THAT(start_at("32500").err, ::testing::Not(HasSubstr("warning")));
  EXPECT_THAT(start_at("32566").err,
              HasSubstr("outgoing connections, port 32768 of this cluster among them: a node may"));
  EXPECT_THAT(start_at("40000").err,
              HasSubstr("sysctl -w net.ipv4.ip_local_reserved_ports=40000-40002,40100-40102,"
                        "40200-40202\n"));
}

TEST(ClusterPorts, ChosenOutsideOfTheKernelsRange) {
  auto chosen = [](const char* range, const char* reserved = "") {
    return choose_first_port(EphemeralPorts::parse(range, reserved), 3);
  };
  EXPECT_EQ(chosen("32768 60999"), 7101u);
  EXPECT_EQ(chosen(""), 7101u);
  EXPECT_EQ(chosen("7303 60999"), 1101u);
  EXPECT_EQ(chosen("1024 60999"), 61101u);
  EXPECT_EQ(chosen("1024 65535", "7101-7103,7201-7203,7301-7303"), 7101u);
  EXPECT_EQ(chosen("1024 65535"), 7101u) << "there is no other, and a warning follows";
}

TEST_F(ClusterTest, MissingPartsAreNamed) {
  Outcome none = connectctl({"cluster", "stop", files_.path("nothing")});
  EXPECT_EQ(none.code, ExitCode::kNoInput);
  EXPECT_THAT(none.err, HasSubstr("has no cluster"));
  Outcome daemon = connectctl({"cluster", "start", directory_, "--plugin", plugin("good.so"),
                               "--connectd", "/nonexistent/connectd"});
  EXPECT_EQ(daemon.code, ExitCode::kNoInput);
  EXPECT_THAT(daemon.err, HasSubstr("cannot start /nonexistent/connectd"));
  Outcome no_plugin = connectctl({"cluster", "start", files_.path("other"), "--plugin",
                                  "/nonexistent.so", "--connectd", kFake});
  EXPECT_EQ(no_plugin.code, ExitCode::kNoInput);
  EXPECT_FALSE(std::filesystem::exists(files_.path("other")));
}

}  // namespace
}  // namespace connectd::ctl
