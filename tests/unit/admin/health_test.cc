// What the answers about health say in each state.
#include "admin/health.h"

#include <gtest/gtest.h>

#include <boost/json/parse.hpp>
#include <string>

#include "admin/limits.h"

namespace connectd::admin {
namespace {

using node::ServiceState;
using std::chrono::milliseconds;
using std::chrono::seconds;

constexpr Time kNow{seconds(1000)};

node::StatusSnapshot serving() {
  node::StatusSnapshot status;
  status.made = kNow - milliseconds(20);
  status.id = status.leader = NodeId(1);
  status.role = raft::Role::kLeader;
  status.term = Term(7);
  status.commit_index = status.applied_index = Index(12);
  status.disk_free_bytes = 4096;
  status.state = ServiceState::kReady;
  status.ready = true;
  return status;
}

// The names of the checks that are not good, with their signs.
std::string found(const Health& health) {
  std::string names;
  for (const HealthCheck& check : health.checks) {
    if (check.verdict == HealthCheck::Verdict::kGood) continue;
    names += (check.verdict == HealthCheck::Verdict::kFailed ? "-" : "!") + check.name;
  }
  return names;
}

TEST(ReadyHealth, EachStateHasItsCheck) {
  struct Case {
    ServiceState state;
    const char* fails;
  };
  for (const Case& c :
       {Case{ServiceState::kForming, "-cluster"}, Case{ServiceState::kStuck, "-plugin"},
        Case{ServiceState::kStopping, "-shutdown"}, Case{ServiceState::kNoQuorum, "-leader"},
        Case{ServiceState::kNoLeader, "-leader"}, Case{ServiceState::kCatchingUp, "-up_to_date"},
        Case{ServiceState::kLagging, "-up_to_date"}, Case{ServiceState::kDiverged, "-replicas"},
        Case{ServiceState::kUnknown, "-ready"}, Case{ServiceState::kReady, ""}}) {
    node::StatusSnapshot status = serving();
    status.state = c.state;
    status.ready = c.state == ServiceState::kReady;
    status.reason = status.ready ? "" : "the reason";
    status.remedy = status.ready ? "" : "the remedy";
    if (c.state == ServiceState::kDiverged) status.divergence = "at 9";
    const Health health = ready_health(&status, kNow);
    EXPECT_EQ(found(health), c.fails);
    EXPECT_EQ(health.good(), status.ready);
    const std::string why = c.state == ServiceState::kDiverged ? "at 9" : "the reason: the remedy";
    EXPECT_EQ(health.detail(), status.ready ? "" : why);
  }
}

TEST(ReadyHealth, NodeThatReadsItsLogIsNotReady) {
  EXPECT_FALSE(ready_health(nullptr, kNow).good());
  EXPECT_FALSE(leader_health(nullptr, kNow).good());
  EXPECT_TRUE(live_health(nullptr, kNow).good());
}

TEST(ReadyHealth, LoopThatHangsIsNotReadyAndNotLive) {
  node::StatusSnapshot status = serving();
  status.made = kNow - kLoopHangs;
  EXPECT_EQ(found(ready_health(&status, kNow)), "-loop");
  EXPECT_EQ(found(live_health(&status, kNow)), "-loop");
  status.made = kNow - kLoopHangs + milliseconds(1);
  EXPECT_TRUE(ready_health(&status, kNow).good());
  EXPECT_TRUE(live_health(&status, kNow).good());
}

// A restart would come to the same entry, or query.
TEST(LiveHealth, CallOfTheLogIsNoReasonToRestart) {
  node::StatusSnapshot status = serving();
  status.state = ServiceState::kStuck;
  status.ready = false;
  status.reason = "STUCK in apply at 812";
  status.stuck = "apply at 812";
  status.made = kNow - 2 * kLoopHangs;
  EXPECT_TRUE(live_health(&status, kNow).good());
  EXPECT_EQ(ready_health(&status, kNow).detail(), "STUCK in apply at 812");
  status.stuck = "read";
  EXPECT_FALSE(live_health(&status, kNow).good());
  status = serving();
  status.hang = "the log writer hangs";
  EXPECT_EQ(live_health(&status, kNow).detail(), "the log writer hangs");
}

TEST(ReadyHealth, WarningsKeepTheNodeReady) {
  node::StatusSnapshot status = serving();
  for (const char* disk : {"full", "no room", "stalled"}) {
    status.disk_state = disk;
    EXPECT_EQ(found(ready_health(&status, kNow)), "!disk");
  }
  status.writes_stopped = true;
  status.plugin_warning = status.clock_warning = status.tls_warning = "look";
  const Health health = ready_health(&status, kNow);
  EXPECT_EQ(found(health), "!disk!writes!plugin_file!clock!tls");
  EXPECT_TRUE(health.good());
  EXPECT_EQ(health.detail(), "");
}

TEST(Health, LinesAndJsonSayTheSame) {
  node::StatusSnapshot status = serving();
  status.state = ServiceState::kNoQuorum;
  status.ready = false;
  status.reason = "no known leader: reached 1 of 3";
  status.disk_state = "full";
  const Health health = ready_health(&status, kNow);
  const std::string lines = health.lines();
  EXPECT_NE(lines.find("[-] leader: no known leader: reached 1 of 3\n"), std::string::npos)
      << lines;
  EXPECT_NE(lines.find("[!] disk: full, 4096 bytes free\n"), std::string::npos) << lines;
  EXPECT_NE(lines.find("[+] up_to_date: applied 12 of 12\n"), std::string::npos) << lines;
  EXPECT_TRUE(lines.ends_with("\nfailed\n")) << lines;
  const auto json = boost::json::parse(health.json()).as_object();
  EXPECT_EQ(json.at("status").as_string(), "failed");
  size_t at = 0;
  for (const auto& item : json.at("checks").as_array()) {
    const HealthCheck& check = health.checks.at(at++);
    EXPECT_EQ(std::string(item.as_object().at("name").as_string()), check.name);
    EXPECT_EQ(std::string(item.as_object().at("status").as_string()), verdict_text(check.verdict));
    EXPECT_EQ(std::string(item.as_object().at("text").as_string()), check.text);
  }
  EXPECT_EQ(at, health.checks.size());
}

TEST(LeaderHealth, OnlyTheLeader) {
  node::StatusSnapshot status = serving();
  EXPECT_TRUE(leader_health(&status, kNow).good());
  status.role = raft::Role::kFollower;
  EXPECT_EQ(leader_health(&status, kNow).detail(), "follower; node 1 leads term 7");
  status.leader = NodeId();
  EXPECT_EQ(leader_health(&status, kNow).detail(), "follower; no known leader in term 7");
  status = serving();
  status.made = kNow - kLoopHangs;
  EXPECT_EQ(leader_health(&status, kNow).detail(), "the main loop hangs");
}

}  // namespace
}  // namespace connectd::admin
