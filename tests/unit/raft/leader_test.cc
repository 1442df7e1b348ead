#include "raft/leader.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "tests/unit/raft/three.h"

namespace connectd::raft {
namespace {

using std::chrono::milliseconds;

constexpr Duration kTimeout = milliseconds(500);

Leader leader_of(const ConfState& conf) {
  Leader leader(kSelf, Index(8), LogTime());
  leader.set_members(conf, Index(8), at(0));
  leader.begin_quorum_period(at(0));
  return leader;
}

TEST(Leader, FollowsTheMembersButItself) {
  Leader leader = leader_of({{NodeId(1), NodeId(2)}, {}, {NodeId(3)}});
  EXPECT_EQ(leader.follower(kSelf), nullptr);
  ASSERT_NE(leader.follower(NodeId(3)), nullptr);
  leader.follower(NodeId(2))->sent_probe();
  leader.follower(NodeId(2))->accepted(Index(7), Index(1), at(0));

  leader.set_members({{NodeId(1), NodeId(2), NodeId(4)}, {}, {}}, Index(20), at(1));
  EXPECT_EQ(leader.follower(NodeId(3)), nullptr);
  EXPECT_EQ(leader.follower(NodeId(4))->next(), Index(20));
  EXPECT_EQ(leader.follower(NodeId(2))->match(), Index(7)) << "who stays keeps its progress";
}

TEST(Leader, AnswersCountOncePerRound) {
  Leader leader = leader_of(three());
  Progress& peer = *leader.follower(NodeId(2));
  EXPECT_EQ(leader.next_round(at(0), milliseconds(1)), 1u);
  EXPECT_EQ(leader.next_round(at(5), milliseconds(1)), 2u);
  EXPECT_EQ(leader.sent_at(2), at(5));
  EXPECT_FALSE(leader.answered(peer, 3)) << "a round that never left";
  EXPECT_TRUE(leader.answered(peer, 2));
  EXPECT_FALSE(leader.answered(peer, 1)) << "overtaken";
  EXPECT_EQ(leader.quorum_answered(three()), 2u);
}

// Thesis §6.2.
TEST(Leader, QuorumIsActiveIfAMajorityAnswered) {
  Leader leader = leader_of(three());
  leader.next_round(at(0), milliseconds(1));
  EXPECT_FALSE(leader.quorum_is_active(three()));
  leader.answered(*leader.follower(NodeId(2)), 1);
  EXPECT_TRUE(leader.quorum_is_active(three()));

  leader.begin_quorum_period(at(500));
  EXPECT_EQ(leader.quorum_period_began(), at(500));
  EXPECT_FALSE(leader.quorum_is_active(three()));
  EXPECT_TRUE(leader.follower(NodeId(2))->was_active);
  leader.answered(*leader.follower(NodeId(2)), 1);
  EXPECT_TRUE(leader.quorum_is_active(three())) << "late, but of this term";
}

TEST(Leader, RestartedPeriodIgnoresEarlierRounds) {
  Leader leader = leader_of(three());
  leader.next_round(at(0), milliseconds(1));
  leader.restart_quorum_period(at(900));
  leader.answered(*leader.follower(NodeId(2)), 1);
  EXPECT_FALSE(leader.quorum_is_active(three()));
  leader.answered(*leader.follower(NodeId(2)), leader.next_round(at(901), milliseconds(1)));
  EXPECT_TRUE(leader.quorum_is_active(three()));
}

TEST(Leader, QuorumMatchCountsItsOwnDisk) {
  Leader leader = leader_of(three());
  Progress& peer = *leader.follower(NodeId(2));
  peer.sent_probe();
  peer.accepted(Index(9), Index(1), at(1));
  EXPECT_EQ(leader.quorum_match(three(), Index(7)), Index(7));
  EXPECT_EQ(leader.quorum_match(three(), Index(12)), Index(9));
  const ConfState without_self{{NodeId(2), NodeId(3)}, {}, {}};
  EXPECT_EQ(leader.quorum_match(without_self, Index(12)), Index());
}

TEST(Leader, LeaseCountsFromTheQuorumsSendTime) {
  Leader leader = leader_of(three());
  EXPECT_FALSE(leader.quorum_renewed_at(three(), at(10)));
  leader.follower(NodeId(2))->renewed_at = at(3);
  EXPECT_EQ(leader.quorum_renewed_at(three(), at(10)), at(3));
  leader.follower(NodeId(3))->renewed_at = at(7);
  EXPECT_EQ(leader.quorum_renewed_at(three(), at(10)), at(7));

  leader.next_round(at(11), milliseconds(1));
  leader.void_lease();
  EXPECT_FALSE(leader.quorum_renewed_at(three(), at(12)));
  EXPECT_FALSE(leader.renews_lease(1));
  EXPECT_TRUE(leader.renews_lease(leader.next_round(at(13), milliseconds(1))));
}

TEST(Preference, YieldsAfterAnUnbrokenWhile) {
  Preference preference;
  const Duration patience = kYieldTimeouts * kTimeout;
  EXPECT_FALSE(preference.observe(NodeId(2), at(0), kTimeout));
  EXPECT_FALSE(preference.observe(NodeId(2), at(0) + patience - milliseconds(1), kTimeout));
  EXPECT_FALSE(preference.observe(NodeId(), at(0) + patience, kTimeout)) << "a break";
  EXPECT_FALSE(preference.observe(NodeId(2), at(0) + patience, kTimeout));
  EXPECT_TRUE(preference.observe(NodeId(2), at(0) + 2 * patience, kTimeout));
}

TEST(Preference, EachFailedAttemptDoublesTheWait) {
  Preference preference;
  Time now = at(0);
  for (int attempt = 0; attempt < kMaxYieldDoublings + 3; ++attempt) {
    const Duration wait = kYieldTimeouts * (1 << std::min(attempt, kMaxYieldDoublings)) * kTimeout;
    EXPECT_FALSE(preference.observe(NodeId(2), now, kTimeout));
    EXPECT_FALSE(preference.observe(NodeId(2), now + wait - milliseconds(1), kTimeout));
    EXPECT_TRUE(preference.observe(NodeId(2), now + wait, kTimeout)) << attempt;
    now += wait;
  }
}

}  // namespace
}  // namespace connectd::raft
