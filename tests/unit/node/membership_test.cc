// Changes that operators ask for and the steps that follow by themselves, with a core and no node.
#include "node/membership/membership.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/unit/node/hello.h"
#include "tests/unit/node/small_core.h"

namespace connectd::node {
namespace {

using std::chrono::milliseconds;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using Kind = MemberChange::Kind;

Genesis genesis_of_member() {
  Genesis genesis;
  genesis.cluster_id.bytes[0] = 9;
  genesis.cluster_name = "demo";
  genesis.members = members_of(3).members;
  return genesis;
}

class MembershipTest : public ::testing::Test {
 protected:
  MembershipTest() { follow(); }

  void lead() {
    raft.lead();
    for (uint64_t id : {2, 3}) reach(members_of(3).members[id - 1]);
  }
  void reach(const GenesisMember& member) {
    wire::Hello hello;
    hello.node_id = member.id;
    hello.disk_id = member.disk_id;
    hello.peer_address = member.peer_address;
    hello.client_address = member.client_address;
    hello.http_address = member.http_address;
    membership.peer_reached(member.id, hello);
    raft.step(raft::PeerReached{member.id});
  }
  void follow() {
    Effects out;
    membership.follow(*raft.core, out);
    for (const raft::Event& event : out.events) {
      if (const auto* suffrage = std::get_if<raft::Suffrage>(&event)) votes = suffrage->may_vote;
    }
    raft.carry_out(out);
  }
  ChangeOutcome change(const MemberChange& change) {
    const Membership::Decision decision = membership.decide(change, *raft.core);
    if (decision.event) raft.step(*decision.event);
    ChangeOutcome outcome = membership.concluded(decision, *raft.core);
    follow();
    return outcome;
  }
  // The next automatic step. False: there is none.
  bool advance() {
    Effects out;
    membership.advance(*raft.core, raft.now.time, out);
    const bool any = !out.events.empty();
    raft.carry_out(out);
    follow();
    return any;
  }
  Membership::LostMajority lost() const { return membership.lost_majority(*raft.core); }
  Index match(uint64_t id) {
    for (const raft::PeerStatus& peer : raft.core->peers()) {
      if (peer.id == NodeId(id)) return peer.match;
    }
    return Index();
  }
  static MemberChange add(uint64_t id) {
    MemberChange change;
    change.kind = Kind::kAdd;
    change.member = members_of(id).members.back();
    change.member.disk_id = DiskId();
    return change;
  }
  static Membership::Options options() {
    Membership::Options options;
    options.self = members_of(1).members[0];
    options.heartbeat_interval = milliseconds(50);
    return options;
  }

  SmallCore raft{members_of(3)};
  Membership membership{options(), genesis_of_member()};
  bool votes = false;
};

TEST_F(MembershipTest, FollowsTheListAndVotesOnItsDisk) {
  EXPECT_EQ(membership.list(), members_of(3));
  EXPECT_TRUE(votes);
}

TEST_F(MembershipTest, OtherDiskDoesNotVote) {
  Membership::Options other = options();
  other.self.disk_id.bytes[0] = 77;
  Membership wiped(other, genesis_of_member());
  Effects out;
  wiped.follow(*raft.core, out);
  ASSERT_EQ(out.events.size(), 1u);
  EXPECT_FALSE(std::get<raft::Suffrage>(out.events[0]).may_vote);
}

TEST_F(MembershipTest, FollowerRefusesToDecide) {
  EXPECT_EQ(change(add(4)).code, ChangeCode::kNoLeader);
}

TEST_F(MembershipTest, AddedMemberIsBoundThenPromoted) {
  lead();
  EXPECT_EQ(change(add(4)).code, ChangeCode::kDone);
  EXPECT_TRUE(raft.core->conf().is_member(NodeId(4)));
  EXPECT_FALSE(raft.core->conf().is_voter(NodeId(4)));
  EXPECT_FALSE(advance()) << "it is not connected";
  reach(members_of(4).members[3]);
  EXPECT_TRUE(advance()) << "its disk is bound";
  EXPECT_EQ(membership.list().find(NodeId(4))->disk_id, members_of(4).members[3].disk_id);
  for (int i = 0; i < 20 && !raft.core->conf().is_voter(NodeId(4)); ++i) {
    raft.pass(milliseconds(50));
    advance();
  }
  EXPECT_TRUE(raft.core->conf().is_voter(NodeId(4)));
}

TEST_F(MembershipTest, SecondChangeWaitsSettingDoesNot) {
  lead();
  raft.silent = {NodeId(2), NodeId(3)};
  EXPECT_EQ(change(add(4)).code, ChangeCode::kDone);
  const ChangeOutcome second = change(add(5));
  EXPECT_EQ(second.code, ChangeCode::kBusy);
  EXPECT_EQ(second.index, raft.core->conf_index());
  MemberChange setting;
  setting.kind = Kind::kSetting;
  setting.key = "raft.election_timeout";
  setting.value = "700ms";
  EXPECT_EQ(change(setting).code, ChangeCode::kDone);
  EXPECT_EQ(raft.core->settings().election_timeout, milliseconds(700));
}

TEST_F(MembershipTest, ChangeForAnotherIndexConflicts) {
  lead();
  MemberChange late = add(4);
  late.expected = Index(99);
  EXPECT_EQ(change(late).code, ChangeCode::kConflict);
}

TEST_F(MembershipTest, UnreachableMajorityNeedsForce) {
  lead();
  for (uint64_t id : {2, 3}) membership.peer_lost(NodeId(id));
  MemberChange remove;
  remove.kind = Kind::kRemove;
  remove.member.id = NodeId(3);
  EXPECT_EQ(change(remove).code, ChangeCode::kQuorum);
  remove.force = true;
  EXPECT_EQ(change(remove).code, ChangeCode::kDone);
}

TEST_F(MembershipTest, LostMajorityNamesRecover) {
  const MemberList listed = members_of(3);
  EXPECT_THAT(lost().text, HasSubstr(fmt::format("reaches 1 of 3 voters (not: 2 at {}, 3 at {})",
                                                 listed.members[1].peer_address,
                                                 listed.members[2].peer_address)));
  EXPECT_THAT(lost().remedy, HasSubstr("connectctl recover"));
  reach(listed.members[1]);
  EXPECT_EQ(lost().full(), "");
  membership.peer_lost(NodeId(2));
  EXPECT_THAT(lost().remedy, HasSubstr("connectctl recover"));
  // A change that is asked for says so, too.
  ChangeOutcome answer;
  Effects out;
  membership.ask_leader(
      add(4), *raft.core, raft.now.time, [&](ChangeOutcome outcome) { answer = outcome; }, out);
  EXPECT_EQ(answer.code, ChangeCode::kNoLeader);
  EXPECT_THAT(answer.text, HasSubstr("connectctl recover"));
}

TEST_F(MembershipTest, VotersThatNeverLeadAreNamed) {
  SmallCore never_leads(members_of(3), 0);
  reach(members_of(3).members[1]);
  EXPECT_EQ(membership.lost_majority(*never_leads.core).full(), "") << "node 2 may";
  never_leads.step(raft::PeerReached{NodeId(2), uint8_t{0}});
  EXPECT_THAT(membership.lost_majority(*never_leads.core).full(),
              HasSubstr("none of the voters that node 1 reaches may lead"));
}

// Of each kind of change, whatever refuses it: another try would be in vain.
TEST_F(MembershipTest, ChangesWithoutMajorityNameRecover) {
  MemberChange transfer;
  transfer.kind = Kind::kTransfer;
  MemberChange setting;
  setting.kind = Kind::kSetting;
  setting.key = "raft.election_timeout";
  setting.value = "700ms";
  MemberChange remove;
  remove.kind = Kind::kRemove;
  remove.member.id = NodeId(3);
  for (const MemberChange& asked : {add(4), transfer, setting, remove}) {
    const ChangeOutcome outcome = change(asked);
    EXPECT_EQ(outcome.code, ChangeCode::kNoLeader);
    EXPECT_THAT(outcome.text, HasSubstr("this node lost leadership; node 1 reaches 1 of 3 voters"));
    EXPECT_THAT(outcome.text, HasSubstr("connectctl recover"));
  }
  lead();
  raft.silent = {NodeId(2), NodeId(3)};
  EXPECT_EQ(change(add(4)).code, ChangeCode::kDone);
  EXPECT_THAT(change(add(5)).text, HasSubstr("is in progress; try again when it is done"));
  for (uint64_t id : {2, 3}) membership.peer_lost(NodeId(id));
  EXPECT_THAT(change(add(5)).text, HasSubstr("is in progress; node 1 reaches 1 of 3 voters"));
}

TEST_F(MembershipTest, ForceIsNoAdviceWithoutMajority) {
  lead();
  MemberChange remove;
  remove.kind = Kind::kRemove;
  remove.member.id = NodeId(3);
  membership.peer_lost(NodeId(2));
  EXPECT_THAT(change(remove).text, HasSubstr("--force overrides this check"));
  membership.peer_lost(NodeId(3));
  EXPECT_THAT(change(remove).text, HasSubstr("connectctl recover"));
  EXPECT_THAT(change(remove).text, ::testing::Not(HasSubstr("--force")));
}

// Whoever refuses runs: nothing is lost.
TEST_F(MembershipTest, RefusedNodeIsNotToldToRecover) {
  membership.refused_by(NodeId(2), wire::RefusalCode::kSkips, raft.now.time);
  EXPECT_THAT(lost().text, HasSubstr("2, which refuses it"));
  EXPECT_EQ(lost().remedy, "");
  reach(members_of(3).members[1]);
  membership.peer_lost(NodeId(2));
  EXPECT_THAT(lost().remedy, HasSubstr("connectctl recover"));
  membership.refused_by(NodeId(9), wire::RefusalCode::kSkips, raft.now.time);  // no member
  EXPECT_THAT(lost().remedy, HasSubstr("connectctl recover"));
}

TEST_F(MembershipTest, RefusalOfDeadMemberHidesNoAdvice) {
  membership.refused_by(NodeId(2), wire::RefusalCode::kDiskId, raft.now.time);
  raft.now.time += wire::kRefusalStands / 2;
  membership.refused_by(NodeId(2), wire::RefusalCode::kDiskId, raft.now.time);
  raft.now.time += wire::kRefusalStands - std::chrono::milliseconds(1);
  advance();
  EXPECT_EQ(lost().remedy, "") << "it said so again";
  raft.now.time += std::chrono::milliseconds(1);
  advance();
  EXPECT_THAT(lost().remedy, HasSubstr("connectctl recover"));
}

TEST_F(MembershipTest, RefusalOfStrangerHidesNoAdvice) {
  for (const auto code : {wire::RefusalCode::kClusterName, wire::RefusalCode::kClusterId,
                          wire::RefusalCode::kWrongNode}) {
    membership.refused_by(NodeId(2), code, raft.now.time);
    EXPECT_THAT(lost().text,
                HasSubstr(members_of(3).members[1].peer_address + ", where another node answers"));
    EXPECT_THAT(lost().remedy, HasSubstr("connectctl recover"));
  }
}

TEST_F(MembershipTest, OldDiskBesideItsSuccessorIsToldSo) {
  wire::Hello old;
  old.node_id = NodeId(2);
  old.cluster_id = membership.cluster_id();
  old.disk_id.bytes[0] = 77;
  auto refusal = membership.check_peer(old, *raft.core);
  ASSERT_TRUE(refusal);
  EXPECT_THAT(refusal->text, HasSubstr("member replace 2"));
  reach(members_of(3).members[1]);
  refusal = membership.check_peer(old, *raft.core);
  ASSERT_TRUE(refusal);
  EXPECT_EQ(refusal->code, wire::RefusalCode::kRunsElsewhere);
  EXPECT_THAT(refusal->text, HasSubstr("node 2 of cluster 'demo' runs elsewhere"));
  EXPECT_THAT(refusal->text,
              ::testing::Not(HasSubstr(members_of(3).members[1].disk_id.to_string())))
      << "whoever knows it is let in as that node";
  EXPECT_THAT(refusal->text, ::testing::Not(HasSubstr("connectctl")));
}

TEST_F(MembershipTest, ConnectedDiskIsNotReplaced) {
  lead();
  MemberChange replace;
  replace.kind = Kind::kReplace;
  replace.member.id = NodeId(2);
  const ChangeOutcome outcome = change(replace);
  EXPECT_EQ(outcome.code, ChangeCode::kRefused);
  EXPECT_THAT(outcome.text, HasSubstr("has had from the beginning; stop it first"));
  replace.member.id = NodeId(1);
  EXPECT_THAT(change(replace).text, HasSubstr("stop it first")) << "the leader itself";
}

// The answer to the first command may have been lost.
TEST_F(MembershipTest, RepeatedReplaceIsNoError) {
  lead();
  MemberChange replace;
  replace.kind = Kind::kReplace;
  replace.member.id = NodeId(2);
  membership.peer_lost(NodeId(2));
  ASSERT_EQ(change(replace).code, ChangeCode::kDone);
  GenesisMember fresh = members_of(3).members[1];
  fresh.disk_id.bytes[0] = 99;
  reach(fresh);
  for (int i = 0; i < 40 && !raft.core->conf().is_voter(NodeId(2)); ++i) {
    raft.pass(milliseconds(50));
    advance();
  }
  ASSERT_TRUE(raft.core->conf().is_voter(NodeId(2)));
  const Index index = raft.core->conf_index();
  const ChangeOutcome again = change(replace);
  EXPECT_EQ(again.code, ChangeCode::kDone);
  EXPECT_EQ(again.index, index);
  EXPECT_THAT(again.text, HasSubstr("already. To replace that one, stop it first"));
  EXPECT_EQ(raft.core->conf_index(), index) << "nothing was appended";
}

using Hearing = Membership::Hearing;

class HearingTest : public MembershipTest {
 protected:
  template <class Message>
  Hearing hear(const wire::Hello& sender, Message message) const {
    if constexpr (requires { wire::PeerMessage(std::move(message)); }) {
      return membership.hearing(sender, std::move(message), *raft.core);
    } else {
      return membership.hearing(
          sender, raft::Envelope{sender.node_id, NodeId(1), Term(1), std::move(message)},
          *raft.core);
    }
  }
};

// The process on the disk that was given up runs on: it is no second voter with the same id.
TEST_F(HearingTest, OtherDiskIsNoPartOfAQuorum) {
  const DiskId listed = members_of(3).members[2].disk_id;
  DiskId other = listed;
  other.bytes[0] = 44;
  for (const DiskId& disk : {listed, other, DiskId()}) {
    const wire::Hello sender = hello_of(NodeId(3), disk);
    const Hearing expected = disk == listed ? Hearing::kCounts : Hearing::kIgnored;
    EXPECT_EQ(hear(sender, raft::VoteResponse{}), expected);
    EXPECT_EQ(hear(sender, raft::PreVoteResponse{}), expected);
    EXPECT_EQ(hear(sender, raft::AppendResponse{}), expected);
    EXPECT_EQ(hear(sender, raft::HeartbeatResponse{}), expected);
    EXPECT_EQ(hear(sender, wire::SnapshotAck{}), expected);
    EXPECT_EQ(hear(sender, wire::DigestReport{}), expected);
    EXPECT_EQ(hear(sender, wire::DiskReport{}), expected);
    // It may know of a replacement that this node has not heard of.
    EXPECT_EQ(hear(sender, raft::VoteRequest{}), Hearing::kCounts);
    EXPECT_EQ(hear(sender, raft::AppendRequest{}), Hearing::kCounts);
    EXPECT_EQ(hear(sender, wire::SnapshotOffer{}), Hearing::kCounts);
  }
}

// A disk is given up and bound again while its connection to this node stands: it counts.
TEST_F(HearingTest, DiskThatIsBoundAgainCounts) {
  lead();
  MemberChange replace;
  replace.kind = Kind::kReplace;
  replace.member.id = NodeId(3);
  replace.force = true;
  EXPECT_EQ(change(replace).code, ChangeCode::kDone);
  EXPECT_FALSE(membership.list().find(NodeId(3))->disk_id);
  // The list of a new leader that has bound the disk which this node still talks to.
  const MemberList again = members_of(3);
  raft.core->step(raft::ChangeConf{raft.core->conf(), Slice::copy_of(again.encode()), NodeId()},
                  raft.now);
  follow();
  const DiskId disk = again.members[2].disk_id;
  ASSERT_EQ(membership.list().find(NodeId(3))->disk_id, disk);
  EXPECT_EQ(hear(hello_of(NodeId(3), disk), raft::VoteResponse{}), Hearing::kCounts);
}

TEST_F(HearingTest, NothingOfAStrangerCounts) {
  lead();
  EXPECT_EQ(change(add(4)).code, ChangeCode::kDone);
  ASSERT_TRUE(raft.core->conf_is_settled());
  wire::Hello sender = hello_of(NodeId(9));
  for (Index known : {Index(), raft.core->conf_index()}) {
    sender.members_index = known;
    EXPECT_EQ(hear(sender, raft::Heartbeat{}), Hearing::kStranger);
    EXPECT_EQ(hear(sender, raft::VoteRequest{}), Hearing::kStranger);
    EXPECT_EQ(hear(sender, raft::VoteResponse{}), Hearing::kStranger);
    EXPECT_EQ(hear(sender, wire::ForwardProposals{}), Hearing::kStranger);
    EXPECT_EQ(hear(sender, wire::ChangeRequest{}), Hearing::kStranger);
    EXPECT_EQ(hear(sender, wire::DivergenceVerdict{}), Hearing::kStranger);
  }
}

// Thesis §4.1: this node may be the one that is behind.
TEST_F(HearingTest, NodeWithLaterMembersMayLead) {
  lead();
  EXPECT_EQ(change(add(4)).code, ChangeCode::kDone);
  wire::Hello sender = hello_of(NodeId(9));
  sender.members_index = raft.core->conf_index() + 1;
  EXPECT_EQ(hear(sender, raft::PreVoteRequest{}), Hearing::kCounts);
  EXPECT_EQ(hear(sender, raft::VoteRequest{}), Hearing::kCounts);
  EXPECT_EQ(hear(sender, raft::AppendRequest{}), Hearing::kCounts);
  EXPECT_EQ(hear(sender, raft::Heartbeat{}), Hearing::kCounts);
  EXPECT_EQ(hear(sender, raft::TimeoutNow{}), Hearing::kCounts);
  EXPECT_EQ(hear(sender, wire::SnapshotOffer{}), Hearing::kCounts);
  EXPECT_EQ(hear(sender, wire::SnapshotChunk{}), Hearing::kCounts);
  EXPECT_EQ(hear(sender, raft::VoteResponse{}), Hearing::kIgnored);
  EXPECT_EQ(hear(sender, wire::ForwardProposals{}), Hearing::kIgnored);
  EXPECT_EQ(hear(sender, wire::ChangeRequest{}), Hearing::kIgnored);
  EXPECT_EQ(hear(sender, wire::DiskReport{}), Hearing::kIgnored);
  EXPECT_EQ(hear(sender, wire::DivergenceVerdict{}), Hearing::kIgnored);
}

// A list that is only in this node's log may lose, and the sender be of the one that wins: cut off,
// this node must not shut its leader out.
TEST_F(HearingTest, OwnListThatIsNotCommittedProvesNothing) {
  lead();
  raft.silent = {NodeId(2), NodeId(3)};
  EXPECT_EQ(change(add(4)).code, ChangeCode::kDone);
  ASSERT_FALSE(raft.core->conf_is_settled());
  const wire::Hello sender = hello_of(NodeId(9));
  EXPECT_EQ(hear(sender, raft::AppendRequest{}), Hearing::kCounts);
  EXPECT_EQ(hear(sender, raft::VoteRequest{}), Hearing::kCounts);
  EXPECT_EQ(hear(sender, raft::VoteResponse{}), Hearing::kIgnored);
}

// A leader leads until its own removal is committed (thesis §4.2.2), and not after it.
TEST_F(HearingTest, RemovedNodeCountsUntilCommit) {
  lead();
  const wire::Hello sender = hello_of(NodeId(3), members_of(3).members[2].disk_id);
  MemberChange remove;
  remove.kind = Kind::kRemove;
  remove.member.id = NodeId(3);
  raft.silent = {NodeId(2), NodeId(3)};
  EXPECT_EQ(change(remove).code, ChangeCode::kDone);
  ASSERT_TRUE(membership.list().is_removed(NodeId(3)));
  EXPECT_EQ(hear(sender, raft::Heartbeat{}), Hearing::kCounts);
  raft.silent.clear();
  for (int i = 0; i < 20 && !raft.core->conf_is_settled(); ++i) {
    raft.pass(milliseconds(50));
    follow();
  }
  ASSERT_TRUE(raft.core->conf_is_settled());
  EXPECT_EQ(hear(sender, raft::Heartbeat{}), Hearing::kStranger);
}

// No leader of this build writes such a list; one that did would take every later leader with it.
TEST_F(MembershipTest, PromotedNodeThatIsNotListedIsNoMatter) {
  lead();
  MemberList list = members_of(3);
  list.promote = {NodeId(4)};
  raft::ConfState conf = raft.core->conf();
  conf.learners = {NodeId(4)};
  raft.step(raft::ChangeConf{conf, Slice::copy_of(list.encode()), NodeId()});
  follow();
  for (int i = 0; i < 5; ++i) raft.pass(milliseconds(50));
  ASSERT_TRUE(membership.list().will_promote(NodeId(4)));
  EXPECT_FALSE(advance());
}

// The leader's knowledge about a follower's log is valid for the disk that answered.
TEST_F(MembershipTest, OtherDiskOfALearnerIsSentItAll) {
  lead();
  MemberChange learner = add(4);
  learner.learner_only = true;
  EXPECT_EQ(change(learner).code, ChangeCode::kDone);
  reach(members_of(4).members[3]);
  EXPECT_TRUE(advance());
  raft.pass(milliseconds(50));
  EXPECT_GT(match(4), Index());

  membership.peer_lost(NodeId(4));
  raft.silent = {NodeId(4)};
  MemberChange replace;
  replace.kind = Kind::kReplace;
  replace.member.id = NodeId(4);
  EXPECT_EQ(change(replace).code, ChangeCode::kDone);
  EXPECT_EQ(match(4), Index());

  raft.silent.clear();  // a disk that answers, and goes before the log can bind it
  for (int i = 0; i < 3; ++i) raft.pass(milliseconds(50));
  EXPECT_GT(match(4), Index());
  raft.silent = {NodeId(4)};
  GenesisMember other = members_of(4).members[3];
  other.disk_id.bytes[0] = 44;
  reach(other);
  EXPECT_TRUE(advance());
  EXPECT_EQ(membership.list().find(NodeId(4))->disk_id, other.disk_id);
  EXPECT_EQ(match(4), Index());
  EXPECT_FALSE(raft.core->conf().is_voter(NodeId(4)));
}

TEST_F(MembershipTest, TransferToNobodyFitIsRefused) {
  lead();
  MemberChange transfer;
  transfer.kind = Kind::kTransfer;
  transfer.member.id = NodeId(1);
  EXPECT_THAT(change(transfer).text, HasSubstr("leads already"));
  transfer.member.id = NodeId(9);
  EXPECT_EQ(change(transfer).code, ChangeCode::kRefused);
}

TEST_F(MembershipTest, TransferToUnfitVoterSaysWhy) {
  lead();
  MemberChange transfer;
  transfer.kind = Kind::kTransfer;
  Membership::DiskProblems disks;
  auto refusal = [&](uint64_t to) {
    transfer.member.id = NodeId(to);
    const Membership::Decision decision = membership.decide(transfer, *raft.core, disks);
    EXPECT_EQ(decision.event.has_value(), decision.outcome.done());
    return decision.event ? "" : decision.outcome.text;
  };
  EXPECT_EQ(refusal(2), "");
  EXPECT_EQ(refusal(0), "");
  disks[NodeId(2)] = "is full";
  EXPECT_EQ(refusal(2), "the disk of node 2 is full");
  EXPECT_EQ(refusal(0), "") << "node 3 can";
  raft.step(raft::PeerReached{NodeId(3), uint8_t{0}});
  EXPECT_THAT(refusal(3), HasSubstr("never leads: its raft.priority is 0. Change it"));
  EXPECT_EQ(refusal(0), "the disk of node 2 is full; node 3 never leads: its raft.priority is 0");
  membership.peer_lost(NodeId(2));
  EXPECT_EQ(refusal(2), "node 2 does not answer this leader");
}

TEST_F(MembershipTest, MovedPeerIsWrittenDown) {
  lead();
  EXPECT_FALSE(advance());
  GenesisMember moved = members_of(3).members[1];
  moved.peer_address = "elsewhere:1";
  reach(moved);
  EXPECT_TRUE(advance());
  EXPECT_EQ(membership.list().find(NodeId(2))->peer_address, "elsewhere:1");
}

TEST_F(MembershipTest, AskedLeaderAnswersOrTimesOut) {
  std::vector<ChangeOutcome> answers;
  auto done = [&](ChangeOutcome outcome) { answers.push_back(outcome); };
  Effects out;
  membership.ask_leader(add(4), *raft.core, raft.now.time, done, out);
  ASSERT_EQ(answers.size(), 1u);
  EXPECT_EQ(answers[0].code, ChangeCode::kNoLeader);
  EXPECT_THAT(out.messages, IsEmpty());

  lead();  // it asks itself; the test only needs a leader
  for (int i = 0; i < 2; ++i) {
    membership.ask_leader(add(4), *raft.core, raft.now.time, done, out);
  }
  ASSERT_EQ(out.messages.size(), 2u);
  const auto request = std::get<wire::ChangeRequest>(out.messages[0].second);
  membership.on_answer(
      {request.number, ChangeOutcome{ChangeCode::kDone, "appended", Index(5)}.encode()});
  ASSERT_EQ(answers.size(), 2u);
  EXPECT_EQ(answers[1].index, Index(5));
  membership.on_answer({request.number, ""});  // late: no request waits for it
  raft.now.time += Membership::kAnswerTimeout;
  Effects ignored;
  membership.advance(*raft.core, raft.now.time, ignored);
  ASSERT_EQ(answers.size(), 3u);
  EXPECT_EQ(answers[2].code, ChangeCode::kTimeout);
}

}  // namespace
}  // namespace connectd::node
