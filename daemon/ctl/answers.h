// What connectctl makes of the nodes' answers; their fields are read by admin/answers.h alone.
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

// Of an answer that is a problem; else empty.
inline std::string code_of(const admin::HttpAnswer& answer) {
  auto problem = admin::from_json<admin::Problem>(answer.body);
  return problem ? problem->code : "";
}
inline std::string detail_of(const admin::HttpAnswer& answer) {
  auto problem = admin::from_json<admin::Problem>(answer.body);
  return problem && !problem->detail.empty() ? problem->detail
                                             : fmt::format("HTTP status {}", answer.status);
}

// Of several endpoints, which one took the request.
inline void tell_which(const Context& context, const Address& endpoint) {
  if (context.endpoints.size() > 1) context.streams.err << "asked " << endpoint.to_string() << "\n";
}

// Asks `endpoint` for /v1/cluster. Nothing when there is no such answer; then ", ENDPOINT: why" is
// appended to `why`. `body`: gets the answer as it came.
inline std::optional<admin::ClusterAnswer> ask_cluster(const Address& endpoint, Duration timeout,
                                                       std::string& why,
                                                       std::string* body = nullptr) {
  admin::HttpRequest request;
  request.target = "/v1/cluster";
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
