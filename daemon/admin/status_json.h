// The JSON of GET /v1/status and of problems (RFC 9457). Pure; any thread. docs/operations.md lists
// the fields.
#pragma once

#include <string>
#include <string_view>

#include "node/service.h"
#include "node/status.h"

namespace connectd::admin {

std::string status_json(const node::StatusSnapshot& status);

// "follower", "pre-candidate", "candidate", "leader".
std::string_view role_text(raft::Role role);

// How an outcome of a request is told in HTTP.
struct CallOutcome {
  int http_status;
  std::string_view code;   // "NOLEADER"
  std::string_view title;  // for people
};
CallOutcome call_outcome(node::ReplyCode code);

// `code` may be empty.
std::string problem_json(int http_status, std::string_view title, std::string_view detail,
                         std::string_view code);

}  // namespace connectd::admin
