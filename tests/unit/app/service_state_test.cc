#include "app/service_state.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <string>
#include <vector>

#include "base/log.h"

namespace connectd::app {
namespace {
using std::chrono::seconds;
using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::StartsWith;

// Stands for systemd: a socket in a directory of its own.
class ServiceStateTest : public ::testing::Test {
 protected:
  ServiceStateTest() {
    directory_ = ::testing::TempDir() + "notify-XXXXXX";
    EXPECT_NE(::mkdtemp(directory_.data()), nullptr);
    const std::string path = directory_ + "/notify";
    socket_ = ::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    path.copy(address.sun_path, sizeof(address.sun_path) - 1);
    EXPECT_EQ(::bind(socket_, reinterpret_cast<sockaddr*>(&address), sizeof(address)), 0);
    ::setenv("NOTIFY_SOCKET", path.c_str(), 1);
    ::setenv("WATCHDOG_USEC", "30000000", 1);
    ::unsetenv("WATCHDOG_PID");
  }
  ~ServiceStateTest() override {
    ::unsetenv("NOTIFY_SOCKET");
    ::unsetenv("WATCHDOG_USEC");
    ::close(socket_);
    std::filesystem::remove_all(directory_);
  }

  std::vector<std::string> told() {
    std::vector<std::string> messages;
    char buffer[4096];
    for (;;) {
      const ssize_t size = ::recv(socket_, buffer, sizeof(buffer), MSG_DONTWAIT);
      if (size < 0) return messages;
      messages.emplace_back(buffer, static_cast<size_t>(size));
    }
  }

 private:
  std::string directory_;
  int socket_ = -1;
};

TEST_F(ServiceStateTest, TellsAStatusOnce) {
  ServiceState service;
  service.set_status("waits");
  service.set_status("waits");
  service.set_status("goes on");
  EXPECT_THAT(told(), ElementsAre("STATUS=waits", "STATUS=goes on"));
}

TEST_F(ServiceStateTest, ReplacesWhatAnotherThreadSaid) {
  ServiceState service;
  service.set_status("leads");
  service.stuck("apply at 812");
  service.set_status("leads");
  EXPECT_THAT(told(), ElementsAre("STATUS=leads", "STATUS=STUCK in apply at 812", "STATUS=leads"));
}

TEST_F(ServiceStateTest, ReloadsOnlyBetweenReadyAndStopping) {
  ServiceState service;
  service.reload_begins();
  service.reload_ends();
  EXPECT_THAT(told(), IsEmpty());
  service.ready();
  service.reload_begins();
  service.reload_ends();
  EXPECT_THAT(told(), ElementsAre("READY=1\nSTATUS=ready",
                                  StartsWith("RELOADING=1\nMONOTONIC_USEC="), "READY=1"));
  service.stopping();
  service.reload_begins();
  service.reload_ends();
  EXPECT_THAT(told(), ElementsAre("STOPPING=1\nSTATUS=stopping"));
}

TEST_F(ServiceStateTest, ExtendsAStartAndFeedsTheWatchdogNowAndThen) {
  ServiceState service;
  const Time now{seconds(100)};
  service.start_moves(now);
  service.start_moves(now + seconds(9));
  service.start_moves(now + seconds(10));
  EXPECT_THAT(told(),
              ElementsAre("EXTEND_TIMEOUT_USEC=600000000", "EXTEND_TIMEOUT_USEC=600000000"));
  service.advance(now);
  service.advance(now + seconds(9));
  service.advance(now + seconds(10));
  EXPECT_THAT(told(), ElementsAre("WATCHDOG=1", "WATCHDOG=1"));
}

TEST_F(ServiceStateTest, ShowsTheFirstLineOfWhyItFailed) {
  ServiceState service;
  service.failed(Error{ErrorKind::kBadConfig, "no such key\nand more"});
  EXPECT_THAT(told(), ElementsAre("STATUS=failed: no such key"));
}

TEST_F(ServiceStateTest, ShowsTheFirstLastLine) {
  ServiceState service;
  write_last_line("plugin counter 1.0.0 crashed in apply at index 812\n");
  write_last_line("what to do\n");
  EXPECT_THAT(told(),
              ElementsAre("STATUS=failed: plugin counter 1.0.0 crashed in apply at index 812"));
}

TEST_F(ServiceStateTest, LastLinesOfAChildAreNotTheServices) {
  ServiceState service;
  const pid_t child = ::fork();
  if (child == 0) {
    write_last_line("crashed in snapshot in a forked child\n");
    ::_exit(0);
  }
  ASSERT_EQ(::waitpid(child, nullptr, 0), child);
  EXPECT_THAT(told(), IsEmpty());
}

TEST_F(ServiceStateTest, NobodyHearsLastLinesAfterIt) {
  { ServiceState service; }
  write_last_line("crashed\n");
  EXPECT_THAT(told(), IsEmpty());
}

}  // namespace
}  // namespace connectd::app
