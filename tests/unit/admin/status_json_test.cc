#include "admin/status_json.h"

#include <gtest/gtest.h>

#include <boost/json.hpp>
#include <set>

namespace connectd::admin {
namespace {

namespace json = boost::json;

TEST(StatusJson, HasTheFieldsThatToolsReadIt) {
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
  status.ready = true;

  json::object object = json::parse(status_json(status)).as_object();
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

TEST(StatusJson, NoneIsNull) {
  json::object object = json::parse(status_json(node::StatusSnapshot{})).as_object();
  EXPECT_TRUE(object["leader"].is_null());
  EXPECT_TRUE(object["cluster_id"].is_null());
  EXPECT_TRUE(object["divergence"].is_null());
  EXPECT_TRUE(object["members"].as_array().empty());
}

TEST(StatusJson, OnlyUnknownIsAGatewayTimeout) {
  // Every code has its own name and an error status; 504 alone leaves the outcome open.
  std::set<std::string_view> names;
  for (uint8_t code = 0; code <= 10; ++code) {
    CallOutcome outcome = call_outcome(static_cast<node::ReplyCode>(code));
    EXPECT_TRUE(names.insert(outcome.code).second) << outcome.code;
    EXPECT_EQ(outcome.code, node::reply_code_name(static_cast<node::ReplyCode>(code)));
    EXPECT_EQ(outcome.http_status == 200, code == 0);
    EXPECT_EQ(outcome.http_status == 504, outcome.code == "UNKNOWN");
  }
}

TEST(StatusJson, RolesHaveTheCoresNames) {
  for (uint8_t role = 0; role <= 3; ++role) {
    EXPECT_EQ(role_text(static_cast<raft::Role>(role)),
              raft::role_name(static_cast<raft::Role>(role)));
  }
}

}  // namespace
}  // namespace connectd::admin
