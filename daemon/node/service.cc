#include "node/service.h"

#include "plugin/plugin.h"

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
    case ReplyCode::kNoPerm:
      return "NOPERM";
  }
  return "UNKNOWN";
}

Framing framing_of(const plugin::Plugin& plugin) {
  switch (plugin.framing()) {
    case CONNECTD_FRAMING_RESP:
      return Framing::kResp;
    case CONNECTD_FRAMING_LENGTH:
      return Framing::kLength;
    default:
      return Framing::kLine;
  }
}

}  // namespace connectd::node
