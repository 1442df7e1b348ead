// Plays the scenarios of tests/scenarios: each command's trace must be the one in the file.
// REWRITE=1 writes the traces into the files instead; review the difference.

#include "tests/unit/raft/scenario.h"

#include <gtest/gtest.h>

#include <cstdlib>

#include "tests/paths.h"

namespace connectd::raft {
namespace {

const std::string kFolder = CONNECTD_SOURCE_DIR "/tests/scenarios";

class ScenarioTest : public testing::TestWithParam<std::string> {};

TEST_P(ScenarioTest, Plays) {
  const bool rewrite = std::getenv("REWRITE") != nullptr;
  EXPECT_EQ(play_scenario(kFolder + "/" + GetParam() + ".txt", rewrite), "");
}

INSTANTIATE_TEST_SUITE_P(Scenarios, ScenarioTest, testing::ValuesIn(scenario_names(kFolder)),
                         [](const auto& scenario) { return scenario.param; });

}  // namespace
}  // namespace connectd::raft
