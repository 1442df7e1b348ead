// Plays the stories of tests/scenarios: each command's trace must be the one in the file.
// REWRITE=1 writes the traces into the files instead; review the difference.

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "tests/unit/raft/stage.h"

namespace connectd::raft {
namespace {

std::vector<std::string> stories() {
  std::vector<std::string> names;
  for (const auto& file :
       std::filesystem::directory_iterator(CONNECTD_SOURCE_DIR "/tests/scenarios")) {
    if (file.path().extension() == ".txt") names.push_back(file.path().stem().string());
  }
  std::sort(names.begin(), names.end());
  return names;
}

class ScenarioTest : public testing::TestWithParam<std::string> {};

TEST_P(ScenarioTest, Plays) {
  std::string path = CONNECTD_SOURCE_DIR "/tests/scenarios/" + GetParam() + ".txt";
  std::ifstream in(path);
  ASSERT_TRUE(in) << path;
  Stage stage;
  std::string played;
  int number = 0;
  const bool rewrite = std::getenv("REWRITE") != nullptr;
  std::vector<std::string> commands;
  for (std::string line; std::getline(in, line);) {
    ++number;
    if (line != "----") {
      played += line + "\n";
      if (!line.empty() && line[0] != '#') commands.push_back(line);
      continue;
    }
    std::string expected;
    while (std::getline(in, line) && !line.empty()) {
      ++number;
      expected += line + "\n";
    }
    ++number;
    std::string trace;
    for (const std::string& command : commands) {
      std::string part;
      ASSERT_NO_THROW(part = stage.run(command)) << path << ":" << number << ": " << command;
      if (part != "ok\n") trace += part;
      ASSERT_EQ(stage.broken(), "") << path << ":" << number << ": after " << command;
    }
    if (trace.empty()) trace = "ok\n";
    if (!rewrite) {
      ASSERT_EQ(trace, expected) << path << ":" << number;
    }
    played += "----\n" + trace + "\n";
    commands.clear();
  }
  ASSERT_TRUE(commands.empty()) << path << " ends without ----";
  if (rewrite) {
    while (played.ends_with("\n\n")) played.pop_back();
    std::ofstream(path) << played;
  }
}

INSTANTIATE_TEST_SUITE_P(Stories, ScenarioTest, testing::ValuesIn(stories()),
                         [](const auto& story) { return story.param; });

}  // namespace
}  // namespace connectd::raft
