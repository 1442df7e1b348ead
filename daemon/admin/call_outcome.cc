#include "admin/call_outcome.h"

namespace connectd::admin {

CallOutcome call_outcome(node::ReplyCode code) {
  switch (code) {
    case node::ReplyCode::kOk:
      return {200, "OK", "done"};
    case node::ReplyCode::kNoLeader:
      return {503, "NOLEADER", "No leader"};
    case node::ReplyCode::kOverloaded:
      return {429, "OVERLOADED", "Too many requests in progress"};
    case node::ReplyCode::kTooLarge:
      return {413, "TOOLARGE", "Request too large"};
    case node::ReplyCode::kRejected:
      return {400, "REJECTED", "The plugin rejected the request"};
    case node::ReplyCode::kDiskFull:
      return {507, "DISKFULL", "No quorum has free disk space"};
    case node::ReplyCode::kShutdown:
      return {503, "SHUTDOWN", "This node is stopping"};
    case node::ReplyCode::kBadFrame:
      return {400, "BADFRAME", "Malformed request"};
    case node::ReplyCode::kPlugin:
      return {500, "PLUGIN", "The plugin failed on this request"};
    case node::ReplyCode::kSessionGone:
      return {409, "SESSION_GONE", "The session has expired"};
    case node::ReplyCode::kUnknown:
      return {504, "UNKNOWN", "Unknown outcome"};
    case node::ReplyCode::kStale:
      return {503, "STALE", "This node's state is too old"};
    case node::ReplyCode::kNoPerm:
      return {403, "NOPERM", "The caller may not do this"};
  }
  return {500, "PLUGIN", "Unknown outcome code"};
}

std::optional<node::ReplyCode> reply_code_of(std::string_view code) {
  for (uint8_t number = 0; number <= static_cast<uint8_t>(node::ReplyCode::kNoPerm); ++number) {
    const auto known = static_cast<node::ReplyCode>(number);
    if (call_outcome(known).code == code) return known;
  }
  return std::nullopt;
}

}  // namespace connectd::admin
