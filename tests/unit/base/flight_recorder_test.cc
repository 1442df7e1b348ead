#include "base/flight_recorder.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "tests/unit/base/recorder_dump.h"

namespace connectd {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;

void record(FlightRecorder& recorder, const std::string& text) {
  recorder.record({1'000, LogEvent::kRaftRole, LogLevel::kInfo, FlightFate::kWritten, text});
}

size_t count_of(const std::string& text, const std::string& part) {
  size_t count = 0;
  for (size_t at = text.find(part); at != std::string::npos; at = text.find(part, at + 1)) ++count;
  return count;
}

TEST(FlightRecorder, KeepsTheLastEvents) {
  auto recorder = std::make_unique<FlightRecorder>();
  EXPECT_THAT(dump(*recorder),
              HasSubstr("\"reason\":\"test \\\"it\\\"\",\"recorded\":0,\"events\":[\n]}\n"));
  for (size_t i = 1; i <= FlightRecorder::kEvents + 10; ++i) record(*recorder, std::to_string(i));
  const std::string text = dump(*recorder);
  EXPECT_EQ(count_of(text, "\n{\"number\":"), FlightRecorder::kEvents);
  EXPECT_THAT(text,
              HasSubstr(",\"events\":[\n{\"number\":11,\"time\":\"1970-01-01T00:00:00.000001Z\","
                        "\"level\":\"info\",\"event\":\"raft.role\",\"area\":\"raft\","
                        "\"fate\":\"written\",\"message\":\"11\"},\n"));
  EXPECT_TRUE(text.ends_with("\"message\":\"4106\"}\n]}\n"));
}

TEST(FlightRecorder, LongTextsAreCut) {
  auto recorder = std::make_unique<FlightRecorder>();
  record(*recorder, std::string(FlightRecorder::kTextMax, 'a') + "b");
  record(*recorder, std::string(1000, '\xff'));
  const std::string text = dump(*recorder);
  EXPECT_THAT(text, HasSubstr("\"" + std::string(FlightRecorder::kTextMax, 'a') + "\"}"));
  EXPECT_EQ(count_of(text, "\\\\xff"), FlightRecorder::kTextMax);
}

// No event is a mixture of two; of those in the ring, each is whole.
TEST(FlightRecorder, ThreadsDoNotMix) {
  auto recorder = std::make_unique<FlightRecorder>();
  std::atomic<bool> ends{false};
  std::vector<std::thread> threads;
  for (char c : {'a', 'b', 'c'}) {
    threads.emplace_back([&, c] {
      while (!ends) record(*recorder, std::string(100, c));
    });
  }
  for (int round = 0; round < 20; ++round) {
    const std::string text = dump(*recorder);
    const size_t whole = count_of(text, std::string(100, 'a') + "\"}") +
                         count_of(text, std::string(100, 'b') + "\"}") +
                         count_of(text, std::string(100, 'c') + "\"}");
    EXPECT_EQ(whole, count_of(text, "\n{\"number\":"));
  }
  ends = true;
  for (std::thread& thread : threads) thread.join();
  // Whatever they left: all later ones are there.
  for (size_t i = 0; i < FlightRecorder::kEvents; ++i) record(*recorder, "later");
  EXPECT_EQ(count_of(dump(*recorder), "\"message\":\"later\"}"), FlightRecorder::kEvents);
}

std::string content(const std::string& path) {
  std::ifstream file(path);
  return {std::istreambuf_iterator<char>(file), {}};
}

class FlightFiles : public ::testing::Test {
 protected:
  void SetUp() override {
    char name[] = "/tmp/flight-test-XXXXXX";
    directory_ = ::mkdtemp(name);
    set_flight_directory(directory_);
  }
  void TearDown() override { std::filesystem::remove_all(directory_); }
  std::string directory_;
};

TEST_F(FlightFiles, AreOfTheOwnerAndWhole) {
  log_event(LogEvent::kListenHttp, "what came before");
  ASSERT_STREQ(write_flight_file(FlightFile::kAsked, "SIGUSR2"),
               (directory_ + "/flight.json").c_str());
  const std::string text = content(directory_ + "/flight.json");
  EXPECT_THAT(text, StartsWith("{\"format\":1,\"connectd\":\""));
  EXPECT_THAT(text, HasSubstr("\"message\":\"what came before\""));
  struct stat found {};
  ASSERT_EQ(::stat((directory_ + "/flight.json").c_str(), &found), 0);
  EXPECT_EQ(found.st_mode & 0777u, 0600u);
  EXPECT_FALSE(std::filesystem::exists(directory_ + "/flight.json.part"));
  EXPECT_FALSE(std::filesystem::exists(directory_ + "/flight-crash.json"));
}

TEST_F(FlightFiles, SignalHandlerWritesThem) {
  const pid_t child = ::fork();
  if (child == 0) {
    set_flight_directory(directory_);
    ::signal(SIGSEGV, [](int) {
      ::_exit(write_flight_file(FlightFile::kCrash, "SIGSEGV") == nullptr ? 1 : 0);
    });
    log_event(LogEvent::kListenHttp, "before the crash");
    ::raise(SIGSEGV);
  }
  int status = 0;
  ::waitpid(child, &status, 0);
  EXPECT_EQ(status, 0);
  EXPECT_THAT(content(directory_ + "/flight-crash.json"), HasSubstr("before the crash"));
}

TEST_F(FlightFiles, ForkedChildWritesNone) {
  const pid_t child = ::fork();
  if (child == 0) ::_exit(write_flight_file(FlightFile::kCrash, "x") == nullptr ? 0 : 1);
  int status = 0;
  ::waitpid(child, &status, 0);
  EXPECT_EQ(status, 0);
  EXPECT_TRUE(std::filesystem::is_empty(directory_));
}

TEST_F(FlightFiles, MissingDirectoryIsAnError) {
  std::filesystem::remove_all(directory_);
  errno = 0;
  EXPECT_EQ(write_flight_file(FlightFile::kAsked, "SIGUSR2"), nullptr);
  EXPECT_EQ(errno, ENOENT);
}

}  // namespace
}  // namespace connectd
