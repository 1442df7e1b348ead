#include "base/words.h"

#include <gtest/gtest.h>

namespace connectd {
namespace {

TEST(Words, EditDistanceCountsSwaps) {
  EXPECT_EQ(edit_distance("tick", "tick"), 0u);
  EXPECT_EQ(edit_distance("tikc", "tick"), 1u);
  EXPECT_EQ(edit_distance("hearbeat", "heartbeat"), 1u);
  EXPECT_EQ(edit_distance("", "abc"), 3u);
}

TEST(Words, NearestIsATypingErrorAway) {
  EXPECT_EQ(nearest("raed", {"read", "write"}), "read");
  EXPECT_EQ(nearest("writes", {"read", "write"}), "write");
  EXPECT_EQ(nearest("superuser", {"read", "write"}), "");
}

TEST(Words, JoinedReadsAsASentence) {
  EXPECT_EQ(joined({"a"}), "a");
  EXPECT_EQ(joined({"a", "b", "c"}), "a, b or c");
}

}  // namespace
}  // namespace connectd
