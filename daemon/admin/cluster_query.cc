#include "admin/cluster_query.h"

#include <fmt/format.h>

#include <boost/json.hpp>
#include <memory>
#include <optional>
#include <utility>

#include "admin/http_client.h"
#include "admin/limits.h"
#include "base/address.h"

namespace connectd::admin {

// Of the node that was asked.
struct AskedCluster {
  std::string name;
  ClusterId id;
};

namespace {

// Who answers at a member's address: that member, or somebody else. Empty: the member. A node that
// belongs to no cluster yet is judged by the name.
std::string stranger_text(const AskedCluster& own, NodeId expected,
                          const node::StatusSnapshot& status) {
  const bool both_belong = own.id && status.cluster_id;
  if (status.cluster_name != own.name || (both_belong && status.cluster_id != own.id)) {
    return fmt::format(
        "a node of another cluster answers at this address: node {} of cluster '{}', id {}",
        status.id, status.cluster_name, status.cluster_id ? status.cluster_id.to_string() : "none");
  }
  if (status.id != expected) {
    return fmt::format("another node answers at this address: node {}", status.id);
  }
  return {};
}

// What came of asking `node`.
void take_answer(const AskedCluster& own, ClusterAnswer::Node& node, const HttpOutcome& outcome) {
  if (!outcome) {
    node.error = outcome.error().text;
    return;
  }
  boost::system::error_code ec;
  ClusterAnswer::Node answered;
  answered.status = boost::json::parse(outcome->body, ec);
  auto status = ec ? std::nullopt : answered.read_status();
  if (outcome->status != 200 || !status) {
    auto problem = from_json<Problem>(outcome->body);
    node.error = problem && !problem->detail.empty() ? problem->detail
                                                     : fmt::format("answered {}", outcome->status);
    return;
  }
  node.error = stranger_text(own, node.id, *status);
  node.stranger = !node.error.empty();
  if (node.stranger) return;
  node.reachable = true;
  node.status = std::move(answered.status);
}

}  // namespace

struct ClusterQueries::Query {
  ClusterAnswer answer;
  AskedCluster cluster;
  size_t waiting = 0;
  std::function<void(const ClusterAnswer&)> done;
};

void ClusterQueries::ask(const node::StatusSnapshot& own, const Address& advertised,
                         const std::string& token, std::function<void(const ClusterAnswer&)> done) {
  auto query = std::make_shared<Query>();
  query->answer.asked = own.id;
  query->cluster = {own.cluster_name, own.cluster_id};
  query->done = std::move(done);
  const ClusterAnswer::Node self{own.id, advertised.to_string(), true, "", false, to_value(own)};
  std::vector<std::pair<size_t, Address>> others;
  bool listed = false;
  for (const node::MemberStatus& member : own.members) {
    ClusterAnswer::Node node{member.id, member.http, false, "", false, nullptr};
    if (member.id == own.id) {
      listed = true;
      node.reachable = true;
      node.status = self.status;
    } else if (auto address = parse_address(member.http)) {
      others.emplace_back(query->answer.nodes.size(), *address);
    } else {
      node.error = "unknown http address";
    }
    query->answer.nodes.push_back(std::move(node));
  }
  if (!listed) query->answer.nodes.push_back(self);
  if (others.empty()) return query->done(query->answer);
  query->waiting = others.size();
  for (auto& [place, address] : others) {
    HttpRequest request;
    request.target = "/v1/status";
    request.tls = tls_;
    request.token = token;
    fetch(io_, names_, address, std::move(request), kMemberTimeout, kMaxMemberAnswer,
          [query, place = place](const HttpOutcome& outcome) {
            take_answer(query->cluster, query->answer.nodes[place], outcome);
            if (--query->waiting == 0) query->done(query->answer);
          });
  }
}

}  // namespace connectd::admin
