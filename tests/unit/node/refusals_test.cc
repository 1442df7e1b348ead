#include "node/membership/refusals.h"

#include <gtest/gtest.h>

namespace connectd::node {
namespace {

using wire::RefusalCode;

wire::Refusal refusal(RefusalCode code) { return {code, "because"}; }

TEST(RefusalsTest, WhoWasRemovedEndsAtOnce) {
  for (RefusalCode code : {RefusalCode::kRemoved, RefusalCode::kRecovered}) {
    for (bool has_node : {false, true}) {
      auto error = Refusals(3).refused(NodeId(2), refusal(code), has_node);
      ASSERT_TRUE(error);
      EXPECT_EQ(error->text, "refused by node 2: because");
    }
  }
}

TEST(RefusalsTest, ADiskEndsOnlyANodeWithoutACluster) {
  EXPECT_TRUE(Refusals(3).refused(NodeId(2), refusal(RefusalCode::kDiskId), false));
  EXPECT_FALSE(Refusals(3).refused(NodeId(2), refusal(RefusalCode::kDiskId), true));
}

TEST(RefusalsTest, AMajorityIsBelieved) {
  for (RefusalCode code :
       {RefusalCode::kClusterName, RefusalCode::kClusterId, RefusalCode::kPluginName,
        RefusalCode::kPluginLevel, RefusalCode::kSkips}) {
    Refusals refusals(5);
    EXPECT_FALSE(refusals.refused(NodeId(2), refusal(code), true));
    EXPECT_FALSE(refusals.refused(NodeId(2), refusal(code), true)) << "the same one again";
    EXPECT_FALSE(refusals.refused(NodeId(3), refusal(code), true));
    refusals.reached(NodeId(2));
    EXPECT_FALSE(refusals.refused(NodeId(4), refusal(code), true)) << "node 2 agrees again";
    auto error = refusals.refused(NodeId(5), refusal(code), true);
    ASSERT_TRUE(error);
    EXPECT_EQ(error->text, "refused by 3 of 5 members; node 5 says: because");
  }
}

TEST(RefusalsTest, AllOthersOfASmallClusterAreBelieved) {
  EXPECT_TRUE(Refusals(2).refused(NodeId(2), refusal(RefusalCode::kClusterId), true));
  Refusals alone(1);
  EXPECT_TRUE(alone.refused(NodeId(2), refusal(RefusalCode::kClusterId), true));
}

TEST(RefusalsTest, OtherReasonsEndNobody) {
  Refusals refusals(3);
  for (RefusalCode code : {RefusalCode::kOther, RefusalCode::kProtocol, RefusalCode::kWrongNode,
                           RefusalCode::kLeftBehind, RefusalCode::kNotMember}) {
    for (uint64_t peer : {2, 3, 4}) {
      for (bool has_node : {false, true}) {
        EXPECT_FALSE(refusals.refused(NodeId(peer), refusal(code), has_node));
      }
    }
  }
}

}  // namespace
}  // namespace connectd::node
