// Plays the stories of tests/scenarios: each command's trace must be the one in the file.
// REWRITE=1 writes the traces into the files instead; review the difference.

#include <gtest/gtest.h>

#include <cstdlib>

#include "tests/paths.h"
#include "tests/unit/raft/story.h"

namespace connectd::raft {
namespace {

const std::string kFolder = CONNECTD_SOURCE_DIR "/tests/scenarios";

class ScenarioTest : public testing::TestWithParam<std::string> {};

TEST_P(ScenarioTest, Plays) {
  const bool rewrite = std::getenv("REWRITE") != nullptr;
  EXPECT_EQ(play_story(kFolder + "/" + GetParam() + ".txt", rewrite), "");
}

INSTANTIATE_TEST_SUITE_P(Stories, ScenarioTest, testing::ValuesIn(story_names(kFolder)),
                         [](const auto& story) { return story.param; });

}  // namespace
}  // namespace connectd::raft
