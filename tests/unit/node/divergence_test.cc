// The comparison of the replicas, between pure objects: who is stopped, by which rule, and which
// index is named.
#include "node/divergence/divergence.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <memory>
#include <set>

#include "base/checksum.h"
#include "base/random.h"

namespace connectd::node {
namespace {

using std::chrono::milliseconds;
using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;

constexpr Duration kInterval = milliseconds(50);
constexpr Duration kPatience = milliseconds(500);

// ---- DigestRing

TEST(DigestRing, KeepsTheLastValuesAndNoMore) {
  DigestRing ring;
  EXPECT_EQ(ring.at(Index(0)), std::nullopt);
  for (uint64_t i = 0; i <= DigestRing::kCapacity + 9; ++i) ring.record(Index(i), i * 3);
  EXPECT_EQ(ring.first(), Index(10));
  EXPECT_EQ(ring.last(), Index(DigestRing::kCapacity + 9));
  EXPECT_EQ(ring.at(Index(9)), std::nullopt);
  EXPECT_EQ(ring.at(Index(10)), 30u);
  EXPECT_EQ(ring.at(ring.last()), ring.last().value() * 3);
  EXPECT_EQ(ring.at(ring.last() + 1), std::nullopt);
  for (uint64_t i = ring.first().value(); i <= ring.last().value(); ++i) {
    ASSERT_EQ(ring.at(Index(i)), i * 3);
  }
}

TEST(DigestRing, BeginsAnewBehindAGap) {
  DigestRing ring;
  for (uint64_t i = 0; i <= 20; ++i) ring.record(Index(i), i);
  ring.record(Index(20), 20);  // a snapshot of known entries
  EXPECT_EQ(ring.first(), Index(0));
  ring.record(Index(100), 7);
  EXPECT_EQ(ring.first(), Index(100));
  EXPECT_EQ(ring.at(Index(20)), std::nullopt);
  EXPECT_EQ(ring.at(Index(100)), 7u);
  ring.record(Index(100), 8);  // another state at the same index
  EXPECT_EQ(ring.at(Index(100)), 8u);
}

// ---- a fleet

// Nodes that apply the same log. What one answers wrongly, and where, is up to the test.
class Fleet {
 public:
  explicit Fleet(uint64_t size, uint64_t learners = 0) {
    for (uint64_t id = 1; id <= size + learners; ++id) {
      (id <= size ? conf.voters : conf.learners).push_back(NodeId(id));
      start(NodeId(id), Index(0));
    }
    lead(NodeId(1));
  }

  struct Replica {
    std::unique_ptr<Divergence> divergence;
    bool up = true;
    Index applied;
    uint64_t digest = 0;
    std::map<Index, uint64_t> wrong;  // which other answer, at which index
    std::map<Index, uint64_t> wrong_state;
    std::optional<Error> stopped;
    std::vector<std::string> errors;
  };

  uint64_t chain(const Replica& replica, uint64_t digest, Index index) {
    auto found = replica.wrong.find(index);
    uint64_t block[3] = {digest, index.value(), found == replica.wrong.end() ? 0 : found->second};
    return checksum64({reinterpret_cast<const uint8_t*>(block), sizeof block});
  }

  // A process starts with the state of a snapshot at `index`, of its own chain.
  void start(NodeId id, Index index, bool seen = true) {
    Replica& replica = at(id);
    replica.up = true;
    replica.stopped.reset();
    replica.applied = Index(0);
    replica.digest = 0;
    while (replica.applied < index) {
      ++replica.applied;
      replica.digest = chain(replica, replica.digest, replica.applied);
    }
    Divergence::Options options{id, ++incarnations, kInterval, "tape 1.0.0", builds[id]};
    replica.divergence = std::make_unique<Divergence>(options, replica.applied, replica.digest);
    if (seen) connection_changed(id);
  }
  void connection_changed(NodeId id) {
    for (auto& [other, replica] : replicas) {
      if (other == id || !replica.divergence) continue;
      replica.divergence->peer_changed(id);
      if (at(id).divergence) at(id).divergence->peer_changed(other);
    }
  }
  void crash(NodeId id) {
    at(id).up = false;
    connection_changed(id);
  }
  void lead(NodeId id) {
    leader = id;
    ++term;
  }

  Duration patience = kPatience;
  Replica& at(NodeId id) { return replicas[id]; }
  Divergence& operator[](uint64_t id) { return *at(NodeId(id)).divergence; }

  void apply_one(NodeId id) {
    Replica& replica = at(id);
    ++replica.applied;
    replica.digest = chain(replica, replica.digest, replica.applied);
    replica.divergence->applied(replica.applied, replica.digest);
  }
  // All that are up apply the log up to here.
  void apply_to(uint64_t index) {
    committed = std::max(committed, Index(index));
    for (auto& [id, replica] : replicas) {
      while (replica.up && !replica.stopped && replica.applied < Index(index)) apply_one(id);
    }
  }
  void install(NodeId id, NodeId from) {
    Replica& replica = at(id);
    replica.applied = at(from).applied;
    replica.digest = at(from).digest;
    replica.divergence->applied(replica.applied, replica.digest);
  }
  // A compare entry at the next index.
  void compare() {
    Index index = committed + 1;
    if (late) at(late).divergence->state_hashing(index);
    apply_to(index.value());
    for (auto& [id, replica] : replicas) {
      if (!replica.up || replica.stopped) continue;
      if (id == late) {
        late_hash = {index, hash_of(replica, index)};
      } else {
        replica.divergence->state_hashed(index, hash_of(replica, index));
      }
    }
  }
  uint64_t hash_of(const Replica& replica, Index index) const {
    auto wrong = replica.wrong_state.upper_bound(index);
    uint64_t other = wrong == replica.wrong_state.begin() ? 0 : std::prev(wrong)->second;
    return index.value() * 1000 + other;
  }
  void hash_the_late() { at(late).divergence->state_hash_done(late_hash.first, late_hash.second); }

  // One turn of everybody, and what they send is there at the next.
  void turn(Duration passed = milliseconds(5)) {
    now += passed;
    auto arrived = std::exchange(under_way, {});
    for (auto& [from, to, message] : arrived) {
      if (!at(to).up || at(to).stopped || !at(from).up || random.chance(loss_percent)) continue;
      ++delivered;
      if (auto* report = std::get_if<wire::DigestReport>(&message)) {
        at(to).divergence->on_message(from, *report);
      } else if (auto* query = std::get_if<wire::DigestQuery>(&message)) {
        at(to).divergence->on_message(from, *query);
      } else {
        at(to).divergence->on_message(from, std::get<wire::DivergenceVerdict>(message));
      }
    }
    for (auto& [id, replica] : replicas) {
      if (!replica.up || replica.stopped) continue;
      Effects effects;
      replica.divergence->advance({id == leader, leader, term, &conf, patience}, now, effects);
      for (auto& [to, message] : effects.messages) under_way.push_back({id, to, message});
      for (auto& [part, text] : effects.errors) replica.errors.push_back(text);
      if (effects.stop) {
        replica.stopped = effects.stop;
        under_way.erase(std::remove_if(under_way.begin(), under_way.end(),
                                       [&](const auto& flight) { return flight.from == id; }),
                        under_way.end());
      }
    }
    for (auto& [id, replica] : replicas) {
      if (replica.stopped && replica.up) {
        stops.push_back(id);
        crash(id);
      }
    }
  }
  void turns(int count) {
    for (int i = 0; i < count; ++i) turn();
  }
  template <class Condition>
  bool until(Condition condition, int limit = 2000) {
    for (int i = 0; i < limit && !condition(); ++i) turn();
    return condition();
  }

  struct Flight {
    NodeId from;
    NodeId to;
    wire::PeerMessage message;
  };
  std::map<NodeId, Replica> replicas;
  std::map<NodeId, uint64_t> builds;
  raft::ConfState conf;
  NodeId leader;
  NodeId late;  // it hashes its state while it applies
  std::pair<Index, uint64_t> late_hash;
  Term term;
  Index committed;
  Time now{};
  uint64_t incarnations = 0;
  std::vector<Flight> under_way;
  std::vector<NodeId> stops;
  uint64_t delivered = 0;
  double loss_percent = 0;
  Random random{7};
};

std::string exactly(uint64_t index) {
  return fmt::format("the first different answer is at index {} ", index);
}

// ---- replies

TEST(Divergence, EqualReplicasAreLeftAloneAndTalkOnceAnInterval) {
  Fleet fleet(5);
  for (uint64_t index = 1; index <= 1000; ++index) {
    fleet.apply_to(index);
    fleet.turn(milliseconds(1));
    ASSERT_EQ(fleet[1].writes(), Divergence::Writes::kTaken);
  }
  // Four followers, twenty intervals and the first report.
  EXPECT_LE(fleet.delivered, 4u * 21);
  EXPECT_GE(fleet.delivered, 4u * 19);
  fleet.turns(100);
  uint64_t idle = fleet.delivered;
  fleet.turns(100);
  EXPECT_EQ(fleet.delivered, idle) << "nothing is applied, and something is said";
  EXPECT_THAT(fleet.stops, IsEmpty());
}

TEST(Divergence, WrongFollowerIsStoppedAndItsFirstDifferenceNamed) {
  for (uint64_t size : {3, 5}) {
    for (uint64_t wrong : {1, 2, 3, 16, 17, 255, 1000, 1999, 2000}) {
      Fleet fleet(size);
      fleet.at(NodeId(2)).wrong[Index(wrong)] = 9;
      // In uneven steps, so that the mismatch is seen at one index and was made at another.
      for (uint64_t index = 0; index < 2000;) {
        index = std::min<uint64_t>(2000, index + 1 + fleet.random.below(400));
        fleet.apply_to(index);
        fleet.turn();
      }
      ASSERT_TRUE(fleet.until([&] { return !fleet.stops.empty(); })) << size << " " << wrong;
      fleet.turns(100);
      EXPECT_THAT(fleet.stops, ElementsAre(NodeId(2)));
      const Error& error = *fleet.at(NodeId(2)).stopped;
      EXPECT_EQ(error.kind, ErrorKind::kDiverged);
      EXPECT_THAT(error.text, HasSubstr(exactly(wrong)));
      EXPECT_THAT(error.text, HasSubstr("plugin tape 1.0.0"));
      std::string mine = fmt::format("{:016x}", *fleet[2].digest_at(Index(wrong)));
      std::string other = fmt::format("{:016x}", *fleet[1].digest_at(Index(wrong)));
      EXPECT_THAT(error.text, HasSubstr("digest " + mine + " here, " + other + " there"));
      EXPECT_THAT(fleet.at(NodeId(1)).errors,
                  ElementsAre(AllOf(HasSubstr("node 2 has diverged"), HasSubstr(exactly(wrong)),
                                    HasSubstr(mine), HasSubstr(other))));
      EXPECT_EQ(fleet[1].writes(), Divergence::Writes::kTaken);
    }
  }
}

TEST(Divergence, WritesWaitForTheVerdict) {
  Fleet fleet(3);
  fleet.at(NodeId(2)).wrong[Index(30)] = 9;
  fleet.apply_to(40);
  bool held = false;
  ASSERT_TRUE(fleet.until([&] {
    held |= fleet[1].writes() == Divergence::Writes::kHeld;
    EXPECT_NE(fleet[1].writes(), Divergence::Writes::kRefused);
    return !fleet.stops.empty();
  }));
  EXPECT_EQ(fleet[1].writes(), Divergence::Writes::kTaken);
  // Node 3 had reported the same index as node 2: its vote was there already.
  EXPECT_FALSE(held);

  Fleet apart(3);
  apart.at(NodeId(2)).wrong[Index(30)] = 9;
  apart.loss_percent = 0;
  apart.apply_to(20);
  apart.turns(3);
  apart.crash(NodeId(3));
  apart.apply_to(40);
  ASSERT_TRUE(apart.until([&] { return apart[1].writes() == Divergence::Writes::kHeld; }));
}

TEST(Divergence, WrongLeaderStopsItself) {
  for (uint64_t size : {3, 5}) {
    for (uint64_t wrong : {1, 17, 500}) {
      Fleet fleet(size);
      fleet.at(NodeId(1)).wrong[Index(wrong)] = 9;
      fleet.apply_to(500);
      ASSERT_TRUE(fleet.until([&] { return !fleet.stops.empty(); }));
      EXPECT_THAT(fleet.stops, ElementsAre(NodeId(1)));
      EXPECT_EQ(fleet.at(NodeId(1)).stopped->kind, ErrorKind::kDiverged);
      EXPECT_THAT(fleet.at(NodeId(1)).stopped->text, HasSubstr(exactly(wrong)));
      fleet.lead(NodeId(2));
      fleet.apply_to(600);
      fleet.turns(100);
      EXPECT_EQ(fleet.stops.size(), 1u);
      EXPECT_EQ(fleet[2].writes(), Divergence::Writes::kTaken);
    }
  }
}

TEST(Divergence, TwoWrongOfFiveAreEachStoppedAtTheirOwnIndex) {
  for (bool same : {true, false}) {
    Fleet fleet(5);
    fleet.at(NodeId(3)).wrong[Index(50)] = 9;
    fleet.at(NodeId(5)).wrong[Index(same ? 50 : 700)] = 9;
    for (uint64_t index = 1; index <= 1000; index += 37) {
      fleet.apply_to(index);
      fleet.turn();
    }
    ASSERT_TRUE(fleet.until([&] { return fleet.stops.size() == 2; }));
    EXPECT_THAT(fleet.at(NodeId(3)).stopped->text, HasSubstr(exactly(50)));
    EXPECT_THAT(fleet.at(NodeId(5)).stopped->text, HasSubstr(exactly(same ? 50 : 700)));
    fleet.turns(100);
    EXPECT_EQ(fleet.stops.size(), 2u);
    EXPECT_EQ(fleet[1].writes(), Divergence::Writes::kTaken);
  }
}

TEST(Divergence, WrongLeaderAndFollowerOfFiveStopInTurn) {
  Fleet fleet(5);
  fleet.at(NodeId(1)).wrong[Index(50)] = 1;
  fleet.at(NodeId(4)).wrong[Index(70)] = 2;
  fleet.apply_to(300);
  ASSERT_TRUE(fleet.until([&] { return fleet.stops.size() == 1; }));
  EXPECT_THAT(fleet.stops, ElementsAre(NodeId(1)));
  EXPECT_THAT(fleet.at(NodeId(1)).stopped->text, HasSubstr(exactly(50)));
  fleet.lead(NodeId(2));
  ASSERT_TRUE(fleet.until([&] { return fleet.stops.size() == 2; }));
  EXPECT_THAT(fleet.stops, ElementsAre(NodeId(1), NodeId(4)));
  EXPECT_THAT(fleet.at(NodeId(4)).stopped->text, HasSubstr(exactly(70)));
  fleet.turns(50);
  EXPECT_EQ(fleet[2].writes(), Divergence::Writes::kTaken);
}

TEST(Divergence, NoMajorityRejectsWritesStopsNobody) {
  for (uint64_t size : {2, 3, 4}) {
    Fleet fleet(size);
    for (uint64_t id = 2; id <= size; ++id) {
      // Of four: two against two.
      if (size == 4 && id == 2) continue;
      fleet.at(NodeId(id)).wrong[Index(60)] = size == 4 ? 1 : id;
    }
    fleet.apply_to(100);
    ASSERT_TRUE(fleet.until([&] { return fleet[1].writes() == Divergence::Writes::kRefused; }))
        << size;
    fleet.turns(100);
    EXPECT_THAT(fleet.stops, IsEmpty());
    for (uint64_t id = 1; id <= size; ++id) {
      EXPECT_EQ(fleet[id].writes(), Divergence::Writes::kRefused) << id;
      EXPECT_THAT(fleet[id].reason(), AllOf(HasSubstr("no majority"), HasSubstr(exactly(60))));
    }
    EXPECT_THAT(fleet.at(NodeId(1)).errors.back(),
                AllOf(HasSubstr("writes are rejected"), HasSubstr(exactly(60))));
    EXPECT_EQ(fleet.at(NodeId(1)).errors.size(), 1u) << "said once, not each turn";
  }
}

// The cluster's election timeout is changed while it runs.
TEST(Divergence, PatienceIsTheOneOfTheTurn) {
  for (Duration patience : {kPatience / 5, 3 * kPatience}) {
    Fleet fleet(3);
    fleet.at(NodeId(2)).wrong[Index(60)] = 9;
    fleet.apply_to(50);
    fleet.turns(3);
    fleet.crash(NodeId(3));
    fleet.apply_to(100);
    ASSERT_TRUE(fleet.until([&] { return fleet[1].writes() == Divergence::Writes::kHeld; }));
    const Time held = fleet.now;
    fleet.patience = patience;
    ASSERT_TRUE(fleet.until([&] { return fleet[1].writes() == Divergence::Writes::kRefused; }));
    EXPECT_GE(fleet.now - held, patience - milliseconds(10));
    EXPECT_LE(fleet.now - held, patience + milliseconds(10));
  }
}

TEST(Divergence, MissingThirdVoterDecidesWhenItIsBack) {
  for (uint64_t wrong : {1, 2}) {
    Fleet fleet(3);
    fleet.at(NodeId(wrong)).wrong[Index(60)] = 9;
    fleet.apply_to(50);
    fleet.turns(3);
    fleet.crash(NodeId(3));
    fleet.apply_to(100);
    ASSERT_TRUE(fleet.until([&] { return fleet[1].writes() == Divergence::Writes::kHeld; }));
    Time held = fleet.now;
    ASSERT_TRUE(fleet.until([&] { return fleet[1].writes() == Divergence::Writes::kRefused; }));
    EXPECT_GE(fleet.now - held, kPatience - milliseconds(10));
    fleet.turns(200);
    EXPECT_THAT(fleet.stops, IsEmpty());
    fleet.start(NodeId(3), Index(20));
    fleet.turns(20);
    EXPECT_EQ(fleet[1].writes(), Divergence::Writes::kRefused) << "it has not applied so far";
    fleet.apply_to(100);
    ASSERT_TRUE(fleet.until([&] { return !fleet.stops.empty(); }));
    EXPECT_THAT(fleet.stops, ElementsAre(NodeId(wrong)));
    EXPECT_THAT(fleet.at(NodeId(wrong)).stopped->text, HasSubstr(exactly(60)));
    if (wrong == 2) {
      EXPECT_EQ(fleet[1].writes(), Divergence::Writes::kTaken);
      ASSERT_TRUE(fleet.until([&] { return fleet[3].writes() == Divergence::Writes::kTaken; }));
    }
  }
}

TEST(Divergence, CaseIsNotForgottenWhenTheOtherSideGoesAway) {
  Fleet fleet(2);
  fleet.at(NodeId(2)).wrong[Index(60)] = 9;
  fleet.apply_to(100);
  ASSERT_TRUE(fleet.until([&] { return fleet[1].writes() == Divergence::Writes::kRefused; }));
  fleet.crash(NodeId(2));
  fleet.turns(200);
  EXPECT_EQ(fleet[1].writes(), Divergence::Writes::kRefused);
  // It returns with the same state, and then with a correct one: that ends the case.
  fleet.start(NodeId(2), Index(100));
  fleet.turns(200);
  EXPECT_EQ(fleet[1].writes(), Divergence::Writes::kRefused);
  fleet.crash(NodeId(2));
  fleet.at(NodeId(2)).wrong.clear();
  fleet.start(NodeId(2), Index(10));
  fleet.apply_to(100);
  ASSERT_TRUE(fleet.until([&] { return fleet[1].writes() == Divergence::Writes::kTaken; }));
  ASSERT_TRUE(fleet.until([&] { return fleet[2].writes() == Divergence::Writes::kTaken; }));
  EXPECT_THAT(fleet[1].reason(), IsEmpty());
  EXPECT_THAT(fleet.stops, IsEmpty());
}

TEST(Divergence, AnswersFromBeforeARestartDoNotCount) {
  Fleet fleet(3);
  fleet.apply_to(100);
  fleet.turns(20);
  // It returns so quickly that no connection is seen to break, and its state is wrong this time.
  fleet.at(NodeId(2)).wrong[Index(60)] = 9;
  fleet.start(NodeId(2), Index(10), false);
  fleet.apply_to(200);
  ASSERT_TRUE(fleet.until([&] { return !fleet.stops.empty(); }));
  EXPECT_THAT(fleet.stops, ElementsAre(NodeId(2)));
  EXPECT_THAT(fleet.at(NodeId(2)).stopped->text, HasSubstr(exactly(60)));
}

TEST(Divergence, DifferenceOlderThanTheRingsIsNamedAsAnInterval) {
  {  // The wrong node starts from a snapshot that has the difference in it.
    Fleet fleet(3);
    fleet.at(NodeId(2)).wrong[Index(60)] = 9;
    fleet.start(NodeId(2), Index(80));
    fleet.apply_to(100);
    ASSERT_TRUE(fleet.until([&] { return !fleet.stops.empty(); }));
    EXPECT_THAT(fleet.stops, ElementsAre(NodeId(2)));
    EXPECT_THAT(fleet.at(NodeId(2)).stopped->text, HasSubstr("at or before index 80,"));
  }
  {  // The leader's own values begin later still.
    Fleet fleet(3);
    fleet.at(NodeId(2)).wrong[Index(60)] = 9;
    fleet.start(NodeId(2), Index(80));
    fleet.start(NodeId(1), Index(90));
    fleet.apply_to(100);
    ASSERT_TRUE(fleet.until([&] { return !fleet.stops.empty(); }));
    EXPECT_THAT(fleet.at(NodeId(2)).stopped->text, HasSubstr("at or before index 90,"));
  }
  {  // Equal at 50 it was; then a hole of more than a ring in what the leader hears.
    Fleet fleet(3);
    fleet.at(NodeId(2)).wrong[Index(60)] = 9;
    fleet.apply_to(50);
    fleet.turns(20);
    uint64_t end = 60 + DigestRing::kCapacity + 1000;
    fleet.apply_to(end);
    ASSERT_TRUE(fleet.until([&] { return !fleet.stops.empty(); }));
    EXPECT_THAT(
        fleet.at(NodeId(2)).stopped->text,
        HasSubstr(fmt::format("one of the indexes 51 to {},", end - DigestRing::kCapacity + 1)));
  }
  {  // At the ring's very edge it is found exactly.
    Fleet fleet(3);
    uint64_t end = DigestRing::kCapacity + 1000;
    fleet.at(NodeId(2)).wrong[Index(end - DigestRing::kCapacity + 2)] = 9;
    fleet.apply_to(end);
    ASSERT_TRUE(fleet.until([&] { return !fleet.stops.empty(); }));
    EXPECT_THAT(fleet.at(NodeId(2)).stopped->text,
                HasSubstr(exactly(end - DigestRing::kCapacity + 2)));
  }
}

TEST(Divergence, VotesMoveToAnIndexThatAllHaveStill) {
  Fleet fleet(3);
  fleet.at(NodeId(2)).wrong[Index(60)] = 9;
  fleet.apply_to(70);
  fleet.crash(NodeId(3));
  ASSERT_TRUE(fleet.until([&] { return fleet[1].writes() == Divergence::Writes::kRefused; }));
  // Entries that were under way when the case was opened; node 3 comes back behind the case's
  // index.
  fleet.apply_to(90);
  fleet.start(NodeId(3), Index(90));
  ASSERT_TRUE(fleet.until([&] { return !fleet.stops.empty(); }));
  EXPECT_THAT(fleet.stops, ElementsAre(NodeId(2)));
  EXPECT_THAT(fleet.at(NodeId(2)).stopped->text, HasSubstr(exactly(60)));
  EXPECT_EQ(fleet[1].writes(), Divergence::Writes::kTaken);
}

TEST(Divergence, NewLeaderStartsAnewAndOldWordsDoNotCount) {
  Fleet fleet(2);
  fleet.at(NodeId(2)).wrong[Index(60)] = 9;
  fleet.apply_to(100);
  ASSERT_TRUE(fleet.until([&] { return fleet[2].writes() == Divergence::Writes::kRefused; }));
  fleet.lead(NodeId(2));
  fleet.turn();
  EXPECT_EQ(fleet[1].writes(), Divergence::Writes::kTaken) << "the former leader's case is over";
  EXPECT_EQ(fleet[2].writes(), Divergence::Writes::kTaken) << "and so is its notice";
  ASSERT_TRUE(fleet.until([&] { return fleet[1].writes() == Divergence::Writes::kRefused; }))
      << "nothing was applied since, and it is found again";
  EXPECT_EQ(fleet[2].writes(), Divergence::Writes::kRefused);
  EXPECT_THAT(fleet[2].reason(), HasSubstr(exactly(60)));

  // A verdict of an earlier term's leader stops nobody.
  wire::DivergenceVerdict verdict;
  verdict.leader_term = fleet.term;
  verdict.index = Index(100);
  verdict.digest = *fleet[1].digest_at(Index(100));
  fleet.lead(NodeId(2));
  fleet.turn();
  fleet[1].on_message(NodeId(2), verdict);
  fleet.turns(2);
  EXPECT_THAT(fleet.stops, IsEmpty());
  verdict.leader_term = fleet.term;
  fleet[1].on_message(NodeId(3), verdict);  // not the leader
  fleet.turns(2);
  EXPECT_THAT(fleet.stops, IsEmpty());
  verdict.digest += 1;  // from before a restart, or of another state
  fleet[1].on_message(NodeId(2), verdict);
  fleet.turns(2);
  EXPECT_THAT(fleet.stops, IsEmpty());
  verdict.digest -= 1;
  fleet[1].on_message(NodeId(2), verdict);
  fleet.turn();
  EXPECT_THAT(fleet.stops, ElementsAre(NodeId(1)));
}

TEST(Divergence, LostMessagesDelayTheVerdictAndDoNotChangeIt) {
  for (uint64_t seed = 1; seed <= 50; ++seed) {
    Fleet fleet(5);
    fleet.random = Random(seed);
    fleet.loss_percent = 50;
    uint64_t wrong = 1 + fleet.random.below(900);
    uint64_t victim = 1 + fleet.random.below(5);
    fleet.at(NodeId(victim)).wrong[Index(wrong)] = 9;
    uint64_t index = 0;
    // Entries are applied now and then: an idle cluster does not repeat lost reports.
    ASSERT_TRUE(fleet.until(
        [&] {
          index += fleet.random.below(20);
          fleet.apply_to(index);
          return !fleet.stops.empty();
        },
        20'000))
        << seed;
    EXPECT_THAT(fleet.stops, ElementsAre(NodeId(victim))) << seed;
    EXPECT_THAT(fleet.at(NodeId(victim)).stopped->text, HasSubstr(exactly(wrong))) << seed;
  }
}

TEST(Divergence, SnapshotThatReplacesTheWrongStateEndsTheMatter) {
  Fleet fleet(3);
  fleet.at(NodeId(2)).wrong[Index(60)] = 9;
  fleet.apply_to(100);
  fleet.turns(2);  // the mismatch is known, the first index is not yet
  EXPECT_THAT(fleet.stops, IsEmpty());
  for (uint64_t id : {1, 3}) {
    while (fleet.at(NodeId(id)).applied < Index(150)) fleet.apply_one(NodeId(id));
  }
  fleet.install(NodeId(2), NodeId(1));
  fleet.turns(400);
  EXPECT_THAT(fleet.stops, IsEmpty());
  EXPECT_EQ(fleet[1].writes(), Divergence::Writes::kTaken);
  fleet.apply_to(200);
  fleet.turns(100);
  EXPECT_THAT(fleet.stops, IsEmpty());
  EXPECT_EQ(fleet[1].writes(), Divergence::Writes::kTaken);
}

TEST(Divergence, LearnerIsStoppedAndHasNoVote) {
  Fleet fleet(2, 2);
  // Both learners have the same wrong value: four nodes, two against two, and only voters count.
  fleet.at(NodeId(3)).wrong[Index(60)] = 9;
  fleet.at(NodeId(4)).wrong[Index(60)] = 9;
  fleet.apply_to(100);
  ASSERT_TRUE(fleet.until([&] { return fleet.stops.size() == 2; }));
  EXPECT_THAT(fleet.stops, ElementsAre(NodeId(3), NodeId(4)));
  EXPECT_EQ(fleet[1].writes(), Divergence::Writes::kTaken);
}

TEST(Divergence, WhileTheMembershipIsJointBothSetsMustAgree) {
  Fleet fleet(5);
  fleet.conf.voters = {NodeId(1), NodeId(2), NodeId(3)};
  fleet.conf.voters_outgoing = {NodeId(1), NodeId(4), NodeId(5)};
  fleet.at(NodeId(4)).wrong[Index(60)] = 9;
  fleet.at(NodeId(5)).wrong[Index(60)] = 9;  // a majority of the outgoing set only
  fleet.apply_to(100);
  ASSERT_TRUE(fleet.until([&] { return fleet[1].writes() == Divergence::Writes::kRefused; }));
  EXPECT_THAT(fleet.stops, IsEmpty());
  fleet.conf.voters_outgoing.clear();
  fleet.conf.learners = {NodeId(4), NodeId(5)};
  ASSERT_TRUE(fleet.until([&] { return fleet.stops.size() == 2; }));
  EXPECT_EQ(fleet[1].writes(), Divergence::Writes::kTaken);
}

// ---- state

TEST(Divergence, WrongStateIsFoundAtTheCompareEntry) {
  for (uint64_t victim : {1, 2, 3}) {
    Fleet fleet(3);
    fleet.at(NodeId(victim)).wrong_state[Index(60)] = 9;
    fleet.apply_to(39);
    fleet.compare();  // at 40
    fleet.turns(20);
    fleet.apply_to(99);
    fleet.turns(20);
    EXPECT_THAT(fleet.stops, IsEmpty()) << "no answer differs";
    fleet.compare();  // at 100
    ASSERT_TRUE(fleet.until([&] { return !fleet.stops.empty(); }));
    EXPECT_THAT(fleet.stops, ElementsAre(NodeId(victim)));
    EXPECT_EQ(fleet.at(NodeId(victim)).stopped->kind, ErrorKind::kDiverged);
    EXPECT_THAT(
        fleet.at(NodeId(victim)).stopped->text,
        HasSubstr("the states differ at index 100, a compare entry, and were equal at index "
                  "40 (digest 00000000000186a9 here, 00000000000186a0 there)"));
    if (victim == 1) fleet.lead(NodeId(2));
    fleet.turns(50);
    EXPECT_EQ(fleet.stops.size(), 1u);
    EXPECT_EQ(fleet[victim == 1 ? 2 : 1].writes(), Divergence::Writes::kTaken);
  }
}

TEST(Divergence, LaterCompareEntryDecidesWithoutMajority) {
  Fleet fleet(3);
  fleet.at(NodeId(2)).wrong_state[Index(60)] = 9;
  fleet.apply_to(99);
  fleet.crash(NodeId(3));
  fleet.compare();
  ASSERT_TRUE(fleet.until([&] { return fleet[1].writes() == Divergence::Writes::kRefused; }));
  EXPECT_THAT(fleet[1].reason(), HasSubstr("the states differ at index 100, a compare entry, or "
                                           "before it"));
  ASSERT_TRUE(fleet.until([&] { return fleet[2].writes() == Divergence::Writes::kRefused; }));
  EXPECT_FALSE(fleet[1].wants_compare()) << "node 3 may still come to index 100";
  // It starts from a snapshot after index 100, so it never hashes its state there.
  fleet.start(NodeId(3), Index(100));
  ASSERT_TRUE(fleet.until([&] { return fleet[1].wants_compare(); }));
  EXPECT_EQ(fleet[1].writes(), Divergence::Writes::kRefused);
  fleet.compare();  // at 101
  ASSERT_TRUE(fleet.until([&] { return !fleet.stops.empty(); }));
  EXPECT_THAT(fleet.stops, ElementsAre(NodeId(2)));
  EXPECT_EQ(fleet[1].writes(), Divergence::Writes::kTaken);
  EXPECT_FALSE(fleet[1].wants_compare());
}

// Hashes that are made while entries are applied come late: on the leader or on a follower, before
// the other's or after it. A node that is still hashing has not passed the compare entry.
TEST(Divergence, HashThatComesLateIsComparedAllTheSame) {
  for (uint64_t victim : {1, 2, 3}) {
    for (uint64_t late : {1, 2, 3}) {
      Fleet fleet(3);
      fleet.late = NodeId(late);
      fleet.at(NodeId(victim)).wrong_state[Index(60)] = 9;
      fleet.apply_to(99);
      fleet.compare();  // at 100
      for (uint64_t index = 101; index < 160; ++index) {
        fleet.apply_to(index);
        fleet.turns(1);
      }
      if (late != victim && late != 1 && victim != 1) {
        EXPECT_THAT(fleet.stops, IsEmpty()) << "two of three, and they differ";
      }
      fleet.hash_the_late();
      ASSERT_TRUE(fleet.until([&] { return !fleet.stops.empty(); })) << victim << " " << late;
      EXPECT_THAT(fleet.stops, ElementsAre(NodeId(victim)));
    }
  }
}

TEST(Divergence, WithoutAHashThatFailedTheNextCompareEntryDecides) {
  Fleet fleet(3);
  fleet.late = NodeId(3);
  fleet.at(NodeId(2)).wrong_state[Index(60)] = 9;
  fleet.apply_to(99);
  fleet.compare();  // at 100
  fleet.turns(50);
  EXPECT_FALSE(fleet[1].wants_compare()) << "it may still come";
  fleet[3].state_hash_done(Index(100), std::nullopt);
  ASSERT_TRUE(fleet.until([&] { return fleet[1].wants_compare(); }));
  EXPECT_THAT(fleet.stops, IsEmpty());
  fleet.late = NodeId();
  fleet.compare();
  ASSERT_TRUE(fleet.until([&] { return !fleet.stops.empty(); }));
  EXPECT_THAT(fleet.stops, ElementsAre(NodeId(2)));
}

TEST(Divergence, LateHashOfAStateThatWasReplacedIsDropped) {
  Fleet fleet(3);
  fleet.late = NodeId(2);
  fleet.at(NodeId(2)).wrong_state[Index(60)] = 9;
  fleet.apply_to(99);
  fleet.compare();  // at 100
  while (fleet.at(NodeId(1)).applied < Index(120)) fleet.apply_one(NodeId(1));
  fleet.install(NodeId(2), NodeId(1));
  fleet.hash_the_late();
  fleet.turns(100);
  EXPECT_THAT(fleet.stops, IsEmpty());
}

TEST(Divergence, StateThatASnapshotReplacedIsForgotten) {
  Fleet fleet(3);
  fleet.at(NodeId(2)).wrong_state[Index(60)] = 9;
  fleet.apply_to(99);
  fleet.crash(NodeId(3));
  fleet.compare();
  ASSERT_TRUE(fleet.until([&] { return fleet[1].writes() == Divergence::Writes::kRefused; }));
  size_t said = fleet.at(NodeId(1)).errors.size();
  while (fleet.at(NodeId(1)).applied < Index(110)) fleet.apply_one(NodeId(1));
  fleet.install(NodeId(2), NodeId(1));
  fleet.at(NodeId(2)).wrong_state.clear();
  fleet.committed = Index(110);
  fleet.compare();
  ASSERT_TRUE(fleet.until([&] { return fleet[1].writes() == Divergence::Writes::kTaken; }));
  fleet.turns(100);
  EXPECT_THAT(fleet.stops, IsEmpty());
  EXPECT_EQ(fleet.at(NodeId(1)).errors.size(), said) << fleet.at(NodeId(1)).errors.back();
}

TEST(Divergence, StatesThatBecameEqualAgainEndTheMatter) {
  Fleet fleet(3);
  fleet.at(NodeId(2)).wrong_state[Index(60)] = 9;
  fleet.at(NodeId(2)).wrong_state[Index(101)] = 0;  // what differed was deleted
  fleet.apply_to(99);
  fleet.crash(NodeId(3));
  fleet.compare();
  ASSERT_TRUE(fleet.until([&] { return fleet[1].writes() == Divergence::Writes::kRefused; }));
  size_t said = fleet.at(NodeId(1)).errors.size();
  fleet.compare();
  ASSERT_TRUE(fleet.until([&] { return fleet[1].writes() == Divergence::Writes::kTaken; }));
  fleet.turns(100);
  EXPECT_THAT(fleet.stops, IsEmpty());
  EXPECT_EQ(fleet.at(NodeId(1)).errors.size(), said) << fleet.at(NodeId(1)).errors.back();
}

TEST(Divergence, StatesOfDifferentBuildsAreNotCompared) {
  Fleet fleet(3);
  fleet.builds[NodeId(2)] = 77;
  fleet.start(NodeId(2), Index(0));
  fleet.at(NodeId(2)).wrong_state[Index(1)] = 9;
  fleet.apply_to(99);
  fleet.compare();
  fleet.turns(100);
  EXPECT_THAT(fleet.stops, IsEmpty());
  EXPECT_EQ(fleet[1].writes(), Divergence::Writes::kTaken);
}

TEST(Divergence, NewLeaderLearnsTheNewestStatesAgain) {
  Fleet fleet(3);
  fleet.at(NodeId(3)).wrong_state[Index(60)] = 9;
  fleet.loss_percent = 100;
  fleet.apply_to(99);
  fleet.compare();
  fleet.turns(50);
  EXPECT_THAT(fleet.stops, IsEmpty());
  fleet.loss_percent = 0;
  fleet.lead(NodeId(2));
  ASSERT_TRUE(fleet.until([&] { return !fleet.stops.empty(); }));
  EXPECT_THAT(fleet.stops, ElementsAre(NodeId(3)));
}

// ---- whatever a peer says

TEST(Divergence, NonsenseStopsNobodyAndCostsLittle) {
  for (uint64_t seed = 1; seed <= 20; ++seed) {
    Fleet fleet(5);
    fleet.apply_to(200);
    fleet.compare();
    Random random(seed);
    auto index = [&] {
      return random.chance(50) ? Index(random.below(300)) : Index(random.next());
    };
    auto compared = [&] {
      return random.chance(50) ? wire::Compared::kReplies : wire::Compared::kState;
    };
    for (int i = 0; i < 3000; ++i) {
      NodeId from(random.below(8));
      NodeId to(1 + random.below(5));
      Term term = random.chance(90) ? fleet.term : Term(random.below(9));
      Divergence& target = *fleet.at(to).divergence;
      switch (random.below(3)) {
        case 0: {
          wire::DigestReport report{term,    compared(),    random.chance(70), random.below(3), 0,
                                    index(), random.next(), index(),           index()};
          if (auto known = fleet[1].digest_at(report.index); known && random.chance(30)) {
            report.digest = *known;
          }
          target.on_message(from, report);
          break;
        }
        case 1:
          target.on_message(from, wire::DigestQuery{term, compared(), index()});
          break;
        default: {
          wire::DivergenceVerdict verdict;
          verdict.leader_term = term;
          verdict.compared = compared();
          verdict.kind = random.chance(50) ? wire::DivergenceVerdict::Kind::kStop
                                           : wire::DivergenceVerdict::Kind::kNoMajority;
          verdict.index = index();
          verdict.digest = random.next();
          target.on_message(from, verdict);
        }
      }
      if (random.chance(30)) {
        fleet.turn();
        ASSERT_LT(fleet.under_way.size(), 200u);
      }
    }
    EXPECT_THAT(fleet.stops, Not(testing::Contains(NodeId(0))));
    // A lie can make a node look wrong; it can not make an honest one believe that it is.
    EXPECT_THAT(fleet.stops, testing::Each(NodeId(1)));
  }
}

}  // namespace
}  // namespace connectd::node
