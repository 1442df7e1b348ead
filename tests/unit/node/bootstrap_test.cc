// How a cluster forms, event by event, and when it must not.
#include "node/membership/bootstrap.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>

#include "base/checksum.h"
#include "base/log_event.h"

namespace connectd::node {
namespace {

using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;
using Mode = Bootstrap::Mode;

DiskId disk(uint64_t node, uint8_t life = 0) {
  DiskId id;
  id.bytes[0] = static_cast<uint8_t>(node);
  id.bytes[1] = life;
  return id;
}
ClusterId cluster(uint8_t n) {
  ClusterId id;
  id.bytes[0] = n;
  return id;
}

Bootstrap::Options options(uint64_t id, Mode mode = Mode::kAuto) {
  Bootstrap::Options options;
  options.mode = mode;
  options.id = NodeId(id);
  options.disk_id = disk(id);
  options.fresh_cluster_id = cluster(static_cast<uint8_t>(id));
  options.cluster_name = "demo";
  for (uint64_t member = 1; member <= 3; ++member) {
    options.members.push_back({NodeId(member), DiskId(), fmt::format("h{}:7101", member),
                               fmt::format("h{}:7201", member), fmt::format("h{}:7301", member)});
  }
  options.max_request = 4096;
  options.plugin_name = "counter";
  options.plugin_level_min = 1;
  options.plugin_level_max = 4;
  options.plugin_options = {{"start", "5"}};
  return options;
}

wire::Hello hello(uint64_t id, uint32_t level_min = 1, uint32_t level_max = 4) {
  wire::Hello hello;
  hello.node_id = NodeId(id);
  hello.disk_id = disk(id);
  hello.cluster_name = "demo";
  hello.plugin_name = "counter";
  hello.plugin_level_min = level_min;
  hello.plugin_level_max = level_max;
  return hello;
}

using Messages = std::vector<std::pair<NodeId, wire::PeerMessage>>;

Messages answers_to(Bootstrap& bootstrap, uint64_t from, const wire::PeerMessage& message) {
  Effects out;
  (void)bootstrap.message(NodeId(from), message, out);
  return std::move(out.messages);
}

Messages offers_of(Bootstrap& bootstrap, const std::vector<GenesisMember>& members) {
  Effects out;
  bootstrap.offer(members, out);
  return std::move(out.messages);
}

// To the members of its own document.
Messages offers_of(Bootstrap& bootstrap) {
  return offers_of(
      bootstrap, bootstrap.decided() ? bootstrap.decided()->members : std::vector<GenesisMember>());
}

// Node 1 with all three connected, its document drawn and durable.
struct Founder {
  Founder() : bootstrap(options(1)) {
    bootstrap.peer_reached(NodeId(2), hello(2));
    bootstrap.peer_reached(NodeId(3), hello(3));
    bootstrap.advance();
    bootstrap.durable();
  }
  wire::PeerMessage offer_to(uint64_t id) {
    for (auto& [to, message] : offers_of(bootstrap)) {
      if (to == NodeId(id)) return std::move(message);
    }
    ADD_FAILURE() << "no offer to node " << id;
    return wire::GenesisOffer{};
  }
  Bootstrap bootstrap;
};

wire::GenesisOffer offer_of(const Genesis& genesis) { return {genesis.encode()}; }

TEST(Bootstrap, LowestIdDrawsOnceAllHaveAnsweredEmpty) {
  Bootstrap first(options(1));
  first.advance();
  EXPECT_FALSE(first.decided());
  EXPECT_EQ(first.waiting_for(),
            "the cluster forms when all members answer: waiting for node 2 (h2:7101), node 3 "
            "(h3:7101)");
  first.peer_reached(NodeId(2), hello(2));
  first.advance();
  EXPECT_FALSE(first.decided());
  EXPECT_THAT(first.waiting_for(), HasSubstr("waiting for node 3 (h3:7101)"));
  first.peer_reached(NodeId(3), hello(3));
  first.peer_lost(NodeId(2));
  first.advance();
  EXPECT_FALSE(first.decided()) << "node 2 had answered, and is not there any more";
  first.peer_reached(NodeId(2), hello(2));
  first.advance();
  ASSERT_TRUE(first.decided());
  const Genesis& genesis = *first.decided();
  EXPECT_EQ(genesis.cluster_id, cluster(1));
  EXPECT_EQ(genesis.cluster_name, "demo");
  EXPECT_EQ(genesis.max_request, 4096u);
  EXPECT_EQ(genesis.plugin_options, (std::map<std::string, std::string>{{"start", "5"}}));
  ASSERT_EQ(genesis.members.size(), 3u);
  for (const GenesisMember& member : genesis.members) {
    EXPECT_EQ(member.disk_id, disk(member.id.value()));
  }
  EXPECT_EQ(first.waiting_for(), "");
}

TEST(Bootstrap, NobodyElseDraws) {
  Bootstrap second(options(2));
  second.peer_reached(NodeId(1), hello(1));
  second.peer_reached(NodeId(3), hello(3));
  second.advance();
  EXPECT_FALSE(second.decided());
  EXPECT_EQ(second.waiting_for(), "waiting for the genesis from node 1");
}

TEST(Bootstrap, NothingIsOfferedBeforeItIsDurable) {
  Bootstrap first(options(1));
  first.peer_reached(NodeId(2), hello(2));
  first.peer_reached(NodeId(3), hello(3));
  first.advance();
  EXPECT_THAT(offers_of(first), IsEmpty());
  first.durable();
  EXPECT_EQ(offers_of(first).size(), 2u);
}

TEST(Bootstrap, OffersUntilEachHasAccepted) {
  Founder founder;
  Bootstrap second(options(2));
  for (int lost = 0; lost < 3; ++lost) founder.offer_to(2);
  for (int offered = 0; offered < 2; ++offered) {
    EXPECT_THAT(answers_to(second, 1, founder.offer_to(2)), IsEmpty())
        << "accepted before it is durable";
    ASSERT_TRUE(second.decided());
    EXPECT_EQ(*second.decided(), *founder.bootstrap.decided());
  }
  second.durable();
  const auto answers = answers_to(second, 1, founder.offer_to(2));
  ASSERT_EQ(answers.size(), 1u);
  EXPECT_EQ(answers[0].first, NodeId(1));
  // An acceptance of something else does not count.
  answers_to(founder.bootstrap, 2, wire::GenesisAccepted{12345});
  founder.offer_to(2);
  answers_to(founder.bootstrap, 2, answers[0].second);
  const auto offers = offers_of(founder.bootstrap);
  ASSERT_EQ(offers.size(), 1u);
  EXPECT_EQ(offers[0].first, NodeId(3));
}

TEST(Bootstrap, AnyFounderOffersToThoseThatMissedIt) {
  Founder founder;
  Bootstrap second(options(2));
  second.resume(*founder.bootstrap.decided());  // restarted; node 1 never returns
  EXPECT_TRUE(second.is_durable());
  second.peer_reached(NodeId(3), hello(3));
  const auto offers = offers_of(second);
  ASSERT_EQ(offers.size(), 1u);
  Bootstrap third(options(3));
  answers_to(third, 2, offers[0].second);
  ASSERT_TRUE(third.decided());
  EXPECT_EQ(*third.decided(), *founder.bootstrap.decided());
}

TEST(Bootstrap, MemberWithClusterOrOtherDiskGetsNoGenesis) {
  Founder founder;
  Bootstrap second(options(2));
  second.resume(*founder.bootstrap.decided());
  wire::Hello formed = hello(1);
  formed.cluster_id = cluster(1);
  second.peer_reached(NodeId(1), formed);
  wire::Hello wiped = hello(3);
  wiped.disk_id = disk(3, 1);
  second.peer_reached(NodeId(3), wiped);
  EXPECT_THAT(offers_of(second), IsEmpty());
  second.peer_reached(NodeId(3), hello(3));
  second.peer_lost(NodeId(3));
  EXPECT_THAT(offers_of(second), IsEmpty());
}

TEST(Bootstrap, OneDocumentForEver) {
  Founder founder;
  Bootstrap second(options(2));
  answers_to(second, 1, founder.offer_to(2));
  Genesis accepted = *second.decided();
  Genesis other = accepted;
  other.cluster_id = cluster(9);
  answers_to(second, 3, offer_of(other));
  EXPECT_EQ(*second.decided(), accepted);
  second.durable();
  EXPECT_THAT(answers_to(second, 3, offer_of(other)), IsEmpty());
  EXPECT_EQ(*second.decided(), accepted);
}

TEST(Bootstrap, DrawnDocumentIsNotReplacedByAnOffer) {
  Founder founder;
  Genesis mine = *founder.bootstrap.decided();
  Genesis other = mine;
  other.cluster_id = cluster(9);
  answers_to(founder.bootstrap, 2, offer_of(other));
  EXPECT_EQ(*founder.bootstrap.decided(), mine);
}

// A node that was added later, or came back with an empty disk and was let in: the one who offers
// belongs to the cluster already.
TEST(Bootstrap, NonFounderJoinsRunningCluster) {
  Founder founder;
  Genesis genesis = *founder.bootstrap.decided();
  genesis.members[1].disk_id = disk(2, 1);
  for (Mode mode : {Mode::kAuto, Mode::kJoin}) {
    Bootstrap joiner(options(2, mode));
    wire::Hello stranger = hello(1);
    joiner.peer_reached(NodeId(1), stranger);
    answers_to(joiner, 1, offer_of(genesis));
    EXPECT_FALSE(joiner.decided());
    stranger.cluster_id = genesis.cluster_id;
    joiner.peer_reached(NodeId(1), stranger);
    answers_to(joiner, 1, offer_of(genesis));
    ASSERT_TRUE(joiner.decided());
    EXPECT_EQ(*joiner.decided(), genesis);
  }
  // The genesis is offered to every member without one, if its disk matches or is not known.
  GenesisMember fresh;
  fresh.id = NodeId(4);
  founder.bootstrap.durable();
  founder.bootstrap.peer_reached(NodeId(4), hello(4));
  EXPECT_EQ(offers_of(founder.bootstrap, {fresh}).size(), 1u);
  fresh.disk_id = disk(4, 9);
  EXPECT_THAT(offers_of(founder.bootstrap, {fresh}), IsEmpty());
}

// The genesis does not say what became of the cluster since; the node that offers it does.
TEST(Bootstrap, JoinerLearnsRecoveredIdAndSkippedEntries) {
  Founder founder;
  Genesis genesis = *founder.bootstrap.decided();
  genesis.members[1].disk_id = disk(2, 1);
  Bootstrap joiner(options(2, Mode::kJoin));
  wire::Hello member = hello(1);
  member.cluster_id = cluster(99);
  joiner.peer_reached(NodeId(1), member);
  answers_to(joiner, 1, offer_of(genesis));
  EXPECT_FALSE(joiner.decided()) << "the document of another cluster";
  member.former_cluster_ids = {genesis.cluster_id, cluster(98)};
  member.skipped_entries = {{Index(57), Term(2), 7}};
  joiner.peer_reached(NodeId(1), member);
  answers_to(joiner, 1, offer_of(genesis));
  ASSERT_TRUE(joiner.decided());
  EXPECT_EQ(joiner.lineage().cluster_id, cluster(99));
  EXPECT_EQ(joiner.lineage().former_cluster_ids, member.former_cluster_ids);
  EXPECT_EQ(joiner.lineage().skips, member.skipped_entries);
}

TEST(Bootstrap, DocumentThatDoesNotFitIsRefused) {
  Founder founder;
  auto accepts = [&](auto change, Mode mode = Mode::kAuto) {
    Genesis genesis = *founder.bootstrap.decided();
    change(genesis);
    Bootstrap second(options(2, mode));
    answers_to(second, 1, offer_of(genesis));
    return second.decided().has_value();
  };
  EXPECT_TRUE(accepts([](Genesis&) {}));
  EXPECT_FALSE(accepts([](Genesis&) {}, Mode::kJoin));
  EXPECT_FALSE(accepts([](Genesis& genesis) { genesis.members[1].disk_id = disk(2, 1); }))
      << "of this node's former disk";
  EXPECT_FALSE(
      accepts([](Genesis& genesis) { genesis.members.erase(genesis.members.begin() + 1); }));
  EXPECT_FALSE(accepts([](Genesis& genesis) { genesis.cluster_name = "other"; }));
  EXPECT_FALSE(accepts([](Genesis& genesis) { genesis.plugin_name = "kv"; }));
  EXPECT_FALSE(accepts([](Genesis& genesis) { genesis.plugin_level = 5; }));
  EXPECT_FALSE(accepts([](Genesis& genesis) { genesis.plugin_level = 0; }));
  EXPECT_FALSE(accepts([](Genesis& genesis) { genesis.settings.feature_level = 9; }));
}

// Nobody who belongs here sends it: the connection ends, and its end has a limited line.
TEST(Bootstrap, OfferThatCannotBeHonestEndsTheConnection) {
  const auto fault_of = [](Bootstrap& bootstrap, const wire::PeerMessage& message) {
    Effects out;
    return bootstrap.message(NodeId(9), message, out);
  };
  Bootstrap second(options(2));
  EXPECT_THAT(fault_of(second, wire::GenesisOffer{"rubbish"}), HasSubstr("genesis rejected"));
  EXPECT_FALSE(second.decided());
  Founder founder;
  Genesis other = *founder.bootstrap.decided();
  other.cluster_id = cluster(77);
  founder.bootstrap.durable();
  EXPECT_EQ(fault_of(founder.bootstrap, offer_of(*founder.bootstrap.decided())), "");
  EXPECT_THAT(fault_of(founder.bootstrap, offer_of(other)), HasSubstr("accepts only one"));
}

TEST(Bootstrap, RejectedOffersHaveFewLines) {
  Founder founder;
  Genesis other = *founder.bootstrap.decided();
  other.cluster_name = "other";
  Bootstrap second(options(2));
  limit_log_lines();
  testing::internal::CaptureStderr();
  for (int i = 0; i < 1000; ++i) answers_to(second, 1, offer_of(other));
  const std::string log = testing::internal::GetCapturedStderr();
  EXPECT_EQ(std::ranges::count(log, '\n'), 4) << log;
}

TEST(Bootstrap, HighestCommonLevelIsTaken) {
  Bootstrap first(options(1));
  first.peer_reached(NodeId(2), hello(2, 2, 3));
  first.peer_reached(NodeId(3), hello(3, 1, 9));
  first.advance();
  ASSERT_TRUE(first.decided());
  EXPECT_EQ(first.decided()->plugin_level, 3u);
}

TEST(Bootstrap, FeatureLevelIsTheHighestThatAllFoundersSupport) {
  for (uint32_t third : {1, 2, 5}) {
    auto newer = options(1);
    newer.feature_level_max = 3;
    Bootstrap first(newer);
    wire::Hello second_hello = hello(2);
    second_hello.feature_level_max = 4;
    wire::Hello third_hello = hello(3);
    third_hello.feature_level_max = third;
    first.peer_reached(NodeId(2), second_hello);
    first.peer_reached(NodeId(3), third_hello);
    first.advance();
    ASSERT_TRUE(first.decided());
    EXPECT_EQ(first.decided()->settings.feature_level, std::min(third, 3u));
  }
}

TEST(Bootstrap, WithoutACommonLevelThereIsNoCluster) {
  Bootstrap first(options(1));
  first.peer_reached(NodeId(2), hello(2, 5, 6));
  first.peer_reached(NodeId(3), hello(3));
  first.advance();
  EXPECT_FALSE(first.decided());
  ASSERT_TRUE(first.refused());
  EXPECT_EQ(first.refused()->kind, ErrorKind::kMismatch);
  EXPECT_THAT(first.refused()->text, HasSubstr("no common behaviour level"));
}

TEST(Bootstrap, WhereAClusterRunsNoOtherIsFormed) {
  Bootstrap first(options(1));
  wire::Hello member = hello(2);
  member.cluster_id = cluster(7);
  first.peer_reached(NodeId(2), member);
  first.peer_reached(NodeId(3), hello(3));
  first.advance();
  EXPECT_FALSE(first.decided());
  EXPECT_EQ(first.waiting_for(),
            "cluster 'demo' already runs (node 2 is a member): waiting to be added; run on "
            "another member, such as node 2 (h2:7301): connectctl member add 1 --peer h1:7101 "
            "--client h1:7201 --http h1:7301");
  // Its going away does not make it unseen: not all members answer.
  first.peer_lost(NodeId(2));
  first.advance();
  EXPECT_FALSE(first.decided());
}

TEST(Bootstrap, OtherDiskWaitsForReplace) {
  Bootstrap third(options(3));
  third.turned_away(NodeId(2), wire::RefusalCode::kDiskId);
  third.advance();
  EXPECT_FALSE(third.decided());
  EXPECT_THAT(third.waiting_for(), HasSubstr("node 2 says"));
  EXPECT_THAT(third.waiting_for(), HasSubstr("mounted? If it is"));
  EXPECT_THAT(third.waiting_for(),
              HasSubstr("run on another member, such as node 2 (h2:7301): connectctl member "
                        "replace 3"));
}

TEST(Bootstrap, ClusterWithAnotherIdIsNotJoined) {
  Bootstrap::Options with_id = options(3);
  with_id.only_cluster_id = cluster(77);
  Bootstrap third(with_id);
  wire::Hello member = hello(2);
  member.cluster_id = cluster(99);
  member.former_cluster_ids = {cluster(98)};
  third.turned_away(NodeId(2), wire::RefusalCode::kNotMember);
  third.peer_reached(NodeId(2), member);
  third.advance();
  EXPECT_THAT(third.waiting_for(),
              HasSubstr("the cluster of node 2 has another id, " + cluster(99).to_string() +
                        ", and cluster.id is " + cluster(77).to_string()));
  EXPECT_THAT(third.waiting_for(), Not(HasSubstr("member add")));
  EXPECT_THAT(third.waiting_for(), Not(HasSubstr("runs")));
  // It says nothing about the disk of this cluster's node 3, either.
  third.turned_away(NodeId(2), wire::RefusalCode::kDiskId);
  EXPECT_THAT(third.waiting_for(), HasSubstr("another id"));
  // A member of the right cluster counts more, by its present or a former id.
  wire::Hello right = hello(1);
  right.cluster_id = cluster(76);
  right.former_cluster_ids = {cluster(77)};
  third.peer_reached(NodeId(1), right);
  EXPECT_THAT(third.waiting_for(), HasSubstr("(node 1 is a member)"));
  EXPECT_THAT(third.waiting_for(), HasSubstr("member add 3"));
}

// The disks of all three are not mounted.
TEST(Bootstrap, WithClusterIdNobodyForms) {
  for (Mode mode : {Mode::kAuto, Mode::kNew, Mode::kJoin}) {
    Bootstrap::Options with_id = options(1, mode);
    with_id.only_cluster_id = cluster(77);
    Bootstrap first(with_id);
    first.peer_reached(NodeId(2), hello(2));
    first.peer_reached(NodeId(3), hello(3));
    first.advance();
    EXPECT_FALSE(first.decided());
    EXPECT_FALSE(first.refused());
    EXPECT_THAT(first.waiting_for(), HasSubstr(cluster(77).to_string()));
    EXPECT_THAT(first.waiting_for(), HasSubstr("mounted"));
  }
}

TEST(Bootstrap, ClusterIdJoinsPresentAndFormerOnly) {
  Founder founder;
  Genesis genesis = *founder.bootstrap.decided();
  genesis.members[1].disk_id = disk(2, 1);
  wire::Hello member = hello(1);
  member.cluster_id = cluster(99);
  member.former_cluster_ids = {genesis.cluster_id, cluster(98)};
  for (Mode mode : {Mode::kAuto, Mode::kNew, Mode::kJoin}) {
    for (auto [id, joins] : {std::pair(cluster(97), false), std::pair(cluster(99), true),
                             std::pair(cluster(98), true), std::pair(genesis.cluster_id, true)}) {
      Bootstrap::Options with_id = options(2, mode);
      with_id.only_cluster_id = id;
      Bootstrap joiner(with_id);
      joiner.peer_reached(NodeId(1), member);
      answers_to(joiner, 1, offer_of(genesis));
      EXPECT_EQ(joiner.decided().has_value(), joins) << id.to_string();
    }
  }
  // A founder that missed the genesis, and whose file has the id since.
  Bootstrap::Options with_id = options(2);
  with_id.only_cluster_id = founder.bootstrap.decided()->cluster_id;
  Bootstrap late(with_id);
  late.peer_reached(NodeId(1), hello(1));
  answers_to(late, 1, offer_of(*founder.bootstrap.decided()));
  EXPECT_TRUE(late.decided());
  EXPECT_TRUE(late.founds());
}

// A founder's id on another disk, or another node: its log does not say that it forms a cluster.
TEST(Bootstrap, JoiningNodeIsNoFounder) {
  Founder founder;
  EXPECT_TRUE(founder.bootstrap.founds());
  wire::Hello member = hello(1);
  member.cluster_id = founder.bootstrap.decided()->cluster_id;
  Genesis genesis = *founder.bootstrap.decided();
  genesis.members[1].disk_id = disk(2, 1);
  Bootstrap joiner(options(2));
  EXPECT_FALSE(joiner.founds());
  joiner.peer_reached(NodeId(1), member);
  answers_to(joiner, 1, offer_of(genesis));
  ASSERT_TRUE(joiner.decided());
  EXPECT_FALSE(joiner.founds());
}

TEST(Bootstrap, JoinNeverForms) {
  Bootstrap first(options(1, Mode::kJoin));
  EXPECT_EQ(first.waiting_for(), "waiting for a member of a running cluster to answer");
  first.peer_reached(NodeId(2), hello(2));
  first.peer_reached(NodeId(3), hello(3));
  first.advance();
  EXPECT_FALSE(first.decided());
  EXPECT_FALSE(first.refused());
}

TEST(Bootstrap, NewFormsAtOnceAloneOnly) {
  auto alone = options(2, Mode::kNew);
  alone.members = {alone.members[1]};
  Bootstrap single(alone);
  single.advance();
  ASSERT_TRUE(single.decided());
  EXPECT_EQ(single.decided()->members.size(), 1u);
  EXPECT_EQ(single.decided()->members[0].disk_id, disk(2));
  EXPECT_EQ(single.decided()->plugin_level, 4u);

  Bootstrap many(options(1, Mode::kNew));
  many.peer_reached(NodeId(2), hello(2));
  many.advance();
  EXPECT_FALSE(many.decided());
  ASSERT_TRUE(many.refused());
  EXPECT_EQ(many.refused()->kind, ErrorKind::kBadConfig);
}

TEST(Bootstrap, SingleMemberFormsByItself) {
  auto alone = options(1);
  alone.members.resize(1);
  Bootstrap single(alone);
  single.advance();
  EXPECT_TRUE(single.decided());
}

}  // namespace
}  // namespace connectd::node
