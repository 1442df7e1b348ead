#include "admin/status_json.h"

#include <fmt/format.h>

#include <boost/json.hpp>

namespace connectd::admin {

namespace json = boost::json;

std::string_view role_text(raft::Role role) {
  switch (role) {
    case raft::Role::kFollower:
      return "follower";
    case raft::Role::kPreCandidate:
      return "pre-candidate";
    case raft::Role::kCandidate:
      return "candidate";
    case raft::Role::kLeader:
      return "leader";
  }
  return "?";
}

CallOutcome call_outcome(node::ReplyCode code) {
  switch (code) {
    case node::ReplyCode::kOk:
      return {200, "OK", "done"};
    case node::ReplyCode::kNoLeader:
      return {503, "NOLEADER", "There is no leader"};
    case node::ReplyCode::kOverloaded:
      return {429, "OVERLOADED", "Too many requests under way"};
    case node::ReplyCode::kTooLarge:
      return {413, "TOOLARGE", "The request is too large"};
    case node::ReplyCode::kRejected:
      return {400, "REJECTED", "The plugin refused the request"};
    case node::ReplyCode::kDiskFull:
      return {507, "DISKFULL", "No quorum has disk space left"};
    case node::ReplyCode::kShutdown:
      return {503, "SHUTDOWN", "This node is stopping"};
    case node::ReplyCode::kBadFrame:
      return {400, "BADFRAME", "The request was not understood"};
    case node::ReplyCode::kPlugin:
      return {500, "PLUGIN", "The plugin failed on this request"};
    case node::ReplyCode::kSessionGone:
      return {409, "SESSION_GONE", "The session is gone"};
    case node::ReplyCode::kUnknown:
      return {504, "UNKNOWN", "The outcome is not known"};
    case node::ReplyCode::kStale:
      return {503, "STALE", "This node's state is too old"};
  }
  return {500, "PLUGIN", "An unknown outcome"};
}

std::string status_json(const node::StatusSnapshot& status) {
  json::array members;
  for (const node::MemberStatus& member : status.members) {
    members.push_back(json::object{{"id", member.id.value()},
                                   {"voter", member.voter},
                                   {"peer", member.peer},
                                   {"client", member.client},
                                   {"http", member.http},
                                   {"promoting", member.promoting},
                                   {"disk", member.disk},
                                   {"priority", member.priority}});
  }
  json::object settings;
  for (const auto& [key, value] : status.settings) settings[key] = value;
  json::array peers;
  for (const node::PeerProgress& peer : status.peers) {
    peers.push_back(json::object{{"id", peer.id.value()},
                                 {"active", peer.active},
                                 {"state", peer.state},
                                 {"match_index", peer.match.value()},
                                 {"lag", peer.lag}});
  }
  json::object object{
      {"id", status.id.value()},
      {"name", status.name},
      {"cluster_name", status.cluster_name},
      {"cluster_id", status.cluster_id ? json::value(status.cluster_id.to_string()) : nullptr},
      {"version", status.version},
      {"started_ms", status.started_wall_ns / 1'000'000},
      {"role", std::string(role_text(status.role))},
      {"term", status.term.value()},
      {"leader", status.leader ? json::value(status.leader.value()) : nullptr},
      {"last_index", status.last_index.value()},
      {"commit_index", status.commit_index.value()},
      {"applied_index", status.applied_index.value()},
      {"snapshot_index", status.snapshot_index.value()},
      {"digest", fmt::format("{:016x}", status.digest)},
      {"divergence",
       status.divergence.empty() ? json::value(nullptr) : json::value(status.divergence)},
      {"disk", json::object{{"state", status.disk_state},
                            {"free_bytes", status.disk_free_bytes},
                            {"writes_stopped", status.writes_stopped}}},
      {"ready", status.ready},
      {"reason", status.reason},
      {"members", std::move(members)},
      {"members_index", status.members_index.value()},
      {"members_settled", status.members_settled},
      {"peers", std::move(peers)},
      {"settings", std::move(settings)},
      {"settings_index", status.settings_index.value()},
      {"lease", status.lease},
      {"plugin", json::object{{"name", status.plugin_name},
                              {"version", status.plugin_version},
                              {"level", status.plugin_level}}}};
  return json::serialize(object);
}

std::string problem_json(int http_status, std::string_view title, std::string_view detail,
                         std::string_view code) {
  json::object object{{"type", "about:blank"},
                      {"title", std::string(title)},
                      {"status", http_status},
                      {"detail", std::string(detail)}};
  if (!code.empty()) object["code"] = std::string(code);
  return json::serialize(object);
}

}  // namespace connectd::admin
