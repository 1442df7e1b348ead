#include "admin/answers.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <boost/json.hpp>
#include <set>

#include "admin/call_outcome.h"

namespace connectd::admin {
namespace {

namespace json = boost::json;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

node::MemberStatus member(uint64_t id, const std::string& peer) {
  node::MemberStatus member;
  member.id = NodeId(id);
  member.peer = peer;
  return member;
}

// Every member with a value that is not its default.
node::StatusSnapshot full_status() {
  node::StatusSnapshot status;
  status.state = node::ServiceState::kReady;
  status.id = NodeId(2);
  status.name = "n2";
  status.cluster_name = "demo \"quoted\"";
  status.cluster_id.bytes = {0xab, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 0xff};
  status.version = "0.1.0";
  status.started_wall_ns = 1'700'000'000'123'000'000;
  status.role = raft::Role::kCandidate;
  status.term = Term(7);
  status.leader = NodeId(3);
  status.last_index = Index(UINT64_MAX);
  status.commit_index = Index(11);
  status.applied_index = Index(10);
  status.snapshot_index = Index(5);
  status.digest = 0xfedcba9876543210;
  status.members = {{NodeId(1), false, "a:1", "a:2", "a:3", true, "0a", 7}, member(2, "")};
  status.members_index = Index(4);
  status.members_settled = false;
  status.peers = {{NodeId(1), true, "replicate", Index(9), 3}};
  status.settings = {{"raft.lease_reads", "true"}, {"a", ""}};
  status.settings_index = Index(6);
  status.lease = true;
  status.plugin_name = "counter";
  status.plugin_version = "1.0.0";
  status.plugin_level = 3;
  status.plugin_warning = "file changed since start";
  status.divergence = "at index 17";
  status.disk_state = "no room";
  status.disk_free_bytes = 123;
  status.writes_stopped = true;
  status.max_request = 2 << 20;
  status.max_clients = 800;
  status.stuck = "apply at 812";
  status.clock_warning = "this machine's clock shows 1970";
  status.tls_warning = "the connections with node 2 are plain";
  status.log_lines_dropped = 4;
  status.hang = "no progress";
  status.ready = true;
  status.reason = "why";
  status.remedy = "what to do";
  return status;
}

// What differs in every field, however deep it lies.
void expect_all_different(const json::object& a, const json::object& b) {
  ASSERT_EQ(a.size(), b.size());
  for (const auto& [key, value] : a) {
    if (value.is_object() && !value.get_object().empty() && b.at(key).is_object() &&
        !b.at(key).get_object().empty()) {
      expect_all_different(value.get_object(), b.at(key).get_object());
    } else {
      EXPECT_NE(value, b.at(key)) << key;
    }
  }
}

TEST(Status, RoundTripKeepsAllFields) {
  const node::StatusSnapshot status = full_status();
  expect_all_different(to_value(status).get_object(),
                       to_value(node::StatusSnapshot{}).get_object());
  expect_all_different(to_value(status.members[0]).get_object(),
                       to_value(node::MemberStatus{}).get_object());
  auto back = from_json<node::StatusSnapshot>(to_json(status));
  ASSERT_TRUE(back);
  EXPECT_EQ(*back, status);
  auto empty = from_json<node::StatusSnapshot>(to_json(node::StatusSnapshot{}));
  ASSERT_TRUE(empty);
  EXPECT_EQ(*empty, node::StatusSnapshot{});
}

TEST(Status, MissingFieldsOfOlderBuildsAreDefaults) {
  auto status = from_json<node::StatusSnapshot>(
      R"({"id": 2, "role": "leader", "members": [{"id": 1}, {"id": 2, "peer": "h:1"}]})");
  ASSERT_TRUE(status);
  node::StatusSnapshot expected;
  expected.id = NodeId(2);
  expected.role = raft::Role::kLeader;
  expected.members = {member(1, ""), member(2, "h:1")};
  EXPECT_EQ(*status, expected);
  EXPECT_TRUE(status->members[1].voter && status->members_settled);
  EXPECT_EQ(status->disk_state, "ok");
}

TEST(Status, UnknownFieldsOfNewerBuildsAreIgnored) {
  json::object newer = to_value(full_status()).get_object();
  newer["tls"] = json::object{{"ports", json::array{1, 2}}};
  newer["disk"].get_object()["iops"] = 7;
  newer["members"].get_array()[0].get_object()["witness"] = true;
  auto status = from_json<node::StatusSnapshot>(json::serialize(newer));
  ASSERT_TRUE(status);
  EXPECT_EQ(*status, full_status());
}

TEST(Status, ValuesOfTheWrongKindAreDefaults) {
  auto status = from_json<node::StatusSnapshot>(
      R"({"id": -2, "name": 7, "term": 1.5, "role": "emperor", "digest": "xyz", "cluster_id": "ab",
          "disk": [], "members": [5, {"id": "1"}], "peers": {}, "settings": {"a": 1, "b": "2"},
          "started_ms": 9223372036854775807, "ready": "yes", "plugin": {"level": 4294967296}})");
  ASSERT_TRUE(status);
  node::StatusSnapshot expected;
  expected.members = {node::MemberStatus{}};
  expected.settings = {{"b", "2"}};
  EXPECT_EQ(*status, expected);
  for (const char* text : {"", "[]", "7", "null", "{", "{} x"}) {
    EXPECT_FALSE(from_json<node::StatusSnapshot>(text)) << text;
  }
}

TEST(Status, TextHasTheSameFields) {
  const node::StatusSnapshot status = full_status();
  const std::string text = status_text(status);
  EXPECT_THAT(text, HasSubstr("id=2 name=n2 cluster_name=\"demo \\\"quoted\\\"\""));
  EXPECT_THAT(text, HasSubstr(" role=candidate term=7 leader=3 "));
  EXPECT_THAT(text, HasSubstr(" disk.state=\"no room\" disk.free_bytes=123 "));
  EXPECT_EQ(status_text(status, {"role", "term", "plugin"}),
            "role=candidate term=7 plugin.name=counter plugin.version=1.0.0 plugin.level=3 "
            "plugin.warning=\"file changed since start\"");
  EXPECT_EQ(status_text(node::StatusSnapshot{}, {"leader", "name"}), "name=\"\" leader=none");
  EXPECT_THAT(status_lines(status),
              ElementsAre("member id=1 voter=false peer=a:1 client=a:2 http=a:3 promoting=true "
                          "disk=0a priority=7",
                          HasSubstr("member id=2 voter=true"),
                          "peer id=1 active=true state=replicate match_index=9 lag=3"));
}

TEST(ClusterAnswer, KeepsWhatOnlyNewerBuildsKnow) {
  ClusterAnswer cluster;
  cluster.asked = NodeId(1);
  json::value newer = to_value(full_status());
  newer.get_object()["tls"] = true;
  cluster.nodes = {{NodeId(2), "h:1", true, "", false, newer},
                   {NodeId(3), "h:2", false, "why", true, nullptr}};
  const std::string text = to_json(cluster);
  EXPECT_THAT(text, HasSubstr(R"("tls":true)"));
  EXPECT_THAT(text, HasSubstr(R"("error":null,"stranger":false,"status":{"id":2)"));
  auto back = from_json<ClusterAnswer>(text);
  ASSERT_TRUE(back);
  EXPECT_EQ(to_json(*back), text);
  EXPECT_EQ(back->nodes[0].read_status(), full_status());
  EXPECT_FALSE(back->nodes[1].read_status());
  EXPECT_EQ(back->nodes[1].error, "why");
}

TEST(Answers, RoundTripKeepsAllFields) {
  SnapshotList list{true, "no space", {{"b.snapshot", Index(9), Term(2), 500, 60}, {}}};
  EXPECT_EQ(to_json(list), R"({"taking":true,"failure":"no space","snapshots":[)"
                           R"({"name":"b.snapshot","index":9,"term":2,"bytes":500,)"
                           R"("age_seconds":60},)"
                           R"({"name":"","index":0,"term":0,"bytes":0,"age_seconds":0}]})");
  EXPECT_EQ(to_json(*from_json<SnapshotList>(to_json(list))), to_json(list));
  EXPECT_EQ(to_json(ChangeAnswer{Index(9), "appended"}), R"({"index":9,"text":"appended"})");
  EXPECT_EQ(from_json<ChangeAnswer>(R"({"index":9,"text":"appended"})")->text, "appended");
  EXPECT_EQ(from_json<SnapshotTaken>(to_json(SnapshotTaken{Index(7)}))->index, Index(7));
  // An older list, and a newer one.
  EXPECT_EQ(from_json<SnapshotList>(R"({"snapshots":[{"name":"a"}]})")->snapshots[0].name, "a");
  EXPECT_TRUE(from_json<SnapshotList>(R"({"taking":true,"queue":[1]})")->taking);
}

TEST(Problem, CodeIsLeftOutWhenEmpty) {
  Problem problem;
  problem.title = "Not found";
  problem.status = 404;
  problem.detail = "why";
  EXPECT_EQ(to_json(problem),
            R"({"type":"about:blank","title":"Not found","status":404,"detail":"why"})");
  problem.code = "GONE";
  auto back = from_json<Problem>(to_json(problem));
  ASSERT_TRUE(back);
  EXPECT_EQ(back->code, "GONE");
  EXPECT_EQ(back->status, 404);
}

TEST(Status, HasTheFieldsThatToolsRead) {
  node::StatusSnapshot status;
  status.id = NodeId(2);
  status.name = "n2";
  status.cluster_name = "demo \"quoted\"";
  status.cluster_id.bytes[0] = 0xab;
  status.version = "0.1.0";
  status.role = raft::Role::kLeader;
  status.term = Term(7);
  status.leader = NodeId(2);
  status.last_index = Index(UINT64_MAX);
  status.commit_index = Index(11);
  status.applied_index = Index(10);
  status.snapshot_index = Index(5);
  status.digest = 0x1f;
  status.members = {{NodeId(1), true, "a:1", "a:2", "a:3"},
                    {NodeId(2), false, "b:1", "b:2", "b:3"}};
  status.peers = {{NodeId(1), true, "replicate", Index(9), 3}};
  status.plugin_name = "counter";
  status.plugin_version = "1.0.0";
  status.plugin_level = 1;
  status.divergence = "at index 17";
  status.disk_state = "full";
  status.disk_free_bytes = 123;
  status.writes_stopped = true;
  status.max_request = 2 << 20;
  status.max_clients = 800;
  status.log_lines_dropped = 4;
  status.ready = true;

  json::object object = json::parse(to_json(status)).as_object();
  EXPECT_EQ(object["id"].to_number<uint64_t>(), 2u);
  EXPECT_EQ(object["name"].as_string(), "n2");
  EXPECT_EQ(object["cluster_name"].as_string(), "demo \"quoted\"");
  EXPECT_EQ(object["cluster_id"].as_string(), "ab000000000000000000000000000000");
  EXPECT_EQ(object["role"].as_string(), "leader");
  EXPECT_EQ(object["term"].to_number<uint64_t>(), 7u);
  EXPECT_EQ(object["leader"].to_number<uint64_t>(), 2u);
  EXPECT_EQ(object["last_index"].to_number<uint64_t>(), UINT64_MAX);
  EXPECT_EQ(object["commit_index"].to_number<uint64_t>(), 11u);
  EXPECT_EQ(object["applied_index"].to_number<uint64_t>(), 10u);
  EXPECT_EQ(object["snapshot_index"].to_number<uint64_t>(), 5u);
  EXPECT_EQ(object["digest"].as_string(), "000000000000001f");
  EXPECT_EQ(object["ready"].as_bool(), true);
  EXPECT_EQ(object["divergence"].as_string(), "at index 17");
  json::object disk = object["disk"].as_object();
  EXPECT_EQ(disk["state"].as_string(), "full");
  EXPECT_EQ(disk["free_bytes"].to_number<uint64_t>(), 123u);
  EXPECT_EQ(disk["writes_stopped"].as_bool(), true);
  json::object limits = object["limits"].as_object();
  EXPECT_EQ(limits["max_request"].to_number<uint64_t>(), 2097152u);
  EXPECT_EQ(limits["max_clients"].to_number<uint64_t>(), 800u);
  EXPECT_EQ(object["version"].as_string(), "0.1.0");
  ASSERT_EQ(object["members"].as_array().size(), 2u);
  json::object member = object["members"].as_array()[1].as_object();
  EXPECT_EQ(member["id"].to_number<uint64_t>(), 2u);
  EXPECT_EQ(member["voter"].as_bool(), false);
  EXPECT_EQ(member["http"].as_string(), "b:3");
  ASSERT_EQ(object["peers"].as_array().size(), 1u);
  json::object peer = object["peers"].as_array()[0].as_object();
  EXPECT_EQ(peer["match_index"].to_number<uint64_t>(), 9u);
  EXPECT_EQ(peer["lag"].to_number<uint64_t>(), 3u);
  EXPECT_EQ(object["plugin"].as_object()["name"].as_string(), "counter");
}

TEST(Status, NoneIsNull) {
  json::object object = json::parse(to_json(node::StatusSnapshot{})).as_object();
  EXPECT_TRUE(object["leader"].is_null());
  EXPECT_TRUE(object["cluster_id"].is_null());
  EXPECT_TRUE(object["divergence"].is_null());
  EXPECT_TRUE(object["members"].as_array().empty());
}

TEST(CallOutcome, OnlyUnknownIsAGatewayTimeout) {
  // Every code has its own name and an error status; 504 alone leaves the outcome open.
  std::set<std::string_view> names;
  for (uint8_t code = 0; code <= 10; ++code) {
    CallOutcome outcome = call_outcome(static_cast<node::ReplyCode>(code));
    EXPECT_TRUE(names.insert(outcome.code).second) << outcome.code;
    EXPECT_EQ(outcome.code, node::reply_code_name(static_cast<node::ReplyCode>(code)));
    EXPECT_EQ(outcome.http_status == 200, code == 0);
    EXPECT_EQ(outcome.http_status == 504, outcome.code == "UNKNOWN");
    EXPECT_EQ(reply_code_of(outcome.code), static_cast<node::ReplyCode>(code));
  }
  EXPECT_EQ(reply_code_of(""), std::nullopt);
  EXPECT_EQ(reply_code_of("NEWER"), std::nullopt);
}

TEST(Status, RolesHaveTheCoresNames) {
  for (uint8_t role = 0; role <= 3; ++role) {
    EXPECT_EQ(role_text(static_cast<raft::Role>(role)),
              raft::role_name(static_cast<raft::Role>(role)));
  }
}

}  // namespace
}  // namespace connectd::admin
