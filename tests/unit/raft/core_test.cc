// One test for each rule of the paper and the thesis, named by section, on a single core: messages
// in, effects out. Node 1 is under test; the others are what the test says they are.

#include "raft/core.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <set>
#include <utility>

#include "base/limits.h"
#include "raft/invariants.h"
#include "raft/progress.h"
#include "raft/term_limits.h"
#include "tests/unit/raft/three.h"

namespace connectd::raft {
namespace {

using std::chrono::milliseconds;

const NodeId kMe(1);

Entry entry(uint64_t index, uint64_t term, EntryKind kind = EntryKind::kCommand,
            std::string payload = "x") {
  Entry e;
  e.index = Index(index);
  e.term = Term(term);
  e.kind = kind;
  e.stamp_ns = static_cast<int64_t>(index);
  e.payload = Slice::copy_of(payload);
  e.checksum = entry_checksum(e);
  return e;
}

// A core and its host, which keeps every effect until the test takes it.
class Host {
 public:
  explicit Host(std::vector<uint64_t> log = {}, uint64_t term = 0, ConfState conf = three(),
                Options options = {}) {
    options.id = kMe;
    Initial initial;
    initial.conf = std::move(conf);
    initial.last_index = Index(log.size());
    for (size_t i = 0; i < log.size(); ++i) {
      if (i == 0 || log[i] != log[i - 1]) initial.terms.push_back({Index(i + 1), Term(log[i])});
    }
    initial.hard_state.term = Term(std::max(term, log.empty() ? 0 : log.back()));
    core = std::make_unique<Core>(options, initial, now);
  }

  void step(Event event) {
    core->step(std::move(event), now);
    turn();
  }
  void turn() {
    check();
    Ready ready = core->take_ready();
    check();
    for (Envelope& m : ready.messages) sent.push_back(std::move(m));
    if (ready.append) batches.push_back(std::move(*ready.append));
    for (Entry& e : ready.committed) committed.push_back(e.index);
    for (ReadState& read : ready.reads) reads.push_back(read);
    for (uint64_t context : ready.reads_dropped) reads_dropped.push_back(context);
    for (LoadRequest& load : ready.loads) loads.push_back(load);
    for (const SnapshotNeed& need : ready.snapshots) snapshots.push_back(need.peer);
    if (!ready.snapshots.empty()) least = ready.snapshots.back().least;
    proposals_dropped += ready.proposals_dropped;
  }
  void receive(uint64_t from, uint64_t term, Message message) {
    step(Received{{NodeId(from), kMe, Term(term), std::move(message)}});
  }
  // All batches are durable.
  void persist() {
    while (!batches.empty()) {
      AppendBatch batch = std::move(batches.front());
      batches.erase(batches.begin());
      for (Envelope& m : batch.after_durable) sent.push_back(std::move(m));
      step(AppendDone{batch.id});
    }
  }
  void pass(Duration duration) { now.time += duration; }
  void time_out() {
    now.time = std::max(now.time, core->next_deadline());
    step(TimePassed{});
  }
  // Leader of the next term, by the votes of 2 and 3.
  void lead() {
    time_out();
    Term term = core->term() + 1;
    receive(2, term.value(), PreVoteResponse{true});
    persist();
    receive(2, term.value(), VoteResponse{true, now.wall_ns});
    ASSERT_EQ(core->role(), Role::kLeader);
  }
  void lead_and_commit() {
    lead();
    persist();
    accept(2, core->last_index().value());
    accept(3, core->last_index().value());
    ASSERT_TRUE(core->leader_is_ready());
    sent.clear();
  }
  // The follower answers the last append or heartbeat that was sent to it.
  void accept(uint64_t from, uint64_t index) {
    AppendResponse response;
    response.success = true;
    response.index = Index(index);
    response.round = last_round(from);
    receive(from, core->term().value(), response);
  }
  // It has nothing behind that entry.
  void refuse(uint64_t from, uint64_t hint_index, uint64_t hint_term) {
    AppendResponse refusal;
    for (const PeerStatus& peer : core->peers()) {
      if (peer.id == NodeId(from)) refusal.index = peer.next - 1;
    }
    refusal.hint_index = Index(hint_index);
    refusal.hint_term = Term(hint_term);
    refusal.round = last_round(from);
    receive(from, core->term().value(), refusal);
  }
  void answer_heartbeat(uint64_t from) {
    receive(from, core->term().value(), HeartbeatResponse{last_round(from), now.wall_ns});
  }
  uint64_t last_round(uint64_t to) const {
    uint64_t round = 0;
    for (const Envelope& m : sent) {
      if (m.to != NodeId(to)) continue;
      if (const auto* append = std::get_if<AppendRequest>(&m.message)) round = append->round;
      if (const auto* heartbeat = std::get_if<Heartbeat>(&m.message)) round = heartbeat->round;
    }
    return round;
  }
  template <class M>
  std::vector<M> take(uint64_t to = 0) {
    std::vector<M> found;
    for (const Envelope& m : sent) {
      if (to != 0 && m.to != NodeId(to)) continue;
      if (const M* message = std::get_if<M>(&m.message)) found.push_back(*message);
    }
    sent.clear();
    return found;
  }
  void propose(std::string payload, int count = 1) {
    Propose propose;
    for (int i = 0; i < count; ++i) {
      Proposal proposal;
      proposal.payload = Slice::copy_of(payload);
      propose.proposals.push_back(proposal);
    }
    step(std::move(propose));
  }
  void append(uint64_t from, uint64_t term, uint64_t prev_index, uint64_t prev_term,
              std::vector<Entry> entries, uint64_t commit = 0) {
    receive(
        from, term,
        AppendRequest{Index(prev_index), Term(prev_term), Index(commit), 1, std::move(entries)});
  }

  Now now{Time(std::chrono::seconds(100)), 1'700'000'000'000'000'000};
  std::unique_ptr<Core> core;
  std::vector<Envelope> sent;
  std::vector<AppendBatch> batches;
  std::vector<Index> committed;
  std::vector<ReadState> reads;
  std::vector<uint64_t> reads_dropped;
  std::vector<LoadRequest> loads;
  std::vector<NodeId> snapshots;
  Index least;  // of the last one
  size_t proposals_dropped = 0;

 private:
  void check() { ASSERT_EQ(checker_.after_step(*core), ""); }
  InvariantChecker checker_;
};

// ---- elections

TEST(Paper52, ElectionTimeoutsAreDrawnAfreshFromTTo2T) {
  Host host;
  std::set<Duration> drawn;
  for (int i = 0; i < 50; ++i) {
    Time from = host.now.time;
    Duration timeout = host.core->next_deadline() - from;
    EXPECT_GE(timeout, milliseconds(500));
    EXPECT_LT(timeout, milliseconds(1000));
    drawn.insert(timeout);
    host.time_out();
  }
  EXPECT_GT(drawn.size(), 40u);
}

TEST(Paper52, NodesWithTheSameSeedDrawDifferently) {
  Initial initial;
  initial.conf = three();
  Options options;
  options.id = NodeId(1);
  Now now{Time(std::chrono::seconds(1)), 0};
  Time one = Core(options, initial, now).next_deadline();
  options.id = NodeId(2);
  EXPECT_NE(Core(options, initial, now).next_deadline(), one);
}

TEST(Paper52, OwnVoteAndTheRequestsWaitForTheDisk) {
  Host host;
  host.time_out();
  host.receive(2, 1, PreVoteResponse{true});
  EXPECT_EQ(host.core->role(), Role::kCandidate);
  EXPECT_TRUE(host.take<VoteRequest>().empty());
  host.receive(2, 1, VoteResponse{true, 1});
  EXPECT_EQ(host.core->role(), Role::kCandidate);  // one vote; the own one is not durable
  host.persist();
  EXPECT_EQ(host.core->role(), Role::kLeader);
}

// Catalogue A11: timeouts that are short against the disk's latency.
TEST(Paper52, CandidateWaitsForItsDiskAndThenAWholeTimeout) {
  Host host;
  host.time_out();
  host.receive(2, 1, PreVoteResponse{true});
  for (int i = 0; i < 3; ++i) host.time_out();
  EXPECT_EQ(host.core->role(), Role::kCandidate);
  EXPECT_EQ(host.core->term(), Term(1));
  host.pass(milliseconds(400));
  host.persist();
  EXPECT_EQ(host.take<VoteRequest>().size(), 2u);
  EXPECT_GE(host.core->next_deadline() - host.now.time, milliseconds(500));
  host.time_out();
  EXPECT_EQ(host.core->role(), Role::kPreCandidate);
}

TEST(PaperFigure2, OneVoteInATermAndItSurvivesAStepDown) {
  Host host({1}, 1);
  host.receive(2, 2, VoteRequest{Index(1), Term(1)});
  EXPECT_TRUE(host.take<VoteResponse>().empty());  // not before it is durable
  ASSERT_EQ(host.batches.size(), 1u);
  EXPECT_EQ(host.batches[0].hard_state.vote, NodeId(2));
  host.persist();
  EXPECT_TRUE(host.take<VoteResponse>(2).at(0).granted);
  host.receive(3, 2, VoteRequest{Index(9), Term(1)});
  EXPECT_FALSE(host.take<VoteResponse>(3).at(0).granted);
  host.receive(2, 2, VoteRequest{Index(1), Term(1)});  // catalogue A3: asks again
  EXPECT_TRUE(host.take<VoteResponse>(2).at(0).granted);
}

TEST(PaperFigure2, LeaderThatStepsDownInItsTermKeepsItsVote) {
  Host host;
  host.lead_and_commit();
  for (int i = 0; i < 30; ++i) host.time_out();
  EXPECT_EQ(host.core->role() == Role::kLeader, false);
  EXPECT_EQ(host.core->hard_state().vote, kMe);
  EXPECT_EQ(host.core->term(), Term(1));
}

TEST(Paper541, OnlyAnUpToDateLogGetsAVote) {
  struct Case {
    uint64_t index, term;
    bool granted;
  };
  for (Case c : {Case{3, 2, true}, {4, 2, true}, {2, 2, false}, {9, 1, false}, {1, 3, true}}) {
    Host host({1, 2, 2}, 3);
    host.receive(2, 4, VoteRequest{Index(c.index), Term(c.term)});
    host.persist();
    EXPECT_EQ(host.take<VoteResponse>().at(0).granted, c.granted) << c.index << "/" << c.term;
    Host other({1, 2, 2}, 3);
    other.receive(2, 4, PreVoteRequest{Index(c.index), Term(c.term)});
    EXPECT_EQ(other.take<PreVoteResponse>().at(0).granted, c.granted) << c.index << "/" << c.term;
    EXPECT_EQ(other.core->term(), Term(3));
  }
}

TEST(Thesis96, PreVoteGrantOfAnotherCampaignDoesNotCount) {
  Host host({1}, 5);
  host.time_out();
  host.receive(2, 5, PreVoteResponse{true});
  EXPECT_EQ(host.core->role(), Role::kPreCandidate);
  host.receive(2, 6, PreVoteResponse{true});
  EXPECT_EQ(host.core->role(), Role::kCandidate);
}

TEST(Thesis96, RefusalWithAHigherTermBringsTheTerm) {
  Host host({1}, 2);
  host.time_out();
  host.receive(2, 7, PreVoteResponse{false});
  EXPECT_EQ(host.core->role(), Role::kFollower);
  EXPECT_EQ(host.core->term(), Term(7));
}

TEST(Thesis423, NodeWithALeaderIgnoresCandidates) {
  Host host({1}, 1);
  host.append(2, 1, 1, 1, {});
  host.sent.clear();
  host.pass(milliseconds(499));
  host.receive(3, 9, VoteRequest{Index(9), Term(9)});
  host.receive(3, 9, PreVoteRequest{Index(9), Term(9)});
  EXPECT_EQ(host.core->term(), Term(1));
  EXPECT_TRUE(host.sent.empty());
  host.receive(3, 9, VoteRequest{Index(9), Term(9), true});  // §3.10: the leader wishes it
  EXPECT_EQ(host.core->term(), Term(9));
}

TEST(Thesis423, StickinessEndsAfterATimeoutAndWithTheConnection) {
  Host host({1}, 1);
  host.append(2, 1, 1, 1, {});
  host.pass(milliseconds(500));
  host.receive(3, 2, PreVoteRequest{Index(1), Term(1)});
  EXPECT_TRUE(host.take<PreVoteResponse>().at(0).granted);

  Host other({1}, 1);
  other.append(2, 1, 1, 1, {});
  other.step(PeerLost{NodeId(2)});
  EXPECT_EQ(other.core->leader(), NodeId());
  EXPECT_LE(other.core->next_deadline() - other.now.time, milliseconds(100));
  other.receive(3, 2, PreVoteRequest{Index(1), Term(1)});
  EXPECT_TRUE(other.take<PreVoteResponse>().at(0).granted);
}

TEST(Thesis423, StrangersDoNotDisturb) {
  Host host({1}, 1);
  host.append(2, 1, 1, 1, {});
  host.sent.clear();
  host.receive(77, 9, VoteRequest{Index(9), Term(9)});  // there is a leader
  host.receive(77, 9, AppendResponse{});
  host.receive(77, 9, PreVoteResponse{false});
  EXPECT_EQ(host.core->term(), Term(1));
  EXPECT_TRUE(host.sent.empty());
}

// Thesis §4.1: the asker may have become a member by a change that this node has not heard of.
TEST(Thesis41, VoteIsGivenWhoeverAsks) {
  Host host({1}, 1);
  host.receive(77, 2, PreVoteRequest{Index(1), Term(1)});
  EXPECT_TRUE(host.take<PreVoteResponse>().at(0).granted);
  host.receive(77, 2, VoteRequest{Index(1), Term(1)});
  host.persist();
  EXPECT_TRUE(host.take<VoteResponse>(77).at(0).granted);
}

TEST(Thesis62, CheckQuorumIsCountedFromNow) {
  Host host;
  host.lead_and_commit();
  host.pass(std::chrono::seconds(10));  // the process was stopped
  host.step(TimePassed{});
  EXPECT_EQ(host.core->role(), Role::kLeader);
  Time resumed = host.now.time;
  while (host.core->role() == Role::kLeader) host.time_out();
  EXPECT_GE(host.now.time - resumed, milliseconds(500));
  EXPECT_LT(host.now.time - resumed, milliseconds(600));
}

TEST(Thesis62, AnswersToWhatWasSentBeforeAGapDoNotCount) {
  Host host;
  host.lead_and_commit();
  host.propose("x");
  uint64_t before = host.last_round(2);
  host.pass(std::chrono::seconds(10));
  host.step(TimePassed{});
  host.receive(2, 1, HeartbeatResponse{before, 0});
  EXPECT_FALSE(host.core->peers().at(0).active);
  host.answer_heartbeat(2);
  EXPECT_TRUE(host.core->peers().at(0).active);
}

TEST(Thesis310, TimeoutNowOnlyWhenTheTargetHasEverything) {
  Host host;
  host.lead_and_commit();
  host.propose("x");
  host.step(TransferLeadership{NodeId(3)});
  EXPECT_TRUE(host.core->is_transferring());
  host.propose("refused");
  EXPECT_EQ(host.proposals_dropped, 1u);
  EXPECT_TRUE(host.take<TimeoutNow>().empty());
  host.accept(3, 2);
  EXPECT_EQ(host.take<TimeoutNow>(3).size(), 1u);
}

// One proposal of another kind spoils the whole Propose.
TEST(Propose, TakesOnlyKindsThatMayBeProposed) {
  for (const EntryKindRow& row : kEntryKinds) {
    Host host({1});
    host.lead_and_commit();
    const Index before = host.core->last_index();
    Propose propose;
    propose.proposals.resize(2);
    propose.proposals[1].kind = row.kind;
    host.step(std::move(propose));
    const bool taken = may_be_proposed(row.kind) && host.core->settings().allow(row.since_level);
    EXPECT_EQ(host.proposals_dropped, taken ? 0u : 1u) << row.name;
    EXPECT_EQ(host.core->last_index(), taken ? before + 2 : before) << row.name;
  }
}

TEST(FeatureLevel, LevelInForceDecidesWhatMayBeProposed) {
  Options options;
  options.feature_level_max = kNextFeatureLevel;
  Host host({1}, 0, three(), options);
  host.lead_and_commit();
  auto propose = [&] {
    Propose event;
    event.proposals.emplace_back().kind = EntryKind::kLevelProbe;
    host.step(std::move(event));
  };
  propose();
  EXPECT_EQ(host.proposals_dropped, 1u);
  Settings settings = host.core->settings();
  settings.feature_level = kNextFeatureLevel;
  host.step(ChangeSettings{settings});
  ASSERT_EQ(host.core->settings().feature_level, kNextFeatureLevel);
  const Index before = host.core->last_index();
  propose();
  EXPECT_EQ(host.proposals_dropped, 1u);
  EXPECT_EQ(host.core->last_index(), before + 1);
}

TEST(FeatureLevel, NeverFallsAndNeverPassesOwnHighest) {
  Options options;
  options.feature_level_max = 3;
  Host host({1}, 0, three(), options);
  host.lead_and_commit();
  auto change = [&](uint32_t level) {
    Settings settings = host.core->settings();
    settings.feature_level = level;
    host.step(ChangeSettings{settings});
    return host.core->settings().feature_level;
  };
  EXPECT_EQ(change(4), kFirstFeatureLevel);
  EXPECT_EQ(change(3), 3u);
  EXPECT_EQ(change(2), 3u);
}

// The gate keeps such an entry away from a build that does not support its level. Should it come
// all the same, it is not taken.
TEST(FeatureLevel, FollowerTakesNoSettingsOfHigherLevel) {
  Host host;
  Settings settings;
  settings.feature_level = kReleasedFeatureLevel + 1;
  AppendRequest request;
  Entry& entry = request.entries.emplace_back();
  entry.index = Index(1);
  entry.term = Term(1);
  entry.kind = EntryKind::kSettings;
  entry.payload = Slice::copy_of(settings.encode());
  entry.checksum = entry_checksum(entry);
  host.receive(2, 1, request);
  EXPECT_EQ(host.core->last_index(), Index(0));
  EXPECT_TRUE(host.take<AppendResponse>().empty());
}

TEST(Thesis310, TransferIsGivenUpAfterAnElectionTimeout) {
  Host host;
  host.lead_and_commit();
  host.propose("x");
  host.step(TransferLeadership{NodeId(3)});
  Time start = host.now.time;
  while (host.now.time < start + milliseconds(500)) {
    host.answer_heartbeat(2);
    host.time_out();
  }
  EXPECT_FALSE(host.core->is_transferring());
  host.propose("taken");
  EXPECT_EQ(host.proposals_dropped, 0u);
}

TEST(Thesis310, TargetIsFoundAlsoWhenAQuorumPeriodHasJustBegun) {
  Host host;
  host.lead_and_commit();
  Time next_period = host.now.time + milliseconds(500);
  while (host.now.time < next_period) {
    host.answer_heartbeat(2);
    host.time_out();
  }
  ASSERT_EQ(host.core->role(), Role::kLeader);
  host.sent.clear();
  host.step(TransferLeadership{});
  EXPECT_EQ(host.take<TimeoutNow>(2).size(), 1u);  // 3 is dead
}

TEST(Thesis310, FailedTargetComesLastUnfitOneNever) {
  Host host;
  host.lead_and_commit();
  host.answer_heartbeat(2);
  host.answer_heartbeat(3);
  auto is_over = [&] {
    host.answer_heartbeat(2);
    host.answer_heartbeat(3);
    host.time_out();
    return !host.core->is_transferring();
  };
  host.step(TransferLeadership{});
  EXPECT_EQ(host.take<TimeoutNow>(2).size(), 1u);
  while (!is_over()) {
  }
  host.sent.clear();
  host.step(TransferLeadership{});
  EXPECT_EQ(host.take<TimeoutNow>(3).size(), 1u);
  while (!is_over()) {
  }
  host.sent.clear();
  host.step(Unfit{{NodeId(2)}});
  host.step(TransferLeadership{});
  EXPECT_EQ(host.take<TimeoutNow>(3).size(), 1u) << "better one that failed than one to avoid";
  while (!is_over()) {
  }
  host.sent.clear();
  host.step(Unfit{{NodeId(2), NodeId(3)}});
  host.step(TransferLeadership{});
  EXPECT_FALSE(host.core->is_transferring());
}

TEST(Thesis310, NodeThatCannotLeadOnlyVotes) {
  Host host({1}, 1);
  host.append(2, 1, 1, 1, {});
  host.step(Candidacy{false});
  host.receive(2, 1, TimeoutNow{});
  for (int i = 0; i < 5; ++i) host.time_out();
  EXPECT_EQ(host.core->role(), Role::kFollower);
  EXPECT_EQ(host.core->term(), Term(1));
  host.receive(3, 2, VoteRequest{Index(1), Term(1), true});
  host.persist();
  EXPECT_TRUE(host.take<VoteResponse>(3).at(0).granted);
  host.step(Candidacy{true});
  host.time_out();
  EXPECT_EQ(host.core->role(), Role::kPreCandidate);
}

TEST(Thesis310, TargetCampaignsWithoutPreVote) {
  Host host({1}, 1);
  host.append(2, 1, 1, 1, {});
  host.receive(3, 1, TimeoutNow{});  // not the leader
  EXPECT_EQ(host.core->role(), Role::kFollower);
  host.receive(2, 1, TimeoutNow{});
  EXPECT_EQ(host.core->role(), Role::kCandidate);
  host.persist();
  EXPECT_TRUE(host.take<VoteRequest>().at(0).leader_transfer);
}

TEST(Thesis421, LearnerDoesNotCampaign) {
  Host host({1}, 1, {{NodeId(2), NodeId(3)}, {}, {NodeId(1)}});
  for (int i = 0; i < 5; ++i) host.time_out();
  EXPECT_EQ(host.core->role(), Role::kFollower);
  EXPECT_EQ(host.core->term(), Term(1));
}

// One of the peers may know that the cluster was recovered without this node.
TEST(Recovered, NoCampaignBeforePeersAreTried) {
  Options options;
  options.awaits_peers = true;
  Host host({1}, 1, three(), options);
  for (int i = 0; i < 5; ++i) host.time_out();
  EXPECT_EQ(host.core->role(), Role::kFollower);
  host.receive(3, 2, VoteRequest{Index(1), Term(1)});
  host.persist();
  EXPECT_TRUE(host.take<VoteResponse>(3).at(0).granted) << "it votes meanwhile";
  host.step(PeersTried{});
  host.time_out();
  EXPECT_EQ(host.core->role(), Role::kPreCandidate);

  Host follower({1}, 1, three(), options);
  follower.append(2, 1, 1, 1, {});
  follower.time_out();
  EXPECT_EQ(follower.core->role(), Role::kPreCandidate) << "it has heard a leader";
}

TEST(Recovered, QuorumCountsWithoutABreak) {
  Host host({1}, 1);
  EXPECT_FALSE(host.core->quorum_since());
  const Time heard = host.now.time;
  host.append(2, 1, 1, 1, {});
  host.pass(milliseconds(499));
  host.append(2, 1, 1, 1, {});
  EXPECT_EQ(host.core->quorum_since(), heard);
  host.pass(milliseconds(500));
  host.step(ApplyDone{});  // the time passes, and nothing else
  EXPECT_FALSE(host.core->quorum_since());
  host.append(2, 1, 1, 1, {});
  EXPECT_EQ(host.core->quorum_since(), host.now.time) << "after a break it counts anew";
  host.step(PeerLost{NodeId(2)});
  EXPECT_FALSE(host.core->quorum_since());
  host.lead();
  EXPECT_EQ(host.core->quorum_since(), host.now.time);

  Options options;
  options.check_quorum = false;
  Host unchecked({1}, 1, three(), options);
  unchecked.append(2, 1, 1, 1, {});
  EXPECT_FALSE(unchecked.core->quorum_since()) << "its leader may be alone";
}

// ---- replication

TEST(Paper53, ProposalsOfATurnLeaveInOneAppend) {
  Host host;
  host.lead_and_commit();
  for (int i = 0; i < 3; ++i) {
    Propose propose;
    propose.proposals.resize(5);
    host.core->step(std::move(propose), host.now);
  }
  host.turn();
  auto appends = host.take<AppendRequest>(2);
  ASSERT_EQ(appends.size(), 1u);
  EXPECT_EQ(appends[0].entries.size(), 15u);
  EXPECT_EQ(host.batches.back().entries.size(), 15u);
  EXPECT_EQ(appends[0].entries[0].checksum, entry_checksum(appends[0].entries[0]));
}

TEST(Paper53, LimitSplitsAndOneEntryAlwaysGoes) {
  Options options;
  options.max_append_bytes = 2 * entry(1, 1).weight();
  Host host({}, 0, three(), options);
  host.lead_and_commit();
  host.propose("x", 5);
  auto appends = host.take<AppendRequest>(2);
  ASSERT_EQ(appends.size(), 3u);
  EXPECT_EQ(appends[2].prev_index, Index(5));
  host.propose(std::string(1000, 'x'));
  EXPECT_EQ(host.take<AppendRequest>(2).at(0).entries.size(), 1u);
}

TEST(Paper53, FollowerRefusesAGapWithAHint) {
  Host host({1, 1, 2, 2, 2}, 2);
  host.append(2, 5, 9, 5, {entry(10, 5)});
  host.persist();
  auto response = host.take<AppendResponse>().at(0);
  EXPECT_FALSE(response.success);
  EXPECT_EQ(response.index, Index(9));
  EXPECT_EQ(response.hint_index, Index(5));
  host.append(2, 5, 4, 1, {entry(5, 5)});  // a whole term is skipped
  response = host.take<AppendResponse>().at(0);
  EXPECT_EQ(response.hint_index, Index(2));
  EXPECT_EQ(response.hint_term, Term(1));
}

// Paper, figure 7: each follower of the figure takes the leader's log, in few round trips.
TEST(PaperFigure7, EveryFollowerIsBroughtToTheLeadersLog) {
  const std::vector<uint64_t> leader_log = {1, 1, 1, 4, 4, 5, 5, 6, 6, 6, 8};
  const std::vector<std::vector<uint64_t>> followers = {{1, 1, 1, 4, 4, 5, 5, 6, 6},
                                                        {1, 1, 1, 4},
                                                        {1, 1, 1, 4, 4, 5, 5, 6, 6, 6, 6},
                                                        {1, 1, 1, 4, 4, 5, 5, 6, 6, 6, 7, 7},
                                                        {1, 1, 1, 4, 4, 4, 4},
                                                        {1, 1, 1, 2, 2, 2, 3, 3, 3, 3, 3}};
  for (const auto& log : followers) {
    Host follower(log, 7);
    uint64_t next = leader_log.size();  // the leader's no-op
    int trips = 0;
    for (bool done = false; !done; ++trips) {
      ASSERT_LT(trips, 6);
      std::vector<Entry> entries;
      for (uint64_t i = next; i <= leader_log.size(); ++i) {
        entries.push_back(entry(i, leader_log[i - 1]));
      }
      follower.append(2, 8, next - 1, next > 1 ? leader_log[next - 2] : 0, std::move(entries));
      follower.persist();
      auto response = follower.take<AppendResponse>().at(0);
      done = response.success;
      // As a leader does: the largest position at or below the hint whose term is not higher.
      uint64_t i = std::min<uint64_t>(response.hint_index.value(), leader_log.size());
      while (i > 0 && leader_log[i - 1] > response.hint_term.value()) --i;
      next = i + 1;
    }
    for (uint64_t i = 1; i <= leader_log.size(); ++i) {
      EXPECT_EQ(follower.core->term_at(Index(i)), Term(leader_log[i - 1]));
    }
    EXPECT_EQ(follower.core->last_index(), Index(leader_log.size()));
    EXPECT_EQ(follower.core->durable_index(), Index(leader_log.size()));
  }
}

// Catalogue B20.
TEST(Paper53, StaleShorterAppendTruncatesNothing) {
  Host host({1}, 1);
  host.append(2, 1, 1, 1, {entry(2, 1), entry(3, 1)});
  host.persist();
  host.append(2, 1, 1, 1, {entry(2, 1)});
  host.append(2, 1, 0, 0, {});
  EXPECT_EQ(host.core->last_index(), Index(3));
  EXPECT_TRUE(host.batches.empty());
}

// Catalogue B21.
// A follower whose disk stalls, while it answers heartbeats, must not be sent window after window:
// it keeps all of them in memory.
TEST(Thesis1021, StalledDiskIsSentOneWindow) {
  Options options;
  options.inflight_bytes = 10'000;
  Host host({}, 0, three(), options);
  host.lead_and_commit();
  size_t sent = 0;
  Index highest;
  for (int i = 0; i < 400; ++i) {
    host.pass(milliseconds(10));
    host.core->step(TimePassed{}, host.now);
    host.propose(std::string(1000, 'x'));
    host.persist();
    host.accept(2, host.core->last_index().value());
    for (const Envelope& m : std::exchange(host.sent, {})) {
      if (m.to != NodeId(3)) continue;
      if (const auto* heartbeat = std::get_if<Heartbeat>(&m.message)) {
        host.receive(3, 1, HeartbeatResponse{heartbeat->round, 0});
      } else if (const auto* append = std::get_if<AppendRequest>(&m.message)) {
        for (const Entry& e : append->entries) {
          if (e.index <= highest) continue;
          highest = e.index;
          sent += e.weight();
        }
        if (append->entries.empty()) {  // a probe reveals the durable entries there: the no-op
          AppendResponse response;
          response.success = true;
          response.index = Index(1);
          response.round = append->round;
          host.receive(3, 1, response);
        }
      }
    }
  }
  EXPECT_GT(sent, 9'000u);
  EXPECT_LT(sent, 10'000u + Progress::kProbeBytes + 2'000u);
  // The disk is back.
  host.accept(3, highest.value());
  EXPECT_EQ(host.core->peers().at(1).state, PeerStatus::State::kReplicate);
}

TEST(PaperFigure2, CommitGoesNoFurtherThanTheLastNewEntry) {
  Host host({1, 1, 1, 1}, 1);
  host.append(2, 2, 1, 1, {entry(2, 2)}, 9);
  EXPECT_EQ(host.core->commit_index(), Index(2));
  Host other({1, 1, 1, 1}, 1);
  other.append(2, 2, 2, 1, {}, 9);
  EXPECT_EQ(other.core->commit_index(), Index(2));
}

// Catalogue B22: a leader never says so, but a log that is shorter than it thinks must not break.
TEST(PaperFigure2, HeartbeatCommitsNothingThatIsNotThere) {
  Host host({1}, 1);
  host.receive(2, 1, Heartbeat{Index(50), 1});
  EXPECT_EQ(host.core->commit_index(), Index(1));
}

// Catalogue B23.
TEST(Paper53, EntriesThatDoNotFollowOneAnotherAreRefused) {
  Host host({1}, 1);
  host.append(2, 2, 1, 1, {entry(2, 2), entry(4, 2)});
  host.append(2, 2, 1, 1, {entry(3, 2)});
  host.append(2, 2, 1, 1, {entry(2, 3)});
  EXPECT_EQ(host.core->last_index(), Index(1));
}

// Nobody ends for a message that cannot be true: it is refused, and the host is told.
TEST(Contradiction, TwoLeadersInOneTerm) {
  Host follower({1, 1}, 1);
  follower.receive(2, 1, Heartbeat{Index(), 1});
  EXPECT_EQ(follower.core->contradiction(), "");
  follower.receive(3, 1, Heartbeat{Index(2), 1});
  EXPECT_NE(follower.core->contradiction(), "");
  EXPECT_EQ(follower.core->leader(), NodeId(2));
  EXPECT_EQ(follower.core->commit_index(), Index());
  follower.receive(3, 1, AppendRequest{Index(2), Term(1), Index(), 1, {entry(3, 1)}});
  EXPECT_NE(follower.core->contradiction(), "");
  EXPECT_EQ(follower.core->last_index(), Index(2));
  follower.receive(2, 1, Heartbeat{Index(), 2});
  EXPECT_EQ(follower.core->contradiction(), "");

  Host leader({1, 1}, 1);
  leader.lead();
  leader.receive(2, leader.core->term().value(), Heartbeat{Index(), 1});
  EXPECT_NE(leader.core->contradiction(), "");
  EXPECT_EQ(leader.core->role(), Role::kLeader);
}

// Else one message takes every node to where it cannot count on; and a node that is far behind must
// reach a cluster that is beyond the limit.
TEST(TermsOutOfReach, AreApproachedInSteps) {
  Host host({1, 1}, 1);
  const Term leaders(kMaxTermJump + 3 * kMaxTermStep);
  host.receive(2, leaders.value(), Heartbeat{Index(), 1});
  EXPECT_EQ(host.core->contradiction(), "");
  EXPECT_EQ(host.core->term(), Term(kMaxTermJump + kMaxTermStep));
  EXPECT_FALSE(host.core->leader());
  host.receive(2, leaders.value(), Heartbeat{Index(), 2});
  host.receive(2, leaders.value(), Heartbeat{Index(), 3});
  EXPECT_EQ(host.core->term(), leaders);
  EXPECT_EQ(host.core->leader(), NodeId(2));
}

TEST(TermsOutOfReach, VoteIsNotGivenInThem) {
  Host host({1, 1}, 1);
  host.receive(2, kMaxReceivedNumber, PreVoteRequest{Index(9), Term(9)});
  EXPECT_EQ(host.core->term(), Term(1));
  host.receive(2, kMaxReceivedNumber, VoteRequest{Index(9), Term(9), true});
  EXPECT_EQ(host.core->term(), Term(kMaxTermJump + kMaxTermStep));
  host.persist();
  EXPECT_TRUE(host.take<VoteResponse>().empty());
}

// Below the commit index prev_term is not looked at, so it proves nothing about what follows.
TEST(Contradiction, TermsBelowTheCommittedLog) {
  Host host({2, 2, 3}, 3);
  host.receive(2, 3, AppendRequest{Index(3), Term(3), Index(2), 1, {}});
  host.receive(2, 3, Heartbeat{Index(2), 1});
  ASSERT_EQ(host.core->commit_index(), Index(2));
  host.receive(2, 3, AppendRequest{Index(1), Term(1), Index(2), 2, {entry(2, 1), entry(3, 1)}});
  EXPECT_NE(host.core->contradiction(), "");
  EXPECT_EQ(host.core->term_at(Index(3)), Term(3));
}

TEST(Contradiction, EntriesThatNoLeaderWrote) {
  for (const Entry& bad :
       {entry(4, 1), entry(3, 4), entry(3, 0), entry(3, 1, EntryKind::kConfChange),
        entry(3, 1, EntryKind::kSettings)}) {
    Host host({1, 1}, 1);
    host.receive(2, 1, AppendRequest{Index(2), Term(1), Index(), 1, {bad}});
    EXPECT_NE(host.core->contradiction(), "");
    EXPECT_EQ(host.core->last_index(), Index(2));
  }
}

TEST(Paper53, ResponseWaitsForTheDisk) {
  Host host({1}, 1);
  host.append(2, 1, 1, 1, {entry(2, 1)});
  EXPECT_TRUE(host.take<AppendResponse>().empty());
  host.append(2, 1, 2, 1, {});  // reports the durable index
  auto response = host.take<AppendResponse>().at(0);
  EXPECT_TRUE(response.success);
  EXPECT_EQ(response.index, Index(1));
  host.append(2, 1, 1, 1, {entry(2, 1)});  // a duplicate must wait as the first did
  EXPECT_TRUE(host.take<AppendResponse>().empty());
  host.persist();
  auto responses = host.take<AppendResponse>();
  ASSERT_EQ(responses.size(), 2u);
  EXPECT_EQ(responses[0].index, Index(2));
  EXPECT_EQ(responses[1].index, Index(2));
}

TEST(Paper542, OnlyEntriesOfTheOwnTermAreCommittedByCounting) {
  Host host({1, 1, 1}, 1);
  host.lead();
  host.persist();
  host.accept(2, 3);
  host.accept(3, 3);
  EXPECT_EQ(host.core->commit_index(), Index(0));
  host.accept(2, 4);
  EXPECT_EQ(host.core->commit_index(), Index(4));
}

TEST(Thesis1021, LeaderCountsItselfWhenItsDiskIsDone) {
  Host host;
  host.lead_and_commit();
  host.propose("x");
  host.accept(2, 2);
  EXPECT_EQ(host.core->commit_index(), Index(1));
  host.accept(3, 2);  // without the leader's disk
  EXPECT_EQ(host.core->commit_index(), Index(2));
  EXPECT_EQ(host.core->durable_index(), Index(1));
  host.propose("y");
  host.persist();
  EXPECT_EQ(host.core->commit_index(), Index(2));
  host.accept(2, 3);
  EXPECT_EQ(host.core->commit_index(), Index(3));
}

TEST(Paper53, NewCommitIndexLeavesAtOnce) {
  Host host;
  host.lead_and_commit();
  host.propose("x");
  host.persist();
  host.sent.clear();
  host.accept(2, 2);
  EXPECT_EQ(host.core->commit_index(), Index(2));
  EXPECT_EQ(host.take<AppendRequest>(3).at(0).commit, Index(2));
}

// Catalogue B24: three writes of index 2 are in flight; only the last one makes it durable.
TEST(AcknowledgementRule, RestoredEntryIsNotDurableByItsFirstWrite) {
  Host host({1}, 1);
  host.append(2, 2, 1, 1, {entry(2, 2)});
  host.append(3, 3, 1, 1, {entry(2, 3)});
  host.append(2, 4, 1, 1, {entry(2, 2)});
  ASSERT_EQ(host.batches.size(), 3u);
  EXPECT_EQ(host.batches[1].replaces_from, Index(2));
  EXPECT_EQ(host.batches[2].replaces_from, Index(2));
  uint64_t first = host.batches[0].id;
  host.step(AppendDone{first});
  EXPECT_EQ(host.core->durable_index(), Index(1));
  host.step(AppendDone{first + 1});
  EXPECT_EQ(host.core->durable_index(), Index(1));
  host.step(AppendDone{first + 2});
  EXPECT_EQ(host.core->durable_index(), Index(2));
}

TEST(AcknowledgementRule, ChangeOfTermSubmitsABatchThatVouches) {
  Host host({1}, 1);
  host.append(2, 2, 1, 1, {entry(2, 2)});
  host.receive(3, 5, VoteRequest{Index(0), Term(0), true});
  ASSERT_EQ(host.batches.size(), 2u);
  EXPECT_TRUE(host.batches[1].entries.empty());
  uint64_t first = host.batches[0].id;
  host.step(AppendDone{first});
  EXPECT_EQ(host.core->durable_index(), Index(1));
  host.step(AppendDone{first + 1});
  EXPECT_EQ(host.core->durable_index(), Index(2));
}

// Catalogue B25.
TEST(SingleVoter, CommitsOnlyWhatItsDiskHas) {
  Host host({}, 0, {{kMe}, {}, {}});
  host.time_out();
  host.persist();
  EXPECT_EQ(host.core->role(), Role::kLeader);
  EXPECT_EQ(host.core->commit_index(), Index(1));
  host.propose("x");
  EXPECT_EQ(host.core->commit_index(), Index(1));
  host.persist();
  EXPECT_EQ(host.core->commit_index(), Index(2));
}

TEST(Thesis43, JointConfigurationFollowsTheLog) {
  ConfState joint{{NodeId(1), NodeId(4)}, {NodeId(1), NodeId(2), NodeId(3)}, {}};
  Host host({1}, 1);
  host.append(2, 2, 1, 1, {entry(2, 2, EntryKind::kConfChange, joint.encode())});
  EXPECT_EQ(host.core->conf(), joint);
  host.append(3, 3, 1, 1, {entry(2, 3)});
  EXPECT_EQ(host.core->conf(), three());
  host.append(3, 3, 2, 3, {entry(3, 3, EntryKind::kConfChange, "rubbish")});
  EXPECT_EQ(host.core->last_index(), Index(2));
}

TEST(Thesis43, JointLeaderNeedsBothMajorities) {
  Host host({}, 0, {{NodeId(1), NodeId(4), NodeId(5)}, {NodeId(1), NodeId(2), NodeId(3)}, {}});
  host.time_out();
  host.receive(4, 1, PreVoteResponse{true});
  host.receive(5, 1, PreVoteResponse{true});
  EXPECT_EQ(host.core->role(), Role::kPreCandidate);
  host.receive(3, 1, PreVoteResponse{true});
  EXPECT_EQ(host.core->role(), Role::kCandidate);
  host.persist();
  host.receive(4, 1, VoteResponse{true, 1});
  EXPECT_EQ(host.core->role(), Role::kCandidate);
  host.receive(2, 1, VoteResponse{true, 1});
  EXPECT_EQ(host.core->role(), Role::kLeader);
  host.persist();
  host.accept(4, 1);
  host.accept(5, 1);
  EXPECT_EQ(host.core->commit_index(), Index(0));
  host.accept(3, 1);
  EXPECT_EQ(host.core->commit_index(), Index(1));
}

// ---- reads

// Catalogue C32.
TEST(Thesis64, ReadsWaitForAnEntryOfTheTerm) {
  Host host({1}, 1);
  host.lead();
  host.step(ReadRequest{7});
  host.persist();
  host.answer_heartbeat(2);
  host.answer_heartbeat(3);
  EXPECT_TRUE(host.reads.empty());
  host.accept(2, 2);
  host.answer_heartbeat(2);
  ASSERT_EQ(host.reads.size(), 1u);
  EXPECT_EQ(host.reads[0].index, Index(2));
}

// Entries are answered by the disk, reads and the check of the quorum must not wait for it.
TEST(Thesis64, WritesOfTheSameTurnDoNotMakeReadsWaitForTheDisk) {
  Host host;
  host.lead_and_commit();
  host.core->step(ReadRequest{7}, host.now);
  host.propose("x");
  EXPECT_GT(host.core->peers().at(0).inflight_bytes, 0u);
  for (const Heartbeat& heartbeat : host.take<Heartbeat>(2)) {
    host.receive(2, 1, HeartbeatResponse{heartbeat.round, 0});
  }
  EXPECT_EQ(host.reads.size(), 1u);
}

// Catalogue A12 and A13.
TEST(Thesis62, OpenLoadOnSlowDisksDoesNotEndALeadership) {
  Host host;
  host.lead_and_commit();
  host.answer_heartbeat(2);
  for (int i = 0; i < 100; ++i) {  // more than an election timeout, with entries in every turn
    host.pass(milliseconds(10));
    host.core->step(TimePassed{}, host.now);
    host.propose("x");
    for (const Heartbeat& heartbeat : host.take<Heartbeat>(2)) {
      host.receive(2, 1, HeartbeatResponse{heartbeat.round, 0});
    }
  }
  EXPECT_EQ(host.core->role(), Role::kLeader);
}

// Catalogue C33, C34.
TEST(Thesis64, OnlyAnswersToLaterRoundsConfirmARead) {
  Host host;
  host.lead_and_commit();
  host.pass(milliseconds(60));
  host.step(TimePassed{});
  uint64_t earlier = host.last_round(2);
  host.step(ReadRequest{7});
  host.receive(2, 1, HeartbeatResponse{earlier, 0});
  EXPECT_TRUE(host.reads.empty());
  host.answer_heartbeat(2);
  EXPECT_EQ(host.reads.size(), 1u);
}

TEST(Thesis64, ReadsOfATurnShareARound) {
  Host host;
  host.lead_and_commit();
  for (uint64_t i = 0; i < 100; ++i) host.core->step(ReadRequest{i}, host.now);
  host.turn();
  EXPECT_EQ(host.sent.size(), 2u);
  host.answer_heartbeat(3);
  EXPECT_EQ(host.reads.size(), 100u);
}

TEST(Thesis64, ReadsAreGivenBackWithLeadership) {
  Host host;
  host.lead_and_commit();
  host.step(ReadRequest{7});
  host.receive(2, 5, HeartbeatResponse{});
  EXPECT_EQ(host.reads_dropped, (std::vector<uint64_t>{7}));
}

TEST(Thesis64, FollowerAsksOnceATurnAndGivesUpAfterATimeout) {
  Host host({1}, 1);
  host.step(ReadRequest{1});
  EXPECT_EQ(host.reads_dropped, (std::vector<uint64_t>{1}));  // no leader
  host.append(2, 1, 1, 1, {});
  host.sent.clear();
  host.core->step(ReadRequest{2}, host.now);
  host.core->step(ReadRequest{3}, host.now);
  host.turn();
  auto asks = host.take<ReadIndexRequest>(2);
  ASSERT_EQ(asks.size(), 1u);
  host.receive(3, 1, ReadIndexResponse{asks[0].context, Index(1)});  // not the leader
  EXPECT_TRUE(host.reads.empty());
  host.receive(2, 1, ReadIndexResponse{asks[0].context, Index(1)});
  EXPECT_EQ(host.reads.size(), 2u);
  host.step(ReadRequest{4});
  for (int i = 0; i < 12; ++i) {
    host.pass(milliseconds(45));
    host.receive(2, 1, Heartbeat{Index(), 1});
    host.step(TimePassed{});
  }
  EXPECT_EQ(host.reads_dropped, (std::vector<uint64_t>{1, 4}));
}

// ---- apply, loads, snapshots

TEST(Apply, IsBoundedByWhatIsNotYetApplied) {
  Options options;
  options.apply_bytes = 3 * entry(1, 1).weight();
  Host host({}, 0, three(), options);
  host.append(2, 1, 0, 0, {});
  std::vector<Entry> entries;
  for (uint64_t i = 1; i <= 20; ++i) entries.push_back(entry(i, 1));
  host.append(2, 1, 0, 0, std::move(entries), 20);
  EXPECT_EQ(host.committed.size(), 3u);
  for (int i = 0; i < 10; ++i) host.turn();
  EXPECT_EQ(host.committed.size(), 6u);
  host.step(ApplyDone{Index(3)});
  EXPECT_EQ(host.committed.size(), 9u);
  for (int i = 0; i < 20; ++i) host.step(ApplyDone{host.committed.back()});
  EXPECT_EQ(host.committed.size(), 20u);
}

TEST(Apply, AfterARestartTheLogIsLoaded) {
  Host host({1, 1, 1}, 1);
  host.append(2, 1, 3, 1, {}, 3);
  ASSERT_EQ(host.loads.size(), 1u);
  EXPECT_EQ(host.loads[0].from, Index(1));
  EXPECT_EQ(host.loads[0].to, Index(4));
  host.turn();
  EXPECT_EQ(host.loads.size(), 1u);  // one at a time
  host.step(Loaded{Index(1), {entry(1, 1), entry(2, 1)}});
  EXPECT_EQ(host.committed, (std::vector<Index>{Index(1), Index(2)}));
  EXPECT_EQ(host.loads.back().from, Index(3));
}

TEST(Snapshot, CompactedEntriesAreSentAsASnapshot) {
  Host host;
  host.lead_and_commit();
  host.propose("x", 5);
  host.persist();
  host.accept(2, 6);
  host.step(ApplyDone{Index(6)});
  host.step(Compacted{Index(6)});
  host.step(PeerReached{NodeId(3)});
  AppendResponse refusal;
  refusal.index = host.core->peers().at(1).next - 1;
  refusal.hint_index = Index(1);
  refusal.hint_term = Term(1);
  host.receive(3, 1, refusal);
  EXPECT_EQ(host.snapshots, (std::vector<NodeId>{NodeId(3)}));
  host.sent.clear();
  host.step(SnapshotSent{NodeId(3), true, {Index(6), Term(1)}});
  EXPECT_EQ(host.take<AppendRequest>(3).at(0).prev_index, Index(6));
}

// Of a build that accepted larger requests than a frame holds.
TEST(Snapshot, CarriesAnEntryThatNoFrameHolds) {
  Options options;
  options.max_append_bytes = options.max_payload_bytes = 100;
  Host host({1, 1, 1}, 1, three(), options);
  host.lead();
  host.persist();
  host.accept(2, 4);
  ASSERT_TRUE(host.core->leader_is_ready());
  host.refuse(3, 1, 1);
  host.loads.clear();
  host.accept(3, 1);
  ASSERT_EQ(host.loads.size(), 1u);
  EXPECT_EQ(host.loads[0].from, Index(2));
  host.step(Loaded{Index(2), {entry(2, 1, EntryKind::kCommand, std::string(101, 'x'))}});
  EXPECT_EQ(host.snapshots, (std::vector<NodeId>{NodeId(3)}));
  EXPECT_EQ(host.least, Index(2));
}

// It cannot commit: the followers do not have it, and must be able to replace it.
TEST(Snapshot, WithAnUncommittedOneThisNodeDoesNotLead) {
  Options options;
  options.max_append_bytes = options.max_payload_bytes = 100;
  Host host({}, 0, three(), options);
  host.append(2, 1, 0, 0, {entry(1, 1, EntryKind::kCommand, std::string(101, 'x'))});
  host.persist();
  host.lead();
  host.persist();
  host.refuse(3, 0, 0);
  host.accept(3, 0);
  EXPECT_EQ(host.core->role(), Role::kFollower);
  const Term term = host.core->term();
  host.time_out();
  host.time_out();
  EXPECT_EQ(host.core->term(), term) << "it campaigns";
  host.append(2, term.value() + 1, 0, 0, {entry(1, term.value() + 1)});
  host.persist();
  host.time_out();
  EXPECT_EQ(host.core->role(), Role::kPreCandidate) << "it was replaced";
}

TEST(Snapshot, ProposalThatNoFrameHoldsIsDropped) {
  Options options;
  options.max_append_bytes = options.max_payload_bytes = 100;
  Host host({}, 0, three(), options);
  host.lead_and_commit();
  host.propose(std::string(100, 'x'));
  EXPECT_EQ(host.core->last_index(), Index(2));
  host.propose(std::string(101, 'x'));
  EXPECT_EQ(host.core->last_index(), Index(2));
  EXPECT_EQ(host.proposals_dropped, 1u);
}

// Catalogue E48 and E49; paper figure 13, step 6.
TEST(Snapshot, KeepsALogThatHoldsItAndReplacesOneThatDoesNot) {
  Host keeps({1, 1, 2}, 2);
  keeps.append(2, 2, 3, 2, {});
  keeps.step(SnapshotInstalled{{Index(2), Term(1)}, three(), 2});
  EXPECT_EQ(keeps.core->last_index(), Index(3));
  EXPECT_EQ(keeps.core->commit_index(), Index(2));
  EXPECT_EQ(keeps.core->applied_index(), Index(2));

  Host replaces({1, 1, 1, 1}, 3);
  replaces.step(SnapshotInstalled{{Index(3), Term(2)}, three(), 2});
  EXPECT_EQ(replaces.core->first_index(), Index(4));
  EXPECT_EQ(replaces.core->last_index(), Index(3));
  EXPECT_EQ(replaces.core->durable_index(), Index(3));
  replaces.append(2, 3, 3, 2, {entry(4, 3)}, 4);
  EXPECT_EQ(replaces.committed, (std::vector<Index>{Index(4)}));
}

TEST(Snapshot, OlderOneChangesNothing) {
  Host host({1}, 1);
  host.append(2, 1, 1, 1, {entry(2, 1), entry(3, 1)}, 3);
  host.step(Loaded{Index(1), {entry(1, 1)}});
  host.turn();
  host.step(ApplyDone{Index(3)});
  host.step(SnapshotInstalled{{Index(2), Term(1)}, three(), 2});
  EXPECT_EQ(host.core->applied_index(), Index(3));
  EXPECT_EQ(host.core->last_index(), Index(3));
}

// Thesis §4.2.1. A transfer goes on while its receiver campaigns: nobody told it of the new leader.
TEST(Snapshot, EndsTheCampaignOfANodeThatIsNoVoter) {
  const ConfState others{{NodeId(2), NodeId(3)}, {}, {NodeId(1)}};
  Host pre({1}, 1);
  pre.time_out();
  ASSERT_EQ(pre.core->role(), Role::kPreCandidate);
  pre.step(SnapshotInstalled{{Index(3), Term(1)}, others, 2});
  EXPECT_EQ(pre.core->role(), Role::kFollower);

  Host host({1}, 1);
  host.time_out();
  host.receive(2, 2, PreVoteResponse{true});
  host.persist();
  ASSERT_EQ(host.core->role(), Role::kCandidate);
  host.step(SnapshotInstalled{{Index(3), Term(1)}, others, 2});
  EXPECT_EQ(host.core->role(), Role::kFollower);
  host.receive(2, 2, VoteResponse{true, 1});
  EXPECT_EQ(host.core->role(), Role::kFollower);

  Host voter({1}, 1);
  voter.time_out();
  voter.step(SnapshotInstalled{{Index(3), Term(1)}, three(), 2});
  EXPECT_EQ(voter.core->role(), Role::kPreCandidate);
}

// Catalogue B31: an append that begins within the snapshot.
TEST(Snapshot, AppendMayBeginBehindTheSnapshot) {
  Host host({}, 2);
  host.step(SnapshotInstalled{{Index(5), Term(2)}, three(), 2});
  host.append(2, 2, 2, 1, {entry(3, 1), entry(4, 1), entry(5, 2), entry(6, 2)}, 6);
  host.persist();
  EXPECT_EQ(host.core->last_index(), Index(6));
  EXPECT_EQ(host.take<AppendResponse>().back().index, Index(6));
}

// A follower applies what is committed while its own disk still writes it; its snapshot of that may
// be durable first.
TEST(Snapshot, MayBeOfATermThatTheHardStateDoesNotKnowYet) {
  Initial initial;
  initial.conf = three();
  initial.hard_state = {Term(1), NodeId(3), Index(4)};
  initial.snapshot = {Index(9), Term(2)};
  initial.first_index = Index(10);
  initial.before_first_term = Term(2);
  initial.last_index = initial.applied = Index(9);
  Options options;
  options.id = kMe;
  Now now{Time(std::chrono::seconds(100)), 0};
  Core core(options, initial, now);
  EXPECT_EQ(core.hard_state(), (HardState{Term(2), NodeId(), Index(9)}));
  Ready ready = core.take_ready();
  ASSERT_TRUE(ready.append.has_value());
  EXPECT_EQ(ready.append->hard_state.term, Term(2));
}

// ---- log time

constexpr int64_t kDayNs = int64_t{86'400} * 1'000'000'000;

// Two of three are known at the election, and they disagree.
TEST(CoreLogTime, LateClockHoldsItOnlyUntilAThirdIsHeard) {
  for (bool by_vote : {true, false}) {
    Host host;
    EXPECT_EQ(host.core->log_time(), std::nullopt);
    host.time_out();
    host.receive(2, 1, PreVoteResponse{true});
    host.persist();
    host.receive(2, 1, VoteResponse{true, host.now.wall_ns - kDayNs});
    ASSERT_EQ(host.core->role(), Role::kLeader);
    EXPECT_EQ(host.core->log_time(), host.now.wall_ns - kDayNs + 1) << "after the no-op";
    if (by_vote) {
      host.receive(3, 1, VoteResponse{true, host.now.wall_ns - 5});
    } else {
      host.receive(3, 1, HeartbeatResponse{0, host.now.wall_ns - 5});
    }
    EXPECT_EQ(host.core->log_time(), host.now.wall_ns - 5);
    EXPECT_EQ(host.core->log_time_view()->furthest, NodeId(2));
  }
}

// The cluster was idle for an hour when its leader fell silent.
TEST(CoreLogTime, ContinuesThatOfTheLeaderBefore) {
  Host host;
  Entry first = entry(1, 1);
  first.stamp_ns = host.now.wall_ns + 7;
  first.checksum = entry_checksum(first);
  host.append(2, 1, 0, 0, {first});
  host.pass(std::chrono::hours(1));
  host.now.wall_ns += kDayNs;  // it is wrong, and nobody can tell
  host.step(TimePassed{});
  host.time_out();
  host.receive(3, 2, PreVoteResponse{true});
  host.persist();
  const Time began = host.now.time;
  host.receive(3, 2, VoteResponse{true, host.now.wall_ns - kDayNs - 2 * 3'600'000'000'000});
  ASSERT_EQ(host.core->role(), Role::kLeader);
  EXPECT_EQ(*host.core->log_time(),
            first.stamp_ns + (began - Time(std::chrono::seconds(100))).count() + 1);
}

// A leader's own clock, at the ends of all clocks: no sum leaves its type (UBSan looks).
TEST(CoreLogTime, OwnClockBeyondAllClocksIsNone) {
  Host host;
  host.now.wall_ns = kMaxWallNs;
  host.lead_and_commit();
  EXPECT_FALSE(host.core->log_time_view()->is_certain);
  EXPECT_EQ(host.core->log_time_view()->known, 0u);
  for (int64_t wall : {INT64_MAX, INT64_MIN, int64_t{0}, -kMaxWallNs, kMaxWallNs}) {
    host.now.wall_ns = wall;
    host.pass(std::chrono::milliseconds(50));
    host.step(TimePassed{});
    host.propose("x");
  }
}

// ---- the checker

TEST(InvariantChecker, SeesWhatGoesBack) {
  InvariantChecker checker;
  Host host({1, 1}, 5);
  host.append(2, 5, 2, 1, {}, 2);
  EXPECT_EQ(checker.after_step(*host.core), "");
  Host earlier({1, 1}, 4);
  EXPECT_NE(checker.after_step(*earlier.core), "");
  checker.restarted(kMe);
  EXPECT_EQ(checker.after_step(*earlier.core), "");
}

}  // namespace
}  // namespace connectd::raft
