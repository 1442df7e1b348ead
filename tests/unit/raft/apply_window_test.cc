#include "raft/apply_window.h"

#include <gtest/gtest.h>

namespace connectd::raft {
namespace {

TEST(ApplyWindow, IsFullUntilBatchesAreApplied) {
  ApplyWindow window(Index(10));
  EXPECT_FALSE(window.is_full(0)) << "one batch may always leave";
  window.handed_out(Index(12), 60);
  EXPECT_FALSE(window.is_full(100));
  window.handed_out(Index(15), 40);
  EXPECT_TRUE(window.is_full(100));
  window.applied_to(Index(11));  // part of a batch frees nothing
  EXPECT_TRUE(window.is_full(100));
  window.applied_to(Index(12));
  EXPECT_FALSE(window.is_full(100));
  EXPECT_EQ(window.applied(), Index(12));
}

TEST(ApplyWindow, AppliedIndexNeverGoesBack) {
  ApplyWindow window(Index(10));
  window.handed_out(Index(15), 40);
  window.applied_to(Index(30));  // a snapshot
  window.applied_to(Index(15));
  EXPECT_EQ(window.applied(), Index(30));
  EXPECT_FALSE(window.is_full(1));
}

}  // namespace
}  // namespace connectd::raft
