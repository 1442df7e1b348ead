// `connectctl sim`: its output, and its errors.
#include <fstream>

#include "support.h"
#include "tests/paths.h"

namespace connectd::ctl {
namespace {
using ::testing::HasSubstr;

const std::string kCounter = CONNECTD_BINARY_DIR "/plugins/libcounter.so";

std::string requests_file(const std::string& text) {
  static const TemporaryDirectory files;
  const std::string path = files.path("requests.txt");
  std::ofstream(path) << text;
  return path;
}

std::string hash_line(const std::string& text) {
  size_t at = text.find("trace hash ");
  return at == std::string::npos ? "none in: " + text : text.substr(at, 27);
}

TEST(SimCommand, SameSeedGoesTheSameWay) {
  std::vector<std::string> arguments = {"sim", "--plugin", kCounter, "--seed",
                                        "7",   "--steps",  "20000"};
  Outcome one = connectctl(arguments);
  Outcome two = connectctl(arguments);
  EXPECT_EQ(one.code, ExitCode::kOk) << one.err;
  EXPECT_THAT(one.out, HasSubstr("violations: 0\n"));
  EXPECT_EQ(hash_line(one.err), hash_line(two.err));
  arguments[4] = "8";
  EXPECT_NE(hash_line(one.err), hash_line(connectctl(arguments).err));
}

TEST(SimCommand, JsonHasTheSums) {
  Outcome outcome = connectctl({"sim", "-o", "json", "--plugin", kCounter, "--seeds", "2",
                                "--steps", "5000", "--faults", "none"});
  EXPECT_EQ(outcome.code, ExitCode::kOk) << outcome.err;
  EXPECT_THAT(outcome.out, HasSubstr("\"seeds\":2,"));
  EXPECT_THAT(outcome.out, HasSubstr("\"message_loss\":{\"injected\":0,\"bitten\":0,\"seeds\":0}"));
  EXPECT_THAT(outcome.out, HasSubstr("\"violations\":0"));
}

TEST(SimCommand, ViolationEndsWithOneAndTellsHowToReplayIt) {
  Outcome outcome = connectctl(
      {"sim", "--plugin", CONNECTD_BINARY_DIR "/tests/plugins/librandom.so", "--seed", "5"});
  EXPECT_EQ(outcome.code, ExitCode::kNegative);
  EXPECT_THAT(outcome.err, HasSubstr("the plugin is not deterministic: first at index "));
  EXPECT_THAT(outcome.err, HasSubstr("replay: connectctl sim --plugin "));
  EXPECT_THAT(outcome.err, HasSubstr("shorter: connectctl sim --plugin "));
  EXPECT_THAT(outcome.err, HasSubstr("--clients 1 --faults none --trace"));
  EXPECT_THAT(outcome.out, HasSubstr("violations: 1\n"));
}

TEST(SimCommand, OwnRequests) {
  Outcome outcome = connectctl({"sim", "--plugin", kCounter, "--steps", "2000", "--requests",
                                requests_file("incr {n}\nwhat is it?\n")});
  EXPECT_EQ(outcome.code, ExitCode::kOk) << outcome.err;
}

TEST(SimCommand, WrongUseIsNamed) {
  struct Case {
    std::vector<std::string> arguments;
    ExitCode code;
    std::string text;
  };
  for (const Case& c : std::vector<Case>{
           {{}, ExitCode::kUsage, "missing --plugin FILE"},
           {{"--plugin", kCounter, "--seed", "x"},
            ExitCode::kUsage,
            "--seed: 'x' must be a whole number"},
           {{"--plugin", kCounter, "--nodes", "10"},
            ExitCode::kUsage,
            "--nodes: '10' must be between 1 and 9"},
           {{"--plugin", kCounter, "--steps", "5"},
            ExitCode::kUsage,
            "--steps: '5' must be between 1000 and 1000000000"},
           {{"--plugin", kCounter, "--faults", "rain"},
            ExitCode::kUsage,
            "--faults: there is no fault 'rain'; there are: message_loss, "},
           {{"--plugin", kCounter, "--requests", "/nonexistent"},
            ExitCode::kNoInput,
            "/nonexistent"},
           {{"--plugin", kCounter, "--requests", requests_file("get\n")},
            ExitCode::kUsage,
            "none of the requests is a write"},
           {{"--plugin", kCounter, "--requests", requests_file("incr \\q\n")},
            ExitCode::kData,
            "line 1: after a backslash comes"},
           {{"--plugin", "/nonexistent.so"}, ExitCode::kNoInput, "/nonexistent.so"},
       }) {
    std::vector<std::string> arguments = {"sim"};
    arguments.insert(arguments.end(), c.arguments.begin(), c.arguments.end());
    if (c.text.starts_with("line")) arguments.back() = requests_file("incr \\q\n");
    if (c.text.starts_with("none")) arguments.back() = requests_file("get\n");
    Outcome outcome = connectctl(arguments);
    EXPECT_EQ(outcome.code, c.code) << c.text;
    EXPECT_THAT(outcome.err, HasSubstr(c.text));
  }
}

}  // namespace
}  // namespace connectd::ctl
