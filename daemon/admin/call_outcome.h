// How an outcome of a request to the plugin is told in HTTP. Pure; any thread.
#pragma once

#include <optional>
#include <string_view>

#include "node/service.h"

namespace connectd::admin {

struct CallOutcome {
  int http_status;
  std::string_view code;   // "NOLEADER"
  std::string_view title;  // for people
};
CallOutcome call_outcome(node::ReplyCode code);
// From the code of an answer; none: this build does not know it.
std::optional<node::ReplyCode> reply_code_of(std::string_view code);

}  // namespace connectd::admin
