#include "node/service.h"

namespace connectd::node {

std::string_view reply_code_name(ReplyCode code) {
  switch (code) {
    case ReplyCode::kOk:
      return "OK";
    case ReplyCode::kNoLeader:
      return "NOLEADER";
    case ReplyCode::kOverloaded:
      return "OVERLOADED";
    case ReplyCode::kTooLarge:
      return "TOOLARGE";
    case ReplyCode::kRejected:
      return "REJECTED";
    case ReplyCode::kDiskFull:
      return "DISKFULL";
    case ReplyCode::kShutdown:
      return "SHUTDOWN";
    case ReplyCode::kBadFrame:
      return "BADFRAME";
    case ReplyCode::kPlugin:
      return "PLUGIN";
    case ReplyCode::kSessionGone:
      return "SESSION_GONE";
    case ReplyCode::kUnknown:
      return "UNKNOWN";
    case ReplyCode::kStale:
      return "STALE";
  }
  return "UNKNOWN";
}

}  // namespace connectd::node
