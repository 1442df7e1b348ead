// Member lists and changes of them.
#include "node/membership/members.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/limits.h"

namespace connectd::node {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using Kind = MemberChange::Kind;

DiskId disk_of(uint8_t number) {
  DiskId id;
  id.bytes[0] = number;
  return id;
}

struct ListedCluster {
  raft::ConfState conf;
  MemberList list;

  explicit ListedCluster(uint64_t voters) {
    for (uint64_t id = 1; id <= voters; ++id) {
      conf.voters.push_back(NodeId(id));
      list.members.push_back(
          {NodeId(id), disk_of(static_cast<uint8_t>(id)), fmt::format("h:{}", id), "", ""});
    }
  }
  Result<PlannedChange> plan(Kind kind, uint64_t id, std::string peer = "") const {
    MemberChange change;
    change.kind = kind;
    change.member.id = NodeId(id);
    change.member.peer_address = std::move(peer);
    return plan_change(change, conf, list);
  }
  void take(const PlannedChange& plan) {
    conf = plan.conf;
    list = plan.list;
  }
  std::string refusal(Kind kind, uint64_t id, std::string peer = "") const {
    auto planned = plan(kind, id, std::move(peer));
    return planned ? "" : planned.error().text;
  }
};

TEST(AddressesToDial, NamesMembersOnlyAndTheFileFirst) {
  ListedCluster cluster(4);
  cluster.list.members[1].peer_address = "h:22";
  cluster.list.members[2].peer_address = "";
  cluster.list.removed = {NodeId(4)};
  const std::map<NodeId, Address> listed{
      {NodeId(1), {"h", 1}}, {NodeId(2), {"h", 2}}, {NodeId(3), {"h", 3}}, {NodeId(9), {"h", 9}}};
  using Peers = std::map<NodeId, std::vector<Address>>;
  const Peers settled{{NodeId(2), {{"h", 2}, {"h", 22}}}, {NodeId(3), {{"h", 3}}}};
  EXPECT_EQ(addresses_to_dial(NodeId(1), listed, cluster.list, true), settled);
  // Until the joint configuration is left, a removed member counts.
  Peers joint = settled;
  joint[NodeId(4)] = {{"h", 4}};
  EXPECT_EQ(addresses_to_dial(NodeId(1), listed, cluster.list, false), joint);
  EXPECT_EQ(addresses_to_dial(NodeId(1), {}, cluster.list, true).at(NodeId(2)),
            (std::vector<Address>{{"h", 22}}));
}

// An answer may be lost, and the command is given again.
TEST(MemberChange, RepeatedChangeIsNoError) {
  ListedCluster cluster(3);
  auto so = [&](Kind kind, uint64_t id, std::string peer = "", bool learner = false) {
    MemberChange change;
    change.kind = kind;
    change.member.id = NodeId(id);
    change.member.peer_address = std::move(peer);
    change.learner_only = learner;
    return is_so_already(change, cluster.conf, cluster.list).value_or("");
  };
  EXPECT_EQ(so(Kind::kRemove, 2), "");
  EXPECT_EQ(so(Kind::kAdd, 4, "h:4"), "");
  cluster.take(*cluster.plan(Kind::kAdd, 4, "h:4"));
  EXPECT_EQ(so(Kind::kAdd, 4, "h:4"), "node 4 is already a member");
  EXPECT_EQ(so(Kind::kAdd, 4, "h:5"), "") << "another one";
  EXPECT_EQ(so(Kind::kAdd, 4, "h:4", true), "") << "this one becomes a voter";
  EXPECT_EQ(so(Kind::kAdd, 1, "h:1"), "node 1 is already a member");
  EXPECT_THAT(so(Kind::kPromote, 4), HasSubstr("once it has caught up"));
  EXPECT_EQ(so(Kind::kPromote, 1), "node 1 is already a voter");
  cluster.take(*cluster.plan(Kind::kRemove, 2));
  EXPECT_EQ(so(Kind::kRemove, 2), "node 2 is already removed");
  EXPECT_EQ(so(Kind::kAdd, 2, "h:2"), "") << "ids are not reused";
  EXPECT_EQ(so(Kind::kReplace, 2), "");
  EXPECT_THAT(cluster.refusal(Kind::kAdd, 2, "h:2"), HasSubstr("use another id"));
}

TEST(AddCommand, HasAllAddressesThatAreSome) {
  EXPECT_EQ(add_command({NodeId(4), DiskId(), "h:1", "h:2", "[::1]:3"}),
            "connectctl member add 4 --peer h:1 --client h:2 --http [::1]:3");
  EXPECT_EQ(add_command({NodeId(4), DiskId(), "", "h:2\nERROR", ""}),
            "connectctl member add 4 --peer HOST:PORT");
}

TEST(MemberList, IsReadBackAsItWasWrittenAndCutAnywhereIsRefused) {
  MemberList list = ListedCluster(3).list;
  list.promote = {NodeId(2)};
  list.removed = {NodeId(7), NodeId(9)};
  ClusterId former;
  ClusterId recovered;
  former.bytes[0] = 1;
  recovered.bytes[0] = 2;
  list.recoveries.push_back(
      {former, recovered, NodeId(2), 1234, {{NodeId(2), Term(7), Index(8), Term(9)}}});
  Genesis genesis;
  genesis.cluster_id = former;
  EXPECT_EQ(list.cluster_id(genesis), recovered);
  std::string bytes = list.encode();
  EXPECT_EQ(*MemberList::decode(as_bytes(bytes)), list);
  for (size_t length = 0; length < bytes.size(); ++length) {
    EXPECT_FALSE(MemberList::decode(as_bytes(bytes).first(length)));
  }
  EXPECT_FALSE(MemberList::decode(as_bytes(bytes + "x")));
  bytes[0] = 9;
  EXPECT_EQ(MemberList::decode(as_bytes(bytes)).error().kind, ErrorKind::kNewerVersion);
}

TEST(MemberChange, AndItsOutcomeAreReadBack) {
  MemberChange change;
  change.kind = Kind::kReplace;
  change.member = {NodeId(4), disk_of(0), "a:1", "b:2", "c:3"};
  change.force = true;
  change.expected = Index(77);
  auto back = MemberChange::decode(as_bytes(change.encode()));
  ASSERT_TRUE(back);
  EXPECT_EQ(back->encode(), change.encode());
  EXPECT_EQ(back->member, change.member);
  auto outcome =
      ChangeOutcome::decode(as_bytes(ChangeOutcome{ChangeCode::kQuorum, "why", Index(3)}.encode()));
  ASSERT_TRUE(outcome);
  EXPECT_EQ(outcome->text, "why");
  EXPECT_FALSE(MemberChange::decode(as_bytes("nonsense")));
}

// Older builds read these bytes, and newer ones may send other names.
TEST(ChangeOutcome, BytesAreDoneIndexNameText) {
  EXPECT_EQ((ChangeOutcome{ChangeCode::kBusy, "later", Index(7)}.encode()),
            std::string("\0\7\0\0\0\0\0\0\0\4\0\0\0BUSY\5\0\0\0later", 26));
  const std::string done("\1\7\0\0\0\0\0\0\0\0\0\0\0\5\0\0\0later", 22);
  EXPECT_EQ((ChangeOutcome{ChangeCode::kDone, "later", Index(7)}.encode()), done);
  EXPECT_TRUE(ChangeOutcome::decode(as_bytes(done))->done());
  for (const ChangeCodeRow& row : kChangeCodes) {
    auto back = ChangeOutcome::decode(as_bytes(ChangeOutcome{row.code, "t", Index(1)}.encode()));
    ASSERT_TRUE(back);
    EXPECT_EQ(back->code, row.code);
    EXPECT_EQ(change_code_row(row.code).name, row.name);
  }
}

// A refusal may name every member.
TEST(ChangeOutcome, LongTextIsCutAndReadBack) {
  const ChangeOutcome told{ChangeCode::kRefused, std::string(100'000, 'x'), Index(3)};
  auto read = ChangeOutcome::decode(as_bytes(told.encode()));
  ASSERT_TRUE(read);
  EXPECT_EQ(read->text, std::string(4096, 'x'));
}

TEST(ChangeOutcome, UnknownNameIsRefused) {
  auto outcome = ChangeOutcome::decode(
      as_bytes(std::string_view("\0\7\0\0\0\0\0\0\0\3\0\0\0NEW\3\0\0\0why", 23)));
  ASSERT_TRUE(outcome);
  EXPECT_EQ(outcome->code, ChangeCode::kRefused);
  EXPECT_EQ(outcome->text, "why");
  EXPECT_EQ(change_code_of(""), ChangeCode::kRefused);
}

TEST(PlanChange, AddedMemberIsALearnerWhoseDiskIsToCome) {
  ListedCluster cluster(3);
  auto plan = cluster.plan(Kind::kAdd, 4, "h:4");
  ASSERT_TRUE(plan);
  EXPECT_THAT(plan->conf.learners, ElementsAre(NodeId(4)));
  EXPECT_EQ(plan->conf.voters, cluster.conf.voters);
  EXPECT_FALSE(plan->list.find(NodeId(4))->disk_id);
  EXPECT_TRUE(plan->list.will_promote(NodeId(4)));
  cluster.take(*plan);
  cluster.take(bind_disk(NodeId(4), disk_of(4), cluster.conf, cluster.list));
  EXPECT_EQ(cluster.list.find(NodeId(4))->disk_id, disk_of(4));
  cluster.take(promote_now(NodeId(4), cluster.conf, cluster.list));
  EXPECT_TRUE(cluster.conf.learners.empty());
  EXPECT_EQ(cluster.conf.voters.size(), 4u);
  EXPECT_FALSE(cluster.list.will_promote(NodeId(4)));
}

TEST(PlanChange, RemovedIdIsNeverUsedAgain) {
  ListedCluster cluster(3);
  auto plan = cluster.plan(Kind::kRemove, 2);
  ASSERT_TRUE(plan);
  EXPECT_THAT(plan->conf.voters, ElementsAre(NodeId(1), NodeId(3)));
  // While the cluster is joint it is still needed.
  EXPECT_NE(plan->list.find(NodeId(2)), nullptr);
  wire::Hello hello;
  hello.node_id = NodeId(2);
  hello.disk_id = disk_of(2);
  EXPECT_EQ(check_member(plan->list, Index(9), false, "demo", hello), std::nullopt);
  EXPECT_EQ(check_member(plan->list, Index(9), true, "demo", hello)->code,
            wire::RefusalCode::kRemoved);
  cluster.take(*plan);
  EXPECT_THAT(cluster.refusal(Kind::kAdd, 2, "h:2"), HasSubstr("not reused"));
  auto next = cluster.plan(Kind::kAdd, 5, "h:2");  // its address may be
  ASSERT_TRUE(next);
  EXPECT_EQ(next->list.find(NodeId(2)), nullptr);
  EXPECT_EQ(check_member(next->list, Index(9), false, "demo", hello)->code,
            wire::RefusalCode::kRemoved);
}

TEST(HasCaughtUp, NearLearnerWithBoundDiskHasCaughtUp) {
  EXPECT_TRUE(has_caught_up(Index(1000), Index(1000), Index(900)));
  EXPECT_TRUE(has_caught_up(Index(1000 - kPromoteLag), Index(1000), Index(500)));
  EXPECT_FALSE(has_caught_up(Index(999 - kPromoteLag), Index(1000), Index(500)));
  EXPECT_TRUE(has_caught_up(Index(990), Index(1000), Index(990)));
  EXPECT_FALSE(has_caught_up(Index(990), Index(1000), Index(991)));
}

// A node with an older list must not reject a member that a newer list has.
TEST(CheckMember, OlderListDoesNotRejectNewerMember) {
  ListedCluster cluster(3);
  wire::Hello hello;
  hello.node_id = NodeId(2);
  hello.disk_id = disk_of(9);
  auto refused = [&](uint64_t own, uint64_t theirs) {
    hello.members_index = Index(theirs);
    auto refusal = check_member(cluster.list, Index(own), true, "demo", hello);
    return refusal && refusal->code == wire::RefusalCode::kDiskId;
  };
  EXPECT_TRUE(refused(5, 7)) << "it belongs to no cluster";
  hello.cluster_id.bytes[0] = 1;
  EXPECT_TRUE(refused(5, 4));
  EXPECT_TRUE(refused(5, 5));
  EXPECT_FALSE(refused(5, 6));
  // Nor is one that this node has not heard of.
  hello.node_id = NodeId(9);
  EXPECT_EQ(check_member(cluster.list, Index(5), true, "demo", hello), std::nullopt);
  hello.cluster_id = ClusterId();
  EXPECT_EQ(check_member(cluster.list, Index(5), true, "demo", hello)->code,
            wire::RefusalCode::kNotMember);
}

// With a member's disk id anybody can say that it is that member.
TEST(CheckMember, RefusalKeepsTheDiskToItself) {
  ListedCluster cluster(3);
  wire::Hello hello;
  hello.node_id = NodeId(2);
  hello.disk_id = disk_of(9);
  const auto refusal = check_member(cluster.list, Index(5), true, "demo", hello);
  ASSERT_TRUE(refusal);
  const std::string known = cluster.list.find(NodeId(2))->disk_id.to_string();
  EXPECT_EQ(refusal->text.find(known), std::string::npos) << refusal->text;
  EXPECT_NE(refusal->own.find(known), std::string::npos) << refusal->own;
}

// The list of the next one could not be read by anybody.
TEST(PlanChange, TooManyRemovedIdsAreRefused) {
  ListedCluster cluster(3);
  for (uint64_t id = 0; id + 1 < kMaxRemovedByChanges; ++id) {
    cluster.list.removed.push_back(NodeId(100 + id));
  }
  cluster.take(*cluster.plan(Kind::kRemove, 3));
  EXPECT_EQ(cluster.list.removed.size(), kMaxRemovedByChanges);
  EXPECT_THAT(cluster.refusal(Kind::kRemove, 2), HasSubstr("65000 members were removed"));
  EXPECT_THAT(cluster.refusal(Kind::kAdd, 9, "h:9"), HasSubstr("Restore a snapshot"));
  EXPECT_EQ(cluster.refusal(Kind::kReplace, 2), "") << "it removes nobody for good";
  ASSERT_TRUE(MemberList::decode(as_bytes(cluster.list.encode())));
  // A recovery may remove all members but one.
  for (uint64_t id = 0; id < kMaxMembers; ++id) {
    cluster.list.removed.push_back(NodeId(1'000'000 + id));
  }
  EXPECT_TRUE(MemberList::decode(as_bytes(cluster.list.encode())));
}

TEST(PlanChange, ReplacedMemberLosesItsVoteAndItsDisk) {
  ListedCluster cluster(3);
  auto plan = cluster.plan(Kind::kReplace, 3, "new:3");
  ASSERT_TRUE(plan);
  EXPECT_THAT(plan->conf.voters, ElementsAre(NodeId(1), NodeId(2)));
  EXPECT_FALSE(plan->conf.is_member(NodeId(3)));
  EXPECT_FALSE(plan->list.find(NodeId(3))->disk_id);
  EXPECT_EQ(plan->list.find(NodeId(3))->peer_address, "new:3");
  EXPECT_TRUE(plan->list.will_promote(NodeId(3)));
  cluster.take(*plan);
  cluster.take(add_learner(NodeId(3), cluster.conf, cluster.list));
  EXPECT_THAT(cluster.conf.learners, ElementsAre(NodeId(3)));
}

TEST(PlanChange, ReplacedLearnerStaysOne) {
  ListedCluster cluster(3);
  cluster.conf.learners = {NodeId(4)};
  cluster.list.members.push_back({NodeId(4), disk_of(4), "h:4", "", ""});
  for (int again = 0; again < 2; ++again) {
    auto plan = cluster.plan(Kind::kReplace, 4, "new:4");
    ASSERT_TRUE(plan);
    EXPECT_EQ(plan->other_disk, NodeId(4));
    EXPECT_FALSE(plan->list.will_promote(NodeId(4)));
    cluster.take(*plan);
  }
  const PlannedChange bound = bind_disk(NodeId(4), disk_of(9), cluster.conf, cluster.list);
  EXPECT_EQ(bound.other_disk, NodeId(4));
  EXPECT_EQ(bound.list.find(NodeId(4))->disk_id, disk_of(9));
}

TEST(PlanChange, InvalidChangeIsRefusedWithReason) {
  ListedCluster three(3);
  EXPECT_THAT(three.refusal(Kind::kAdd, 0, "h:9"), HasSubstr("from 1 to"));
  EXPECT_THAT(three.refusal(Kind::kAdd, kMaxNodeId + 1, "h:9"), HasSubstr("from 1 to"));
  EXPECT_THAT(three.refusal(Kind::kAdd, 2, "h:9"), HasSubstr("already a member"));
  EXPECT_THAT(three.refusal(Kind::kAdd, 4), HasSubstr("address"));
  EXPECT_THAT(three.refusal(Kind::kAdd, 4, "h:2"), HasSubstr("already belongs to node 2"));
  EXPECT_THAT(three.refusal(Kind::kPromote, 2), HasSubstr("not a learner"));
  EXPECT_THAT(three.refusal(Kind::kRemove, 9), HasSubstr("not a member"));
  EXPECT_THAT(three.refusal(Kind::kTransfer, 2), HasSubstr("unknown membership change"));
  ListedCluster one(1);
  EXPECT_THAT(one.refusal(Kind::kRemove, 1), HasSubstr("only voter"));
  EXPECT_THAT(one.refusal(Kind::kReplace, 1), HasSubstr("only voter"));
  ListedCluster full(kMaxMembers);
  EXPECT_THAT(full.refusal(Kind::kAdd, kMaxMembers + 1, "h:999"), HasSubstr("at most"));
}

}  // namespace
}  // namespace connectd::node
