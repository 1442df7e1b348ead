// Clusters of whole nodes on disks that are full or stall: who takes what, who leads, and that all
// of it ends by itself. (More of it, at random: the simulator.)
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <deque>

#include "node/node.h"
#include "sim/faulty_file_system.h"
#include "tests/unit/node/hello.h"
#include "tests/unit/node/holder_harness.h"
#include "tests/unit/node/tape_plugin.h"

namespace connectd::node {
namespace {

using sim::FaultyFileSystem;
using ::testing::HasSubstr;
using ::testing::StartsWith;

constexpr uint64_t kSegment = 4096;
constexpr uint64_t kMinFree = 64 << 10;
constexpr Duration kElectionTimeout = milliseconds(500);
constexpr int kTimeout = 500;  // the same, in steps

// Nodes 1 to n in one loop. A step is a millisecond; messages arrive in the next one.
class Cluster {
 public:
  struct Member final : wire::Transport, Supervisor {
    Cluster* cluster = nullptr;
    NodeId id;
    FaultyFileSystem files;
    NodeOptions options;
    std::unique_ptr<Node> node;
    std::optional<Error> fatal;
    bool stalled = false;  // its disk completes nothing
    int life = 0;

    void send(NodeId to, wire::PeerMessage message) override {
      cluster->under_way_.push_back({id, to, std::move(message)});
    }
    void flush() override {}
    void wake() override {}
    void fail(Error error) override {
      if (!fatal) fatal = std::move(error);
    }
    bool leads() const { return node && node->core().role() == raft::Role::kLeader; }
  };

  explicit Cluster(uint64_t nodes) {
    genesis.cluster_id.bytes[0] = 1;
    genesis.cluster_name = "demo";
    genesis.max_request = 4096;
    genesis.plugin_name = "tape";
    genesis.plugin_level = 1;
    for (uint64_t i = 1; i <= nodes; ++i) {
      auto member = std::make_unique<Member>();
      member->cluster = this;
      member->id = NodeId(i);
      member->options.id = member->id;
      member->options.disk_id.bytes[0] = static_cast<uint8_t>(i);
      member->options.raft.election_timeout = kElectionTimeout;
      member->options.wall_clock = [] { return int64_t{1'700'000'000'000'000'000}; };
      member->options.log.segment_bytes = kSegment;
      member->options.min_free_bytes = kMinFree;
      genesis.members.push_back({member->id, member->options.disk_id, "h:1", "h:2", "h:3"});
      members.push_back(std::move(member));
    }
    for (auto& member : members) start(*member);
  }

  Member& member(uint64_t id) { return *members[id - 1]; }
  bool start(Member& m) {
    ++m.life;
    m.fatal.reset();
    m.options.seed = m.id.value() * 100 + static_cast<uint64_t>(m.life);
    m.options.incarnation = m.options.seed;
    m.options.may_begin_log = m.life == 1;
    Node::Host host;
    host.files = &m.files;
    host.data_dir = "data";
    host.plugin = tape_plugin();
    host.transport = &m;
    host.supervisor = &m;
    auto opened = Node::open(m.options, genesis, std::move(host), clocks());
    if (!opened) {
      m.fatal = opened.error();
      return false;
    }
    m.node = std::move(*opened);
    for (auto& other : members) {
      if (other.get() == &m || !other->node) continue;
      meet(m, *other);
      meet(*other, m);
    }
    return true;
  }
  void stop(Member& m) {
    m.node.reset();
    m.files.restart_process();
    for (auto& other : members) {
      if (other->node) other->node->on_peer_lost(m.id);
    }
  }
  void step() {
    now += milliseconds(1);
    for (auto& [from, to, message] : std::exchange(under_way_, {})) {
      Member& m = member(to.value());
      if (!m.node) continue;
      m.node->set_now(clocks());
      EXPECT_EQ(m.node->on_message(hello_of(from, member(from.value()).options.disk_id),
                                   std::move(message)),
                "");
    }
    for (auto& m : members) {
      if (!m->node) continue;
      m->node->turn(clocks());
      if (!m->stalled) {
        m->node->writer().poll_once();
        m->node->writer().idle(now);
        m->node->worker().poll_once();
      }
      m->node->applier().poll_once();
      ASSERT_FALSE(m->fatal) << "node " << m->id.value() << ": " << m->fatal->text;
    }
  }
  template <class Condition>
  bool until(Condition condition, int steps = 20'000) {
    for (int i = 0; i < steps; ++i) {
      if (condition()) return true;
      step();
      if (::testing::Test::HasFatalFailure()) return false;
    }
    return condition();
  }
  void pass(int steps) {
    until([] { return false; }, steps);
  }
  Member* leader() {
    Member* found = nullptr;
    for (auto& m : members) {
      if (!m->leads() || !m->node->core().leader_is_ready()) continue;
      if (found == nullptr || m->node->core().term() > found->node->core().term()) found = m.get();
    }
    return found;
  }
  Member& await_leader() {
    EXPECT_TRUE(until([&] { return leader() != nullptr; }));
    return *leader();
  }
  Member& follower() {
    for (auto& m : members) {
      if (m->node && m.get() != leader()) return *m;
    }
    ADD_FAILURE() << "no follower";
    return member(1);
  }
  std::string call(Member& via, std::string_view request) {
    auto client = std::make_unique<RecordingClient>();
    client->stream = via.node->open_stream(*client);
    client->submit(request);
    until([&] { return !client->codes.empty(); });
    std::string reply = client->reply(0);
    if (request.front() != 'r' && reply.starts_with("OK "))
      acknowledged += fmt::format("{};", request);
    return reply;
  }
  // All that was acknowledged, in order, and nothing else.
  void expect_nothing_lost() {
    for (auto& m : members) {
      if (!m->node) continue;
      EXPECT_EQ(call(*m, "r"), "OK " + acknowledged) << "node " << m->id.value();
    }
  }
  // Of the requests in flight.
  size_t refusals_by(NodeId from) const {
    return static_cast<size_t>(std::ranges::count_if(under_way_, [&](const Message& m) {
      const auto* envelope = std::get_if<raft::Envelope>(&m.message);
      const auto* answer =
          envelope == nullptr ? nullptr : std::get_if<raft::AppendResponse>(&envelope->message);
      return m.from == from && answer != nullptr && !answer->success;
    }));
  }
  void fill(Member& m) { m.files.set_free(0); }
  // Writes, until the log of the full member has used up its reserve.
  bool fill_log(Member& full, Member& via) {
    for (int i = 0; i < 200 && !full.node->log_is_full(); ++i) {
      EXPECT_THAT(call(via, fmt::format("a{}", i)), StartsWith("OK"));
    }
    return full.node->log_is_full();
  }
  void free(Member& m) { m.files.set_capacity(UINT64_MAX); }
  bool all_refuse() {
    return std::ranges::all_of(members, [](auto& m) { return m->node->disks().writes_stopped(); });
  }
  bool none_refuses() {
    return std::ranges::none_of(members, [](auto& m) { return m->node->disks().writes_stopped(); });
  }
  Now clocks() const { return {now, 1'700'000'000'000'000'000 + now.time_since_epoch().count()}; }

  Genesis genesis;
  std::vector<std::unique_ptr<Member>> members;
  Time now{seconds(1000)};
  std::string acknowledged;

 private:
  struct Message {
    NodeId from;
    NodeId to;
    wire::PeerMessage message;
  };
  void meet(Member& a, Member& b) {
    a.node->on_peer_reached(b.id, hello_of(b.id, b.options.disk_id));
  }
  std::deque<Message> under_way_;
};

// ---- full

TEST(NodeOnAFullDisk, NoQuorumWithSpaceRejectsWritesOnly) {
  Cluster cluster(3);
  Cluster::Member& first = cluster.await_leader();
  for (auto& m : cluster.members)
    EXPECT_THAT(cluster.call(*m, fmt::format("w{}", m->id)), StartsWith("OK"));
  cluster.fill(cluster.member(1));
  cluster.fill(cluster.member(2));
  cluster.fill(cluster.member(3));
  ASSERT_TRUE(cluster.until([&] { return cluster.all_refuse(); }, 3000));
  for (auto& m : cluster.members) {
    EXPECT_THAT(cluster.call(*m, "no"), StartsWith("DISKFULL no quorum of nodes has"));
  }
  cluster.expect_nothing_lost();
  Index last = first.node->core().last_index();
  cluster.pass(3000);
  EXPECT_EQ(first.node->core().last_index(), last) << "nothing is written meanwhile";

  // kill -9 of the leader while all are full, and it starts while they are.
  cluster.stop(first);
  Cluster::Member& second = cluster.await_leader();
  EXPECT_NE(&first, &second);
  EXPECT_THAT(cluster.call(second, "no"), StartsWith("DISKFULL"));
  ASSERT_TRUE(cluster.start(first)) << first.fatal->text;
  ASSERT_TRUE(cluster.until([&] { return cluster.all_refuse(); }, 5000));
  cluster.expect_nothing_lost();

  // One more is enough.
  cluster.free(cluster.member(1));
  cluster.pass(3000);
  EXPECT_TRUE(cluster.all_refuse());
  cluster.free(cluster.member(2));
  ASSERT_TRUE(cluster.until([&] { return cluster.none_refuses(); }, 4000));
  for (auto& m : cluster.members)
    EXPECT_THAT(cluster.call(*m, fmt::format("x{}", m->id)), StartsWith("OK"));
  cluster.expect_nothing_lost();
}

TEST(NodeOnAFullDisk, OneOfThreeIsNotMissedAndComesBack) {
  Cluster cluster(3);
  cluster.await_leader();
  Cluster::Member& full = cluster.follower();
  cluster.fill(full);
  ASSERT_TRUE(cluster.until([&] { return full.node->disks().is_full(); }, 3000));
  EXPECT_TRUE(cluster.none_refuses());
  // Its clients' writes work as long as its log has room.
  EXPECT_THAT(cluster.call(full, "via-the-full-one"), StartsWith("OK"));
  for (int i = 0; !full.node->log_is_full(); ++i) {
    ASSERT_LT(i, 200);
    EXPECT_THAT(cluster.call(*cluster.leader(), fmt::format("a{}", i)), StartsWith("OK"));
  }
  // From here on it rejects entries, tells its own clients, and votes and follows as before.
  Index had = full.node->core().last_index();
  cluster.pass(100);
  EXPECT_THAT(cluster.call(full, "no"), StartsWith("DISKFULL this node's disk is full"));
  for (int i = 0; i < 100; ++i) {
    EXPECT_THAT(cluster.call(*cluster.leader(), std::string(500, 'b')), StartsWith("OK"));
  }
  cluster.pass(4000);
  EXPECT_LE(full.node->core().last_index(), had + 5);
  EXPECT_EQ(full.node->core().leader(), cluster.leader()->id);
  EXPECT_FALSE(full.node->writer().waits_for_space());

  cluster.free(full);
  Index last = cluster.leader()->node->core().last_index();
  ASSERT_TRUE(cluster.until([&] { return full.node->applied_index() >= last; }, 5000));
  ASSERT_TRUE(cluster.until([&] { return !full.node->log_is_full(); }, 1500));
  cluster.pass(60);
  EXPECT_THAT(cluster.call(full, "again"), StartsWith("OK"));
  cluster.expect_nothing_lost();
}

// Each refusal makes the leader send its window again: as many as there are messages would be a
// storm.
TEST(NodeOnAFullDisk, FullLogRejectsGapOncePerTimeout) {
  Cluster cluster(3);
  Cluster::Member& leader = cluster.await_leader();
  Cluster::Member& full = cluster.follower();
  cluster.fill(full);
  ASSERT_TRUE(cluster.fill_log(full, leader));
  const raft::Core& core = full.node->core();
  auto refusals_of = [&](int messages) {
    const size_t before = cluster.refusals_by(full.id);
    for (int i = 0; i < messages; ++i) {
      raft::AppendRequest behind_a_gap;
      behind_a_gap.prev_index = core.last_index() + 10 + static_cast<uint64_t>(i);
      behind_a_gap.prev_term = core.term();
      EXPECT_EQ(
          full.node->on_message(hello_of(leader.id, leader.options.disk_id),
                                raft::Envelope{leader.id, full.id, core.term(), behind_a_gap}),
          "");
    }
    full.node->turn(cluster.clocks());
    return cluster.refusals_by(full.id) - before;
  };
  cluster.pass(kTimeout);
  EXPECT_EQ(refusals_of(50), 1);
  EXPECT_EQ(refusals_of(50), 0);
  cluster.pass(kTimeout);
  EXPECT_EQ(refusals_of(50), 1) << "a new leader needs one, to find where the logs match";
}

// A node without room may be the one whose vote is missing.
TEST(NodeWithoutDescriptors, RejectsEntriesAndComesBack) {
  Cluster cluster(3);
  cluster.await_leader();
  Cluster::Member& poor = cluster.follower();
  poor.files.set_out_of_descriptors(true);
  ASSERT_TRUE(cluster.fill_log(poor, *cluster.leader()));
  cluster.pass(1200);
  EXPECT_THAT(cluster.call(poor, "no"), StartsWith("DISKFULL this node has no file descriptor"));
  for (int i = 0; i < 50; ++i) {
    EXPECT_THAT(cluster.call(*cluster.leader(), std::string(500, 'b')), StartsWith("OK"));
  }
  cluster.pass(3000);
  EXPECT_FALSE(poor.fatal);
  EXPECT_EQ(poor.node->core().leader(), cluster.leader()->id);

  poor.files.set_out_of_descriptors(false);
  Index last = cluster.leader()->node->core().last_index();
  ASSERT_TRUE(cluster.until([&] { return poor.node->applied_index() >= last; }, 5000));
  ASSERT_TRUE(cluster.until([&] { return !poor.node->log_is_full(); }, 1500));
  cluster.pass(60);
  EXPECT_THAT(cluster.call(poor, "again"), StartsWith("OK"));
  cluster.expect_nothing_lost();
}

// A leader reads what a follower lacks from a segment that is not open: that waits, too, and the
// follower is not sent a snapshot instead.
TEST(NodeWithoutDescriptors, LoadOfOldEntriesWaits) {
  Cluster cluster(3);
  for (auto& m : cluster.members) {
    cluster.stop(*m);
    m->options.raft.cache_bytes = 4096;
    ASSERT_TRUE(cluster.start(*m));
  }
  Cluster::Member& leader = cluster.await_leader();
  Cluster::Member& behind = cluster.follower();
  cluster.stop(behind);
  for (int i = 0; i < 150; ++i) {
    EXPECT_THAT(cluster.call(leader, std::string(2000, 'c')), StartsWith("OK"));
  }
  for (auto& m : cluster.members) m->files.set_out_of_descriptors(m.get() != &behind);
  ASSERT_TRUE(cluster.start(behind));
  cluster.pass(3000);
  EXPECT_LT(behind.node->applied_index(), leader.node->applied_index());
  for (auto& m : cluster.members) m->files.set_out_of_descriptors(false);
  Index last = leader.node->core().last_index();
  ASSERT_TRUE(cluster.until([&] { return behind.node->applied_index() >= last; }, 5000));
  EXPECT_EQ(behind.node->snapshot_index(), Index());
  cluster.expect_nothing_lost();
}

TEST(NodeOnAFullDisk, FullLogStillElectsLeaderAndServesReads) {
  Cluster cluster(3);
  Cluster::Member& leader = cluster.await_leader();
  Cluster::Member& full = cluster.follower();
  cluster.fill(full);
  ASSERT_TRUE(cluster.fill_log(full, leader));
  Index last = leader.node->core().last_index();
  ASSERT_TRUE(cluster.until([&] { return full.node->core().durable_index() == last; }));
  Term before = leader.node->core().term();
  cluster.stop(leader);
  Cluster::Member& next = cluster.await_leader();
  EXPECT_GT(next.node->core().term(), before);
  EXPECT_EQ(cluster.call(next, "r"), "OK " + cluster.acknowledged);
}

TEST(NodeOnAFullDisk, FullLeaderHandsOverToAVoterWithSpace) {
  Cluster cluster(3);
  Cluster::Member& first = cluster.await_leader();
  Cluster::Member& also_full = cluster.follower();
  cluster.fill(also_full);
  cluster.pass(1500);
  EXPECT_TRUE(first.leads());
  cluster.free(also_full);
  cluster.pass(2500);
  cluster.fill(also_full);
  cluster.pass(1500);
  cluster.fill(first);
  ASSERT_TRUE(cluster.until(
      [&] { return cluster.leader() != nullptr && cluster.leader() != &first; }, 4000));
  EXPECT_NE(cluster.leader(), &also_full);
  Cluster::Member& last = *cluster.leader();
  cluster.pass(10'000);
  EXPECT_TRUE(last.leads()) << "it stays there";
}

// Sent before the leader's report arrived. The sender learns the outcome by a new session.
TEST(NodeOnAFullDisk, LeaderRejectsForwardedWritesOpensSessions) {
  Cluster cluster(3);
  Cluster::Member& leader = cluster.await_leader();
  Cluster::Member& follower = cluster.follower();
  EXPECT_EQ(cluster.call(follower, "one"), "OK 1");
  for (auto& m : cluster.members) cluster.fill(*m);
  ASSERT_TRUE(cluster.until([&] { return cluster.all_refuse(); }, 3000));
  auto forward = [&](raft::EntryKind kind) {
    raft::Proposal proposal;
    proposal.kind = kind;
    proposal.session = follower.node->holder().session();
    proposal.sequence = Sequence(2);
    proposal.payload =
        kind == raft::EntryKind::kCommand
            ? Slice::copy_of("two")
            : Slice::copy_of(
                  wire::SessionOwner{follower.id, follower.options.incarnation}.encode());
    Index before = leader.node->core().last_index();
    leader.node->set_now(cluster.clocks());
    const wire::ForwardProposals proposals{leader.node->core().term(), {std::move(proposal)}};
    EXPECT_EQ(leader.node->on_message(hello_of(follower.id, follower.options.disk_id), proposals),
              "");
    cluster.pass(20);
    return leader.node->core().last_index() - before;
  };
  EXPECT_EQ(forward(raft::EntryKind::kSessionOpen), 1u);
  EXPECT_EQ(forward(raft::EntryKind::kCommand), 0u);
  cluster.expect_nothing_lost();
}

TEST(NodeOnAFullDisk, SingleNodeStopsAndGoesOn) {
  Cluster cluster(1);
  cluster.await_leader();
  Cluster::Member& m = cluster.member(1);
  EXPECT_EQ(cluster.call(m, "one"), "OK 1");
  cluster.fill(m);
  ASSERT_TRUE(cluster.until([&] { return cluster.all_refuse(); }, 3000));
  EXPECT_THAT(cluster.call(m, "no"), StartsWith("DISKFULL"));
  EXPECT_EQ(cluster.call(m, "r"), "OK one;");
  cluster.free(m);
  ASSERT_TRUE(cluster.until([&] { return cluster.none_refuses(); }, 3000));
  EXPECT_EQ(cluster.call(m, "two"), "OK 2");
}

// The disk fills up faster than it is checked: writes in flight wait, and then complete.
TEST(NodeOnAFullDisk, InFlightWritesWaitForSpace) {
  Cluster cluster(1);
  cluster.await_leader();
  Cluster::Member& m = cluster.member(1);
  m.options.holder.request_timeout = seconds(100);
  cluster.stop(m);
  ASSERT_TRUE(cluster.start(m));
  cluster.await_leader();
  auto client = std::make_unique<RecordingClient>();
  client->stream = m.node->open_stream(*client);
  cluster.fill(m);
  for (int i = 0; i < 20; ++i) {
    std::string text = fmt::format("{:03}", i) + std::string(900, 'x');
    client->submit(text);
    cluster.acknowledged += text + ";";
  }
  ASSERT_TRUE(cluster.until([&] { return m.node->writer().waits_for_space(); }, 100));
  cluster.pass(3000);
  EXPECT_LT(client->codes.size(), 20u);
  cluster.free(m);
  ASSERT_TRUE(cluster.until([&] { return client->codes.size() == 20; }, 3000));
  for (size_t i = 0; i < 20; ++i) EXPECT_THAT(client->reply(i), StartsWith("OK"));
  cluster.expect_nothing_lost();
}

TEST(NodeOnAFullDisk, SnapshotWithoutSpaceIsGivenUpAndTriedAgain) {
  Cluster cluster(1);
  Cluster::Member& m = cluster.member(1);
  m.options.snapshot.log_min_bytes = 4000;
  m.options.snapshot.trailing_entries = 2;
  m.options.log.segment_bytes = 64 << 10;
  m.options.min_free_bytes = 0;
  cluster.stop(m);
  ASSERT_TRUE(cluster.start(m));
  cluster.await_leader();
  cluster.pass(200);
  cluster.fill(m);
  for (int i = 0; i < 60; ++i) {
    EXPECT_THAT(cluster.call(m, fmt::format("{:0100}", i)), StartsWith("OK"));
  }
  cluster.pass(7000);
  EXPECT_EQ(m.node->snapshot_index(), Index()) << "there was space";
  cluster.free(m);
  ASSERT_TRUE(cluster.until([&] { return m.node->snapshot_index() != Index(); }, 7000));
  cluster.stop(m);
  ASSERT_TRUE(cluster.start(m));
  cluster.await_leader();
  cluster.expect_nothing_lost();
}

// ---- stalled

TEST(NodeOnAStalledDisk, LeaderHandsOverWithinThreeTimeoutsAndStaysAway) {
  Cluster cluster(3);
  Cluster::Member& first = cluster.await_leader();
  EXPECT_EQ(cluster.call(first, "one"), "OK 1");
  first.stalled = true;
  // The others are a quorum: writes continue, and reveal the stalled disk.
  EXPECT_EQ(cluster.call(first, "two"), "OK 2");
  ASSERT_TRUE(
      cluster.until([&] { return cluster.leader() && cluster.leader() != &first; }, 3 * kTimeout));
  Cluster::Member& second = *cluster.leader();
  Term term = second.node->core().term();
  for (int i = 0; i < 20; ++i) {
    EXPECT_THAT(cluster.call(second, "three"), StartsWith("OK"));
    cluster.pass(kTimeout);
  }
  EXPECT_TRUE(second.leads());
  EXPECT_EQ(second.node->core().term(), term) << "the stalled one disturbs nobody";
  first.stalled = false;
  cluster.pass(2 * kTimeout);
  EXPECT_FALSE(first.node->disks().is_stalled());
  EXPECT_TRUE(second.leads());
  EXPECT_EQ(second.node->core().term(), term);
  cluster.expect_nothing_lost();
}

TEST(NodeOnAStalledDisk, IsPassedOverWhenLeadershipIsHandedOver) {
  Cluster cluster(3);
  Cluster::Member& leader = cluster.await_leader();
  Cluster::Member& sick = cluster.follower();
  sick.stalled = true;
  EXPECT_EQ(cluster.call(leader, "one"), "OK 1");
  ASSERT_TRUE(
      cluster.until([&] { return leader.node->disks().is_stalled(sick.id); }, 3 * kTimeout));
  leader.node->shut_down();
  ASSERT_TRUE(cluster.until(
      [&] { return cluster.leader() != nullptr && cluster.leader() != &leader; }, kTimeout));
  EXPECT_NE(cluster.leader(), &sick);
}

// In an idle cluster a stalled disk is not detected before a write.
TEST(NodeOnAStalledDisk, TargetThatDoesNotTakeOverIsNotAskedTwiceInARow) {
  Cluster cluster(3);
  Cluster::Member& leader = cluster.await_leader();
  cluster.pass(kTimeout);
  for (auto& m : cluster.members) m->stalled = m.get() == &cluster.follower();
  Cluster::Member& sick = cluster.follower();
  leader.node->shut_down();
  // Before the stall of its disk is detected.
  ASSERT_TRUE(
      cluster.until([&] { return cluster.leader() != nullptr && cluster.leader() != &leader; },
                    3 * kTimeout / 2));
  EXPECT_NE(cluster.leader(), &sick);
}

TEST(NodeOnAStalledDisk, WithoutAnybodyWhoCouldDoWithoutItTheLeaderStays) {
  Cluster cluster(2);
  Cluster::Member& leader = cluster.await_leader();
  Term term = leader.node->core().term();
  leader.stalled = true;
  auto client = std::make_unique<RecordingClient>();
  client->stream = leader.node->open_stream(*client);
  client->submit("one");
  cluster.pass(4 * kTimeout);
  EXPECT_TRUE(leader.node->disks().is_stalled());
  EXPECT_TRUE(leader.leads());
  EXPECT_EQ(leader.node->core().term(), term);
  leader.stalled = false;
  ASSERT_TRUE(cluster.until([&] { return !client->codes.empty(); }, kTimeout));
  EXPECT_EQ(client->reply(0), "OK 1");
}

// What its followers lack is on its disk alone, which completes nothing: nobody can be brought far
// enough to take over.
TEST(NodeOnAStalledDisk, LeaderThatCannotEvenHandOverStepsDown) {
  Cluster cluster(3);
  Cluster::Member& first = cluster.await_leader();
  EXPECT_EQ(cluster.call(first, "one"), "OK 1");
  cluster.pass(kTimeout / 2);
  for (auto& m : cluster.members) {
    if (m.get() != &first) cluster.stop(*m);
  }
  {
    RecordingClient client;
    client.stream = first.node->open_stream(client);
    client.submit("never acknowledged");
    const Index before = first.node->core().durable_index();
    ASSERT_TRUE(cluster.until([&] { return first.node->core().durable_index() > before; }));
  }
  cluster.stop(first);
  Cluster::Member& second = first.id == NodeId(1) ? cluster.member(2) : cluster.member(1);
  ASSERT_TRUE(cluster.start(first));
  ASSERT_TRUE(cluster.start(second));
  ASSERT_TRUE(cluster.until([&] { return first.leads(); })) << "its log is the longest";
  first.stalled = true;
  for (auto& m : cluster.members) {
    if (!m->node) {
      ASSERT_TRUE(cluster.start(*m));
    }
  }
  ASSERT_TRUE(
      cluster.until([&] { return cluster.leader() && cluster.leader() != &first; }, 8 * kTimeout));
  EXPECT_EQ(cluster.call(*cluster.leader(), "two"), "OK 2");
  first.stalled = false;
  cluster.pass(2 * kTimeout);
  cluster.expect_nothing_lost();
}

TEST(NodeOnAStalledDisk, DoesNotCampaign) {
  Cluster cluster(3);
  cluster.await_leader();
  Cluster::Member& sick = cluster.follower();
  sick.stalled = true;
  EXPECT_THAT(cluster.call(*cluster.leader(), "one"), StartsWith("OK"));
  ASSERT_TRUE(cluster.until([&] { return sick.node->disks().is_stalled(); }, 3 * kTimeout));
  Term term = sick.node->core().term();
  for (auto& m : cluster.members) {
    if (m.get() != &sick) cluster.stop(*m);
  }
  cluster.pass(10 * kTimeout);
  EXPECT_EQ(sick.node->core().role(), raft::Role::kFollower);
  EXPECT_EQ(sick.node->core().term(), term);
}

}  // namespace
}  // namespace connectd::node
