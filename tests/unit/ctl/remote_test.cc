#include <arpa/inet.h>
#include <sys/socket.h>

#include <boost/json.hpp>
#include <fstream>
#include <mutex>
#include <thread>

#include "admin/http_server.h"
#include "support.h"

namespace connectd::ctl {
namespace {

namespace json = boost::json;
using ::testing::HasSubstr;
using ::testing::Not;

// The HTTP port of a node that answers each call with `reply`.
class FakeNode {
 public:
  explicit FakeNode(uint64_t id, admin::AdminFrom from = admin::AdminFrom::kThisMachine) {
    admin::ServerOptions options;
    options.admin = from;
    options.listen = {"127.0.0.1", 0};
    options.id = NodeId(id);
    admin::ServerHooks hooks;
    hooks.call = [this](const admin::CallRequest& request, auto done) {
      std::lock_guard lock(mutex_);
      requests_.push_back(request.bytes);
      last_read = request.read;
      done(reply_);
    };
    hooks.change_members = [this](node::MemberChange change, auto done) {
      std::lock_guard lock(mutex_);
      changes.push_back(change);
      if (on_change) on_change(change);
      if (answers) done(outcome);
    };
    hooks.change_setting = [this](admin::SettingChange change, auto done) {
      std::lock_guard lock(mutex_);
      setting_changes.push_back(change);
      done(outcome);
    };
    hooks.snapshots.take = [this](auto done) { done(admin::SnapshotTaken{Index(7)}); };
    hooks.snapshots.list = [this](auto done) {
      std::lock_guard lock(mutex_);
      done(snapshots);
    };
    hooks.snapshots.read = [](admin::SnapshotPiece, auto done) { done(std::string()); };
    auto server = admin::HttpServer::open(options, board_, std::move(hooks));
    if (!server) ADD_FAILURE() << server.error().text;
    server_ = std::move(*server);
    server_->start();
    status.id = NodeId(id);
    status.name = "n" + std::to_string(id);
    status.cluster_name = "demo";
    status.cluster_id.bytes = {0x12, 0x34, 0x56, 0x78};
    status.version = "9.8.7";
    status.term = Term(4);
    status.commit_index = Index(1234567);
    status.applied_index = Index(1234567);
    status.last_index = Index(1234567);
    status.plugin_name = "counter";
    status.plugin_version = "1.0.0";
    status.ready = true;
  }
  std::string address() const { return "127.0.0.1:" + std::to_string(server_->port()); }
  // The process ends.
  void end() { server_.reset(); }
  void publish() {
    status.made = read_clocks().time;
    board_.publish(std::make_shared<const node::StatusSnapshot>(status));
  }
  void reply(admin::CallResult result) {
    std::lock_guard lock(mutex_);
    reply_ = std::move(result);
  }
  std::vector<std::string> requests() {
    std::lock_guard lock(mutex_);
    return requests_;
  }

  node::StatusSnapshot status;
  std::vector<node::MemberChange> changes;
  std::vector<admin::SettingChange> setting_changes;
  admin::SnapshotList snapshots;
  node::ReadOptions last_read;  // of the last call
  node::ChangeOutcome outcome{node::ChangeCode::kDone, "appended", Index(9)};
  std::function<void(const node::MemberChange&)> on_change;
  bool answers = true;

 private:
  node::StatusBoard board_;
  std::mutex mutex_;
  admin::CallResult reply_;
  std::vector<std::string> requests_;
  std::unique_ptr<admin::HttpServer> server_;
};

admin::CallResult failed(node::ReplyCode code, std::string text) {
  admin::CallResult result;
  result.code = code;
  result.bytes = std::move(text);
  return result;
}

class StatusTest : public ::testing::Test {
 protected:
  void SetUp() override {
    for (FakeNode* node : {&one_, &two_}) {
      node->status.members = {{NodeId(1), true, "p:1", "c:1", one_.address()},
                              {NodeId(2), true, "p:2", "c:2", two_.address()},
                              {NodeId(3), true, "p:3", "c:3", "127.0.0.1:1"}};
      node->status.leader = NodeId(1);
    }
    one_.status.role = raft::Role::kLeader;
    one_.status.last_index = Index(1234570);
    publish();
  }
  void publish() {
    one_.publish();
    two_.publish();
  }

  FakeNode one_{1};
  FakeNode two_{2};
};

TEST_F(StatusTest, OneTableOfTheWholeCluster) {
  Outcome outcome = connectctl({"status", "-e", "127.0.0.1:1," + two_.address()});
  EXPECT_EQ(outcome.code, ExitCode::kOk) << outcome.err;
  EXPECT_THAT(outcome.out, HasSubstr("CLUSTER demo (12345678)   leader n1   term 4   degraded   "
                                     "can lose 0 more   plugin counter 1.0.0\n"));
  EXPECT_THAT(outcome.out, HasSubstr("n1    p:1      leader    ready  1,234,567  1,234,567  -"));
  EXPECT_THAT(outcome.out, HasSubstr("n2    p:2      follower  ready  1,234,567  1,234,567  3"));
  EXPECT_THAT(outcome.out, HasSubstr("n3    p:3      -         DOWN   -"));
  EXPECT_THAT(outcome.out, HasSubstr("\ncluster.id: 12345678"));
  EXPECT_THAT(outcome.err, HasSubstr("warning: node 3 (127.0.0.1:1): connection refused"));
}

TEST_F(StatusTest, LearnerCountsForNothing) {
  for (FakeNode* node : {&one_, &two_}) {
    node->status.members[1].voter = false;
    node->status.members.pop_back();
  }
  publish();
  Outcome outcome = connectctl({"status", "-e", one_.address()});
  EXPECT_EQ(outcome.code, ExitCode::kOk) << outcome.err;
  EXPECT_THAT(outcome.out, HasSubstr("healthy   can lose 0 more"));
  EXPECT_THAT(outcome.out, HasSubstr("n2    p:2      learner"));
}

class MemberTest : public StatusTest {
 protected:
  void SetUp() override {
    StatusTest::SetUp();
    one_.status.members_index = Index(7);
    one_.status.members[1].disk = "22";
    publish();
  }
};

TEST_F(MemberTest, ListShowsTheIndexTheKindsAndTheDisks) {
  one_.status.members[2].voter = false;
  one_.status.members[2].promoting = true;
  publish();
  Outcome outcome = connectctl({"member", "list", "-e", two_.address()});
  EXPECT_EQ(outcome.code, ExitCode::kOk) << outcome.err;
  EXPECT_THAT(outcome.out, HasSubstr("members of index 7\n"));
  EXPECT_THAT(outcome.out, HasSubstr("n1    voter, leads"));
  EXPECT_THAT(outcome.out, HasSubstr("n3    learner, to be promoted  100       p:3"));
  EXPECT_THAT(outcome.out, HasSubstr("pending"));
}

TEST_F(MemberTest, AddWaitsUntilItIsAVoter) {
  one_.on_change = [&](const node::MemberChange& change) {
    node::MemberStatus fresh{change.member.id, true, change.member.peer_address, "", ""};
    fresh.disk = "44";
    one_.status.members.push_back(fresh);
    one_.status.members_index = Index(9);
    one_.publish();
  };
  Outcome outcome = connectctl({"member", "add", "4", "--peer", "h:4", "--http", "h:5",
                                "--if-index", "7", "-e", one_.address(), "--timeout", "5s"});
  EXPECT_EQ(outcome.code, ExitCode::kOk) << outcome.err;
  EXPECT_EQ(outcome.out, "node 4 is a voter\n");
  ASSERT_EQ(one_.changes.size(), 1u);
  EXPECT_EQ(one_.changes[0].kind, node::MemberChange::Kind::kAdd);
  EXPECT_EQ(one_.changes[0].member.peer_address, "h:4");
  EXPECT_EQ(one_.changes[0].member.http_address, "h:5");
  EXPECT_EQ(one_.changes[0].expected, Index(7));
  EXPECT_FALSE(one_.changes[0].learner_only);
}

TEST_F(MemberTest, ChangeThatIsNotTakenSaysWhyAndWhetherToTryAgain) {
  for (auto [code, expected] :
       {std::pair("BUSY", ExitCode::kTryAgain), std::pair("NOLEADER", ExitCode::kTryAgain),
        std::pair("TIMEOUT", ExitCode::kTryAgain), std::pair("CONFLICT", ExitCode::kNegative),
        std::pair("QUORUM", ExitCode::kNegative), std::pair("REFUSED", ExitCode::kNegative)}) {
    one_.outcome = {node::change_code_of(code), "so it is", Index()};
    Outcome outcome = connectctl({"member", "remove", "2", "--force", "-e", one_.address()});
    EXPECT_EQ(outcome.code, expected) << code;
    EXPECT_THAT(outcome.err, HasSubstr(std::string(code) + ": so it is"));
    EXPECT_TRUE(one_.changes.back().force);
  }
}

TEST_F(MemberTest, ChangeThatWasLostWithItsLeaderIsTold) {
  one_.on_change = [&](const node::MemberChange&) {
    one_.status.members_index = Index(11);  // another change; node 2 has the disk that it had
    one_.publish();
  };
  Outcome outcome = connectctl({"member", "replace", "2", "-e", one_.address(), "--timeout", "5s"});
  EXPECT_EQ(outcome.code, ExitCode::kTryAgain);
  EXPECT_THAT(outcome.err, HasSubstr("the change was lost; run the command again"));
}

// The node that is asked is the one that leaves: it may end before it is asked again, or answers.
TEST_F(MemberTest, RemovalIsFollowedAtTheOthers) {
  for (bool answers : {true, false}) {
    FakeNode leaving(3);
    leaving.status.members = {{NodeId(1), true, "p:1", "c:1", one_.address()},
                              {NodeId(2), true, "p:2", "c:2", two_.address()},
                              {NodeId(3), true, "p:3", "c:3", leaving.address()}};
    for (FakeNode* node : {&one_, &two_}) node->status.members = leaving.status.members;
    publish();
    leaving.publish();
    leaving.answers = answers;
    std::thread end;
    leaving.on_change = [&](const node::MemberChange&) {
      end = std::thread([&] {
        std::this_thread::sleep_for(std::chrono::milliseconds(100));
        leaving.end();
        one_.status.members.pop_back();
        one_.status.members_index = Index(9);
        one_.publish();
      });
    };
    Outcome outcome =
        connectctl({"member", "remove", "3", "-e", leaving.address(), "--timeout", "8s"});
    end.join();
    EXPECT_EQ(outcome.code, ExitCode::kOk) << outcome.err;
    EXPECT_EQ(outcome.out, "node 3 is removed\n");
  }
}

TEST_F(MemberTest, UnreachableNodeIsToldAtOnce) {
  for (const char* disk : {"", "44"}) {
    one_.on_change = [&](const node::MemberChange& change) {
      node::MemberStatus fresh{change.member.id, false, change.member.peer_address, "", ""};
      fresh.disk = disk;
      one_.status.members.push_back(fresh);
      one_.status.peers = {{change.member.id, false, "probe", Index(), 10}};
      one_.status.members_index = Index(9);
      one_.publish();
    };
    const char* timeout = *disk == 0 ? "500ms" : "3s";
    Outcome outcome = connectctl(
        {"member", "add", "4", "--peer", "h:4", "-e", one_.address(), "--timeout", timeout});
    EXPECT_EQ(outcome.code, ExitCode::kTryAgain);
    EXPECT_THAT(outcome.err, HasSubstr(*disk == 0 ? "the leader does not reach it at h:4"
                                                  : "it does not answer the leader"));
    one_.status.members.pop_back();
    publish();
  }
}

TEST_F(MemberTest, ReplacedLearnerIsDoneAsALearner) {
  one_.status.members.push_back({NodeId(4), false, "p:4", "c:4", "h:4"});
  one_.status.members[3].disk = "44";
  publish();
  one_.on_change = [&](const node::MemberChange&) {
    one_.status.members[3].disk = "45";
    one_.status.members_index = Index(9);
    one_.publish();
  };
  Outcome outcome = connectctl({"member", "replace", "4", "-e", one_.address(), "--timeout", "5s"});
  EXPECT_EQ(outcome.code, ExitCode::kOk) << outcome.err;
  EXPECT_EQ(outcome.out, "node 4 is a learner\n");
}

TEST_F(MemberTest, LostAnswerOfNoRemovalIsTold) {
  one_.answers = false;
  std::thread end;
  one_.on_change = [&](const node::MemberChange&) { end = std::thread([&] { one_.end(); }); };
  two_.status.members_index = Index(9);
  publish();
  Outcome outcome =
      connectctl({"member", "remove", "3", "-e", one_.address(), "--timeout", "1500ms"});
  end.join();
  EXPECT_EQ(outcome.code, ExitCode::kTryAgain) << outcome.out;
}

TEST_F(MemberTest, WrongWordsAreUsageErrors) {
  for (const std::vector<std::string>& words :
       std::vector<std::vector<std::string>>{{"member", "add", "4"},
                                             {"member", "add", "x", "--peer", "h:1"},
                                             {"member", "add", "0", "--peer", "h:1"},
                                             {"member", "add", "4", "--peer", "nonsense"},
                                             {"member", "remove"},
                                             {"member", "remove", "2", "--if-index", "soon"},
                                             {"leader", "transfer", "--to", "somebody"}}) {
    std::vector<std::string> all = words;
    all.insert(all.end(), {"-e", one_.address()});
    EXPECT_EQ(connectctl(all).code, ExitCode::kUsage) << words[1] << words.back();
  }
  EXPECT_TRUE(one_.changes.empty());
}

TEST_F(MemberTest, LeaderIsShownAndHandedOver) {
  EXPECT_EQ(connectctl({"leader", "show", "-e", one_.address()}).out, "n1 p:1\n");
  one_.on_change = [&](const node::MemberChange&) {
    one_.status.role = raft::Role::kFollower;
    one_.status.leader = NodeId(2);
    one_.publish();
  };
  two_.status.role = raft::Role::kFollower;
  Outcome outcome =
      connectctl({"leader", "transfer", "--to", "2", "-e", one_.address(), "--timeout", "5s"});
  EXPECT_EQ(outcome.code, ExitCode::kOk) << outcome.err;
  EXPECT_EQ(outcome.out, "node 2 leads\n");
}

TEST_F(MemberTest, LeadershipThatComesBackIsToldAtOnce) {
  one_.on_change = [&](const node::MemberChange&) {
    one_.status.term = Term(6);
    one_.publish();
  };
  for (const auto& words :
       {std::vector<std::string>{"leader", "transfer", "--to", "2"}, {"leader", "transfer"}}) {
    one_.status.term = two_.status.term = Term(4);
    publish();
    std::vector<std::string> all = words;
    all.insert(all.end(), {"-e", one_.address(), "--timeout", "5s"});
    const Outcome outcome = connectctl(all);
    EXPECT_EQ(outcome.code, ExitCode::kNegative) << outcome.err;
    EXPECT_THAT(outcome.err, HasSubstr("node 1 leads in a new term: leadership came back"));
  }
  one_.on_change = nullptr;
  Outcome late = connectctl({"leader", "transfer", "-e", one_.address(), "--timeout", "300ms"});
  EXPECT_EQ(late.code, ExitCode::kTryAgain);
  EXPECT_THAT(late.err, HasSubstr("the other node did not take over in time"));
}

// The leader has nothing to append: its answer has the index of the list.
TEST_F(MemberTest, RepeatedChangeIsDone) {
  one_.outcome = {node::ChangeCode::kDone, "node 2 is it already", Index(7)};
  for (const char* verb : {"replace", "promote"}) {
    Outcome outcome = connectctl({"member", verb, "2", "-e", one_.address(), "--timeout", "5s"});
    EXPECT_EQ(outcome.code, ExitCode::kOk) << outcome.err;
    EXPECT_EQ(outcome.out, "node 2 is a voter\n");
    EXPECT_THAT(outcome.err, HasSubstr("node 2 is it already"));
  }
}

TEST_F(MemberTest, SettingsAreListedAndSet) {
  one_.status.settings = {{"raft.lease_reads", "true"}, {"plugin.a", "b"}};
  one_.status.settings_index = Index(9);
  one_.publish();
  Outcome list = connectctl({"settings", "list", "-e", one_.address()});
  EXPECT_EQ(list.out,
            "settings of index 9\n"
            "SETTING           VALUE\n"
            "plugin.a          b\n"
            "raft.lease_reads  true\n");
  Outcome set = connectctl({"settings", "set", "raft.lease_reads", "true", "-e", one_.address()});
  EXPECT_EQ(set.code, ExitCode::kOk) << set.err;
  EXPECT_EQ(set.out, "raft.lease_reads is true\n");
  ASSERT_EQ(one_.setting_changes.size(), 1u);
  EXPECT_EQ(one_.setting_changes[0].key, "raft.lease_reads");
}

TEST_F(MemberTest, SnapshotsAreListedAndTaken) {
  one_.snapshots.snapshots = {{"b.snapshot", Index(9), Term(2), 500, 60},
                              {"a.snapshot", Index(8), Term(1), 400, 7200}};
  Outcome list = connectctl({"snapshot", "list", "-e", one_.address()});
  EXPECT_EQ(list.code, ExitCode::kOk) << list.err;
  EXPECT_THAT(list.out, HasSubstr("  9      2     500    60 s  b.snapshot"));
  EXPECT_THAT(list.out, HasSubstr("  8      1     400    2 h   a.snapshot"));
  json::object taken =
      json::parse(connectctl({"snapshot", "take", "-o", "json", "-e", one_.address()}).out)
          .as_object();
  EXPECT_EQ(taken["node"].as_string(), one_.address());
  EXPECT_EQ(taken["index"].to_number<int>(), 9);
  EXPECT_EQ(taken["age_seconds"].to_number<int>(), 60);

  one_.snapshots = {false, "no space left", {}};
  Outcome failed = connectctl({"snapshot", "take", "-e", one_.address()});
  EXPECT_EQ(failed.code, ExitCode::kNegative);
  EXPECT_THAT(failed.err, HasSubstr("failed to take a snapshot: no space left"));
}

// Of several nodes, only one may be on this machine.
TEST_F(MemberTest, NextNodeIsAskedAndNamed) {
  FakeNode elsewhere(2, admin::AdminFrom::kNobody);
  one_.status.settings = {{"raft.lease_reads", "true"}};
  one_.status.settings_index = Index(9);
  one_.publish();
  elsewhere.status = one_.status;
  elsewhere.publish();
  const std::string both = elsewhere.address() + "," + one_.address();
  Outcome set = connectctl({"settings", "set", "raft.lease_reads", "true", "-e", both});
  EXPECT_EQ(set.code, ExitCode::kOk) << set.err;
  EXPECT_THAT(set.err, HasSubstr("asked " + one_.address()));
  EXPECT_EQ(one_.setting_changes.size(), 1u);
  EXPECT_TRUE(elsewhere.setting_changes.empty());

  one_.snapshots.snapshots = {{"b.snapshot", Index(9), Term(2), 500, 60}};
  Outcome list = connectctl({"snapshot", "list", "-e", both});
  EXPECT_EQ(list.code, ExitCode::kOk) << list.err;
  EXPECT_THAT(list.out, HasSubstr("b.snapshot"));
  EXPECT_EQ(connectctl({"snapshot", "take", "-e", both}).code, ExitCode::kOk);

  for (const auto& words : {std::vector<std::string>{"settings", "set", "raft.lease_reads", "true"},
                            {"snapshot", "list"},
                            {"snapshot", "take"},
                            {"snapshot", "save", "/nonexistent/file"}}) {
    std::vector<std::string> arguments = words;
    arguments.insert(arguments.end(), {"-e", elsewhere.address()});
    Outcome refused = connectctl(arguments);
    EXPECT_EQ(refused.code, ExitCode::kNegative) << refused.err;
    EXPECT_THAT(refused.err, HasSubstr("http.admin")) << words[1];
  }
}

TEST_F(StatusTest, JsonIsTheAnswerOfTheNode) {
  Outcome outcome = connectctl({"status", "-o", "json", "-e", one_.address()});
  EXPECT_EQ(outcome.code, ExitCode::kOk);
  EXPECT_EQ(outcome.err, "");
  json::object object = json::parse(outcome.out).as_object();
  EXPECT_EQ(object["nodes"].as_array().size(), 3u);
}

TEST_F(StatusTest, WithoutALeaderTheAnswerIsNo) {
  one_.status.role = raft::Role::kCandidate;
  one_.status.ready = false;
  one_.status.reason = "no leader";
  publish();
  Outcome outcome = connectctl({"status", "-e", one_.address()});
  EXPECT_EQ(outcome.code, ExitCode::kNegative);
  EXPECT_THAT(outcome.out, HasSubstr("NO LEADER"));
  EXPECT_THAT(outcome.err, HasSubstr("warning: node 1 is not ready: no leader"));
}

// A node that reaches no majority cannot know whether the others serve.
TEST_F(StatusTest, RemedyOfALostMajorityNeedsOne) {
  two_.status.leader = NodeId();
  two_.status.ready = false;
  two_.status.reason = "no known leader: node 2 reaches 1 of 3 voters";
  two_.status.remedy = "connectctl recover";
  publish();
  Outcome outcome = connectctl({"status", "-e", one_.address()});
  EXPECT_THAT(outcome.err, HasSubstr("node 2 reaches 1 of 3 voters. The others serve, and node 1 "
                                     "leads them: check the network"));
  EXPECT_THAT(outcome.err, Not(HasSubstr("recover")));
  one_.status.role = raft::Role::kFollower;
  publish();
  outcome = connectctl({"status", "-e", one_.address()});
  EXPECT_THAT(outcome.err, HasSubstr("node 2 reaches 1 of 3 voters: connectctl recover"));
}

TEST_F(StatusTest, UnequalDigestsAreTold) {
  two_.status.digest = 99;
  publish();
  Outcome outcome = connectctl({"status", "-e", one_.address()});
  EXPECT_THAT(outcome.err, HasSubstr("the digests at index 1234567 differ"));
}

TEST_F(StatusTest, ReplicasThatAreNotEqualAreNotHealthy) {
  for (FakeNode* node : {&one_, &two_}) {
    node->status.divergence = node->status.reason = "the first different answer is at index 17";
    node->status.ready = false;
  }
  publish();
  Outcome outcome = connectctl({"status", "-e", one_.address()});
  EXPECT_EQ(outcome.code, ExitCode::kNegative);
  EXPECT_THAT(outcome.out, HasSubstr("term 4   DIVERGED, NO WRITES   plugin"));
  EXPECT_THAT(outcome.out, HasSubstr("leader    DIVERGED  1,234,567"));
  EXPECT_THAT(outcome.err,
              HasSubstr("node 2 is not ready: the first different answer is at index 17"));
}

TEST_F(StatusTest, FullAndStalledDisksAreTold) {
  two_.status.disk_state = "full";
  two_.status.disk_free_bytes = 1234;
  publish();
  Outcome outcome = connectctl({"status", "-e", one_.address()});
  EXPECT_THAT(outcome.err, HasSubstr("warning: node 2: its disk is full (free=1,234)"));
  EXPECT_THAT(outcome.out, Not(HasSubstr("NO WRITES")));
  two_.status.disk_state = "stalled";
  one_.status.disk_state = "no room";
  one_.status.writes_stopped = two_.status.writes_stopped = true;
  publish();
  outcome = connectctl({"status", "-e", one_.address()});
  EXPECT_EQ(outcome.code, ExitCode::kNegative);
  EXPECT_THAT(outcome.out, HasSubstr("DISKS FULL, NO WRITES"));
  EXPECT_THAT(outcome.err, HasSubstr("node 2: its disk has stalled"));
  EXPECT_THAT(outcome.err, HasSubstr("node 1: its disk is full, and its log has no space"));
}

TEST(Status, NobodyReachableIs69) {
  Outcome outcome = connectctl({"status", "-e", "127.0.0.1:1,127.0.0.1:2"});
  EXPECT_EQ(outcome.code, ExitCode::kUnavailable);
  EXPECT_THAT(outcome.err, HasSubstr("127.0.0.1:1: connection refused, 127.0.0.1:2: connection "
                                     "refused"));
}

TEST(Call, ReplyIsPrintedAsItCame) {
  FakeNode node(1);
  admin::CallResult result;
  result.bytes = std::string("42\n\0", 4);
  result.index = Index(7);
  node.reply(result);
  Outcome outcome = connectctl({"call", "incr x", "-e", node.address()});
  EXPECT_EQ(outcome.code, ExitCode::kOk) << outcome.err;
  EXPECT_EQ(outcome.out, result.bytes);
  EXPECT_EQ(outcome.err, "");
  json::object object =
      json::parse(connectctl({"call", "incr x", "-o", "json", "-e", node.address()}).out)
          .as_object();
  EXPECT_EQ(object["index"].to_number<int>(), 7);
  EXPECT_EQ(object["reply_hex"].as_string(), "34320a00");
}

TEST(Call, RequestComesFromManyPlaces) {
  FakeNode node(1);
  TemporaryDirectory directory;
  std::ofstream(directory.path("request"), std::ios::binary) << "from\0file";
  std::string e = node.address();
  EXPECT_EQ(connectctl({"-e", e, "call", "text"}).code, ExitCode::kOk);
  EXPECT_EQ(connectctl({"-e", e, "call", "--", "--dashes"}).code, ExitCode::kOk);
  EXPECT_EQ(connectctl({"-e", e, "call", "--hex", "00 fF"}).code, ExitCode::kOk);
  EXPECT_EQ(connectctl({"-e", e, "call", "-"}, "from input").code, ExitCode::kOk);
  EXPECT_EQ(connectctl({"-e", e, "call", "--file", directory.path("request")}).code, ExitCode::kOk);
  EXPECT_EQ(connectctl({"-e", e, "call", "--resp", "SET", "key", ""}).code, ExitCode::kOk);
  EXPECT_EQ(node.requests(),
            (std::vector<std::string>{"text", "--dashes", std::string("\0\xff", 2), "from input",
                                      "from", "*3\r\n$3\r\nSET\r\n$3\r\nkey\r\n$0\r\n\r\n"}));
  EXPECT_EQ(connectctl({"call", "--file", "/nonexistent"}).code, ExitCode::kNoInput);
}

TEST(Call, ErrorsHaveTheirExitCodes) {
  FakeNode node(1);
  auto call = [&] { return connectctl({"call", "incr", "-e", node.address()}); };
  for (node::ReplyCode code : {node::ReplyCode::kNoLeader, node::ReplyCode::kOverloaded,
                               node::ReplyCode::kDiskFull, node::ReplyCode::kShutdown}) {
    node.reply(failed(code, "why it is so"));
    Outcome outcome = call();
    EXPECT_EQ(outcome.code, ExitCode::kTryAgain);
    EXPECT_THAT(outcome.err, HasSubstr("why it is so. It did not happen. Try: connectctl -e"));
    EXPECT_EQ(outcome.out, "");
  }
  node.reply(failed(node::ReplyCode::kUnknown, "no answer"));
  Outcome unknown = call();
  EXPECT_EQ(unknown.code, ExitCode::kTryAgain);
  EXPECT_THAT(unknown.err, HasSubstr("UNKNOWN: no answer. It may or may not have happened"));
  node.reply(failed(node::ReplyCode::kPlugin, "it failed"));
  EXPECT_EQ(call().code, ExitCode::kNegative);

  admin::CallResult refused = failed(node::ReplyCode::kRejected, "-ERR own words\r\n");
  refused.plugin_refused = true;
  node.reply(refused);
  Outcome own = call();
  EXPECT_EQ(own.code, ExitCode::kNegative);
  EXPECT_EQ(own.out, "-ERR own words\r\n");
}

// As curl and redis-cli without an option: an answer is an answer. --fail is curl's.
TEST(Call, FailMapsThePluginsStatusTo2) {
  FakeNode node(1);
  admin::CallResult result;
  result.bytes = "-ERR not an integer\r\n";
  for (const int32_t status : {0, 1, 404, 0x7fffffff}) {
    result.status = status;
    node.reply(result);
    EXPECT_EQ(connectctl({"call", "incr", "-e", node.address()}).code, ExitCode::kOk) << status;
    for (const char* format : {"table", "json"}) {
      const Outcome outcome =
          connectctl({"call", "--fail", "incr", "-o", format, "-e", node.address()});
      EXPECT_EQ(outcome.code, status == 0 ? ExitCode::kOk : ExitCode::kPluginStatus) << status;
      EXPECT_THAT(outcome.out, HasSubstr("-ERR not an integer"));
      EXPECT_EQ(outcome.err.empty(), status == 0);
    }
  }
  EXPECT_THAT(connectctl({"call", "--fail", "incr", "-e", node.address()}).err,
              HasSubstr("the plugin answered with status 2147483647"));

  // Not executed stays 1 and 75: nothing has changed.
  admin::CallResult refused = failed(node::ReplyCode::kRejected, "-ERR own words\r\n");
  refused.plugin_refused = true;
  refused.status = 3;
  node.reply(refused);
  EXPECT_EQ(connectctl({"call", "--fail", "x", "-e", node.address()}).code, ExitCode::kNegative);
  node.reply(failed(node::ReplyCode::kNoLeader, "none"));
  EXPECT_EQ(connectctl({"call", "--fail", "x", "-e", node.address()}).code, ExitCode::kTryAgain);
}

TEST(Call, GoesOnToTheNextNodeOnlyWhenNothingCanHaveHappened) {
  FakeNode stopping(1);
  FakeNode serving(2);
  stopping.reply(failed(node::ReplyCode::kShutdown, "stopping"));
  std::string endpoints = "127.0.0.1:1," + stopping.address() + "," + serving.address();
  EXPECT_EQ(connectctl({"call", "incr", "-e", endpoints}).code, ExitCode::kOk);
  EXPECT_EQ(serving.requests().size(), 1u);

  stopping.reply(failed(node::ReplyCode::kUnknown, "lost"));
  EXPECT_EQ(connectctl({"call", "incr", "-e", endpoints}).code, ExitCode::kTryAgain);
  EXPECT_EQ(serving.requests().size(), 1u);
}

TEST(Call, ConnectionThatBreaksLeavesItOpen) {
  int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in here{};
  here.sin_family = AF_INET;
  here.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  ASSERT_EQ(bind(listener, reinterpret_cast<sockaddr*>(&here), sizeof here), 0);
  ASSERT_EQ(listen(listener, 1), 0);
  socklen_t length = sizeof here;
  getsockname(listener, reinterpret_cast<sockaddr*>(&here), &length);
  std::thread closer([&] {
    int connection = accept(listener, nullptr, nullptr);
    char byte = 0;
    (void)!read(connection, &byte, 1);  // the request has begun to arrive
    close(connection);
  });
  FakeNode serving(2);
  Outcome outcome =
      connectctl({"call", "incr", "-e",
                  "127.0.0.1:" + std::to_string(ntohs(here.sin_port)) + "," + serving.address()});
  closer.join();
  close(listener);
  EXPECT_EQ(outcome.code, ExitCode::kTryAgain);
  EXPECT_THAT(outcome.err, HasSubstr("it may or may not have happened"));
  EXPECT_TRUE(serving.requests().empty());
}

// Accepts connections and answers nothing.
class SilentNode {
 public:
  SilentNode() : listener_(socket(AF_INET, SOCK_STREAM, 0)) {
    sockaddr_in here{};
    here.sin_family = AF_INET;
    here.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof here;
    EXPECT_EQ(bind(listener_, reinterpret_cast<sockaddr*>(&here), size), 0);
    EXPECT_EQ(listen(listener_, 64), 0);
    getsockname(listener_, reinterpret_cast<sockaddr*>(&here), &size);
    address_ = "127.0.0.1:" + std::to_string(ntohs(here.sin_port));
  }
  ~SilentNode() { close(listener_); }
  std::string address() const { return address_; }

 private:
  int listener_;
  std::string address_;
};

// Single answers have limits of 5 to 35 s without it.
TEST(Timeout, BoundsTheWholeCommand) {
  SilentNode silent;
  const std::string three = silent.address() + "," + silent.address() + "," + silent.address();
  for (const auto& [words, code] : std::vector<std::pair<std::vector<std::string>, ExitCode>>{
           {{"status"}, ExitCode::kUnavailable},
           {{"call", "get"}, ExitCode::kTryAgain},
           {{"member", "list"}, ExitCode::kUnavailable},
           {{"member", "replace", "2"}, ExitCode::kTryAgain},
           {{"member", "remove", "2"}, ExitCode::kTryAgain},
           {{"leader", "transfer"}, ExitCode::kUnavailable},
           {{"settings", "set", "raft.lease_reads", "true"}, ExitCode::kTryAgain},
           {{"snapshot", "list"}, ExitCode::kUnavailable},
           {{"snapshot", "take"}, ExitCode::kUnavailable},
           {{"snapshot", "save", "/nonexistent/file"}, ExitCode::kUnavailable}}) {
    std::vector<std::string> all = words;
    all.insert(all.end(), {"-e", three, "--timeout", "200ms"});
    const Time begin = read_clocks().time;
    const Outcome outcome = connectctl(all);
    // The time may be over before anything is sent.
    const bool is_over = words.back() == "2" && outcome.code == ExitCode::kUnavailable;
    EXPECT_TRUE(outcome.code == code || is_over) << words[0] << " " << outcome.err;
    EXPECT_LT(read_clocks().time - begin, std::chrono::seconds(4)) << words[0] << words.back();
  }
}

TEST_F(MemberTest, LostMajorityEndsTheWaitWithTheRemedy) {
  for (FakeNode* node : {&one_, &two_}) {
    node->status.leader = NodeId();
    node->status.commit_index = Index(5);
    node->status.reason = "no known leader: node 1 reaches 1 of 3 voters";
    node->status.remedy = "connectctl recover";
  }
  publish();
  const std::string said = "no known leader: node 1 reaches 1 of 3 voters: connectctl recover";
  for (const std::vector<std::string>& words :
       std::vector<std::vector<std::string>>{{"member", "add", "4", "--peer", "p:4"},
                                             {"member", "remove", "3"},
                                             {"settings", "set", "raft.election_timeout", "700ms"},
                                             {"leader", "transfer"}}) {
    std::vector<std::string> arguments = words;
    arguments.insert(arguments.end(), {"--timeout", "300ms", "-e", one_.address()});
    const Outcome outcome = connectctl(arguments);
    EXPECT_EQ(outcome.code, ExitCode::kTryAgain) << words[1];
    EXPECT_THAT(outcome.err, HasSubstr("connectctl: " + said + ". ")) << words[1];
  }
  const Outcome shown = connectctl({"leader", "show", "-e", one_.address()});
  EXPECT_EQ(shown.code, ExitCode::kNegative);
  EXPECT_THAT(shown.err, HasSubstr(said));
}

TEST_F(MemberTest, TimeoutEndsTheWaitForTheChange) {
  const Time begin = read_clocks().time;
  Outcome outcome = connectctl(
      {"member", "add", "4", "--peer", "h:4", "-e", one_.address(), "--timeout", "400ms"});
  EXPECT_EQ(outcome.code, ExitCode::kTryAgain);
  EXPECT_THAT(outcome.err, HasSubstr("the change continues without this command"));
  EXPECT_GE(read_clocks().time - begin, std::chrono::milliseconds(400));
  EXPECT_LT(read_clocks().time - begin, std::chrono::seconds(5));
}

TEST(Call, NobodyReachableIs69) {
  Outcome outcome = connectctl({"call", "incr", "-e", "127.0.0.1:1"});
  EXPECT_EQ(outcome.code, ExitCode::kUnavailable);
  EXPECT_THAT(outcome.err, HasSubstr("no node accepts the request"));
}

}  // namespace
}  // namespace connectd::ctl
