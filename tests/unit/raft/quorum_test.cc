// Majorities, by brute force: quorum_value() is compared with its definition.

#include "raft/quorum.h"

#include <gtest/gtest.h>

#include "base/random.h"

namespace connectd::raft {
namespace {

// By definition: the largest value such that more than half of the voters have at least that.
uint64_t majority_by_counting(const std::vector<NodeId>& voters,
                              const std::map<NodeId, uint64_t>& values) {
  uint64_t best = 0;
  for (const auto& [id, candidate] : values) {
    size_t reach = 0;
    for (NodeId voter : voters) reach += values.at(voter) >= candidate ? 1 : 0;
    if (2 * reach > voters.size()) best = std::max(best, candidate);
  }
  return best;
}

std::vector<NodeId> some_of(Random& random, uint64_t all) {
  std::vector<NodeId> ids;
  for (uint64_t i = 1; i <= all; ++i) {
    if (random.chance(50)) ids.emplace_back(i);
  }
  if (ids.empty()) ids.emplace_back(1 + random.below(all));
  return ids;
}

TEST(Quorum, ValueIsWhatCountingGives) {
  Random random(1);
  std::vector<uint64_t> scratch;
  for (int i = 0; i < 20000; ++i) {
    ConfState conf;
    conf.voters = some_of(random, 7);
    if (random.chance(50)) conf.voters_outgoing = some_of(random, 7);
    conf.learners = {NodeId(8)};
    std::map<NodeId, uint64_t> values;
    for (uint64_t id = 1; id <= 8; ++id) values[NodeId(id)] = random.below(6);
    values[NodeId(8)] = 100;  // a learner, far ahead: counts for nothing
    uint64_t expected = majority_by_counting(conf.voters, values);
    if (conf.is_joint()) {
      expected = std::min(expected, majority_by_counting(conf.voters_outgoing, values));
    }
    if (expected == 100) expected = 0;
    ASSERT_EQ(quorum_value(conf, scratch, [&](NodeId id) { return values[id]; }), expected);
  }
}

// Won means: no way to fill in the missing votes loses. Lost: no way wins. By trying all.
TEST(Quorum, VoteResultIsWhatTryingAllOutcomesGives) {
  Random random(2);
  for (int i = 0; i < 3000; ++i) {
    ConfState conf;
    conf.voters = some_of(random, 5);
    if (random.chance(50)) conf.voters_outgoing = some_of(random, 5);
    std::map<NodeId, bool> votes;
    for (uint64_t id = 1; id <= 5; ++id) {
      if (random.chance(60)) votes[NodeId(id)] = random.chance(50);
    }
    auto majority = [](const std::vector<NodeId>& voters, uint64_t yes) {
      size_t count = 0;
      for (NodeId id : voters) count += (yes >> id.value()) & 1;
      return 2 * count > voters.size();
    };
    bool can_win = false;
    bool can_lose = false;
    for (uint64_t yes = 0; yes < 64; yes += 2) {
      bool agrees = true;
      for (const auto& [id, vote] : votes) agrees &= (((yes >> id.value()) & 1) != 0) == vote;
      if (!agrees) continue;
      bool wins =
          majority(conf.voters, yes) && (!conf.is_joint() || majority(conf.voters_outgoing, yes));
      (wins ? can_win : can_lose) = true;
    }
    VoteResult expected = !can_lose  ? VoteResult::kWon
                          : !can_win ? VoteResult::kLost
                                     : VoteResult::kPending;
    ASSERT_EQ(vote_result(conf, votes), expected);
  }
}

TEST(Quorum, NoVotersNeverDecide) {
  std::vector<uint64_t> none;
  EXPECT_EQ(majority_value(none), 0u);
  EXPECT_NE(vote_result(ConfState(), {{NodeId(1), true}}), VoteResult::kWon);
}

TEST(ConfState, EncodesAndDecodes) {
  ConfState conf;
  conf.voters = {NodeId(1), NodeId(3)};
  conf.voters_outgoing = {NodeId(1), NodeId(2)};
  conf.learners = {NodeId(9)};
  std::string bytes = conf.encode();
  EXPECT_EQ(bytes.size(), 3 * 4 + 5 * 8u);
  ConfState read;
  ByteReader in(as_bytes(bytes));
  ASSERT_TRUE(ConfState::decode(in, read));
  EXPECT_TRUE(in.done());
  EXPECT_EQ(read, conf);
  EXPECT_EQ(conf.members(), (std::vector<NodeId>{NodeId(1), NodeId(2), NodeId(3), NodeId(9)}));
  for (size_t cut = 0; cut < bytes.size(); ++cut) {
    ByteReader part(as_bytes(std::string_view(bytes).substr(0, cut)));
    EXPECT_FALSE(ConfState::decode(part, read)) << cut;
  }
}

TEST(ConfState, RefusesListsThatAreNotSetsInOrder) {
  auto decodes = [](std::vector<NodeId> voters, std::vector<NodeId> learners) {
    ConfState conf;
    conf.voters = std::move(voters);
    conf.learners = std::move(learners);
    std::string bytes = conf.encode();
    ByteReader in(as_bytes(bytes));
    ConfState read;
    return ConfState::decode(in, read);
  };
  EXPECT_TRUE(decodes({NodeId(1), NodeId(2)}, {NodeId(3)}));
  EXPECT_FALSE(decodes({NodeId(2), NodeId(1)}, {}));
  EXPECT_FALSE(decodes({NodeId(1), NodeId(1)}, {}));
  EXPECT_FALSE(decodes({NodeId(0)}, {}));
  EXPECT_FALSE(decodes({}, {NodeId(3)}));
  EXPECT_FALSE(decodes({NodeId(1)}, {NodeId(1)}));
}

TEST(EntryChecksum, CoversEveryField) {
  Entry entry;
  entry.index = Index(5);
  entry.term = Term(2);
  entry.payload = Slice::copy_of("payload");
  uint64_t sum = entry_checksum(entry);
  auto changed = [&](auto&& change) {
    Entry other = entry;
    change(other);
    return entry_checksum(other) != sum;
  };
  EXPECT_TRUE(changed([](Entry& e) { ++e.index; }));
  EXPECT_TRUE(changed([](Entry& e) { ++e.term; }));
  EXPECT_TRUE(changed([](Entry& e) { e.kind = EntryKind::kTick; }));
  EXPECT_TRUE(changed([](Entry& e) { e.flags = 1; }));
  EXPECT_TRUE(changed([](Entry& e) { ++e.session; }));
  EXPECT_TRUE(changed([](Entry& e) { ++e.sequence; }));
  EXPECT_TRUE(changed([](Entry& e) { ++e.acked_below; }));
  EXPECT_TRUE(changed([](Entry& e) { ++e.stamp_ns; }));
  EXPECT_TRUE(changed([](Entry& e) { e.payload = Slice::copy_of("Payload"); }));
  EXPECT_TRUE(changed([](Entry& e) { e.payload = Slice::copy_of("payloa"); }));
}

}  // namespace
}  // namespace connectd::raft
