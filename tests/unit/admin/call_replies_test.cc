// How many bytes of replies to calls are held.
#include "admin/call_replies.h"

#include <gtest/gtest.h>

#include <vector>

namespace connectd::admin {
namespace {

class CallRepliesTest : public ::testing::Test {
 protected:
  CallRepliesTest() {
    replies->follow([this] { ++rooms; });
  }
  std::shared_ptr<CallReplies> replies = std::make_shared<CallReplies>();
  int rooms = 0;
};

TEST_F(CallRepliesTest, NoCallBeginsBesideUnreadReplies) {
  auto half = replies->hold(kCallRepliesPause - 1);
  EXPECT_TRUE(replies->has_room());
  auto small = replies->hold(1);
  auto copy = small;
  EXPECT_FALSE(replies->has_room());
  small.reset();
  EXPECT_FALSE(replies->has_room()) << "a copy is left";
  EXPECT_EQ(rooms, 0);
  copy.reset();
  EXPECT_TRUE(replies->has_room());
  EXPECT_EQ(rooms, 1);
  half.reset();
  EXPECT_EQ(rooms, 1) << "there was room";
}

TEST_F(CallRepliesTest, ReplyBeyondTheBoundIsDropped) {
  auto large = replies->hold(kCallRepliesMax + 1);
  EXPECT_NE(large, nullptr) << "one of any size has room";
  EXPECT_EQ(replies->hold(kSmallCallReply + 1), nullptr);
  EXPECT_NE(replies->hold(kSmallCallReply), nullptr) << "errors always have room";
  large.reset();
  EXPECT_EQ(rooms, 1);
  auto first = replies->hold(kCallRepliesPause);
  auto second = replies->hold(kCallRepliesMax - kCallRepliesPause);
  EXPECT_NE(second, nullptr);
  EXPECT_EQ(replies->hold(kSmallCallReply + 1), nullptr);
}

TEST_F(CallRepliesTest, OutlivesWhoeverFollows) {
  auto large = replies->hold(kCallRepliesPause);
  replies->follow(nullptr);
  replies.reset();
  large.reset();
  EXPECT_EQ(rooms, 0);
}

}  // namespace
}  // namespace connectd::admin
