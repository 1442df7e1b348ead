// Texts and values from the nodes' answers; only admin/answers.h reads their fields.
#pragma once

#include <fmt/format.h>

#include <optional>
#include <string>

#include "admin/answers.h"
#include "admin/guards.h"
#include "admin/http_client.h"
#include "base/address.h"
#include "ctl/commands.h"

namespace connectd::ctl {

// Of a problem answer; else empty.
inline std::string code_of(const admin::HttpAnswer& answer) {
  auto problem = admin::from_json<admin::Problem>(answer.body);
  return problem ? problem->code : "";
}
inline std::string detail_of(const admin::HttpAnswer& answer) {
  auto problem = admin::from_json<admin::Problem>(answer.body);
  return problem && !problem->detail.empty() ? problem->detail
                                             : fmt::format("HTTP status {}", answer.status);
}

// Prints which one of several endpoints accepted the request.
inline void tell_which(const Context& context, const Address& endpoint) {
  if (context.endpoints.size() > 1) context.streams.err << "asked " << endpoint.to_string() << "\n";
}

// Asks `endpoint` for /v1/cluster. Without a valid answer it returns nothing, and appends
// ", ENDPOINT: why" to `why`. `body`: gets the unparsed answer.
inline std::optional<admin::ClusterAnswer> ask_cluster(const Context& context,
                                                       const Address& endpoint, Duration timeout,
                                                       std::string& why,
                                                       std::string* body = nullptr) {
  admin::HttpRequest request;
  request.target = "/v1/cluster";
  request.tls = context.tls;
  request.token = context.token;
  admin::HttpOutcome outcome = admin::fetch(endpoint, std::move(request), timeout);
  auto cluster = outcome && outcome->status == 200
                     ? admin::from_json<admin::ClusterAnswer>(outcome->body)
                     : std::nullopt;
  if (!cluster) {
    why += fmt::format("{}{}: {}", why.empty() ? "" : ", ", endpoint.to_string(),
                       outcome ? detail_of(*outcome) : outcome.error().text);
  } else if (body != nullptr) {
    *body = std::move(outcome->body);
  }
  return cluster;
}

}  // namespace connectd::ctl
