#include "node/membership/refusals.h"

#include <gtest/gtest.h>

namespace connectd::node {
namespace {

using wire::RefusalCode;

constexpr Refusals::Standing kEmpty{false, false};
constexpr Refusals::Standing kHasLog{true, false};
constexpr Refusals::Standing kHasQuorum{true, true};

constexpr Time kNow{std::chrono::hours(1)};

wire::Refusal refusal(RefusalCode code) { return {code, "because"}; }

Refusals of_members(uint64_t count) {
  std::set<NodeId> listed;
  for (uint64_t id = 1; id <= count; ++id) listed.insert(NodeId(id));
  return Refusals(listed);
}

TEST(RefusalsTest, RemovedOrRecoveredEndsWithoutQuorum) {
  for (RefusalCode code : {RefusalCode::kRemoved, RefusalCode::kRecovered, RefusalCode::kTwin}) {
    for (Refusals::Standing standing : {kEmpty, kHasLog}) {
      auto error = of_members(3).refused(NodeId(2), refusal(code), standing, kNow);
      ASSERT_TRUE(error);
      EXPECT_EQ(error->text, "refused by node 2: because");
    }
  }
}

// Somebody who rehearses a recovery with a copy of a member's disk.
TEST(RefusalsTest, LiveQuorumOutweighsOneRefusal) {
  for (RefusalCode code : {RefusalCode::kRemoved, RefusalCode::kRecovered, RefusalCode::kTwin}) {
    EXPECT_FALSE(of_members(3).refused(NodeId(2), refusal(code), kHasQuorum, kNow));
  }
}

// Until `member replace`: an empty node waits, and one that was let in is behind in the others.
TEST(RefusalsTest, OtherDiskEndsNobody) {
  for (Refusals::Standing standing : {kEmpty, kHasLog, kHasQuorum}) {
    Refusals refusals = of_members(3);
    for (uint64_t peer : {2, 3}) {
      EXPECT_FALSE(refusals.refused(NodeId(peer), refusal(RefusalCode::kDiskId), standing, kNow));
    }
  }
}

constexpr RefusalCode kOfAMajority[] = {RefusalCode::kClusterName, RefusalCode::kClusterId,
                                        RefusalCode::kPluginName, RefusalCode::kPluginLevel,
                                        RefusalCode::kSkips};

TEST(RefusalsTest, MajorityEndsAnEmptyNode) {
  for (RefusalCode code : kOfAMajority) {
    Refusals refusals = of_members(5);
    EXPECT_FALSE(refusals.refused(NodeId(2), refusal(code), kEmpty, kNow));
    EXPECT_FALSE(refusals.refused(NodeId(2), refusal(code), kEmpty, kNow)) << "the same one again";
    EXPECT_FALSE(refusals.refused(NodeId(3), refusal(code), kEmpty, kNow));
    refusals.reached(NodeId(2));
    EXPECT_FALSE(refusals.refused(NodeId(4), refusal(code), kEmpty, kNow)) << "node 2 agrees again";
    auto error = refusals.refused(NodeId(5), refusal(code), kEmpty, kNow);
    ASSERT_TRUE(error);
    EXPECT_EQ(error->text, "refused by 3 of 5 members; node 5 says: because");
  }
}

TEST(RefusalsTest, NobodyEndsANodeWithALog) {
  for (RefusalCode code : kOfAMajority) {
    for (Refusals::Standing standing : {kHasLog, kHasQuorum}) {
      Refusals refusals = of_members(5);
      for (uint64_t peer : {2, 3, 4, 5}) {
        EXPECT_FALSE(refusals.refused(NodeId(peer), refusal(code), standing, kNow));
      }
    }
  }
}

// At the other member's address a stranger answers: one of two is no majority.
TEST(RefusalsTest, OneOfTwoIsNoMajority) {
  EXPECT_FALSE(of_members(2).refused(NodeId(2), refusal(RefusalCode::kClusterId), kEmpty, kNow));
}

// A founder that is not in the file is dialled where the genesis says; a stranger may answer.
TEST(RefusalsTest, UnlistedPeersDoNotCount) {
  Refusals refusals(std::set{NodeId(1), NodeId(4)});
  for (uint64_t peer : {7, 8, 9}) {
    EXPECT_FALSE(refusals.refused(NodeId(peer), refusal(RefusalCode::kClusterName), kEmpty, kNow));
  }
}

TEST(RefusalsTest, OtherReasonsEndNobody) {
  Refusals refusals = of_members(3);
  for (RefusalCode code : {RefusalCode::kOther, RefusalCode::kProtocol, RefusalCode::kWrongNode,
                           RefusalCode::kLeftBehind, RefusalCode::kNotMember}) {
    for (uint64_t peer : {2, 3, 4}) {
      for (Refusals::Standing standing : {kEmpty, kHasLog}) {
        EXPECT_FALSE(refusals.refused(NodeId(peer), refusal(code), standing, kNow));
      }
    }
  }
}

TEST(RefusalsTest, TextNamesWhoRefuses) {
  Refusals refusals = of_members(3);
  EXPECT_EQ(refusals.text(kNow), "");
  refusals.refused(NodeId(2), refusal(RefusalCode::kSkips), kHasLog, kNow);
  EXPECT_EQ(refusals.text(kNow), "refused by node 2: because");
  refusals.reached(NodeId(2));
  EXPECT_EQ(refusals.text(kNow), "");
}

TEST(RefusalsTest, TextForgetsWhoRefusesNoMore) {
  Refusals refusals = of_members(3);
  refusals.refused(NodeId(2), refusal(RefusalCode::kSkips), kHasLog, kNow);
  const Time end = kNow + wire::kRefusalStands;
  EXPECT_EQ(refusals.text(end - std::chrono::milliseconds(1)), "refused by node 2: because");
  EXPECT_EQ(refusals.text(end), "");
}

// Strangers at addresses that were dialled: they do not fill the status, and make room.
TEST(RefusalsTest, StrangersShareFewTexts) {
  Refusals refusals = of_members(3);
  for (uint64_t id = 100; id < 100 + 2 * Refusals::kMaxTexts; ++id) {
    refusals.refused(NodeId(id), refusal(RefusalCode::kOther), kHasLog, kNow);
  }
  EXPECT_EQ(refusals.text(kNow).find("node 108"), std::string::npos);
  const Time later = kNow + wire::kRefusalStands;
  refusals.refused(NodeId(108), refusal(RefusalCode::kOther), kHasLog, later);
  EXPECT_EQ(refusals.text(later), "refused by node 108: because");
}

}  // namespace
}  // namespace connectd::node
