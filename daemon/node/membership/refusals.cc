#include "node/membership/refusals.h"

#include <fmt/format.h>

namespace connectd::node {

std::optional<Error> Refusals::refused(NodeId peer, const wire::Refusal& refusal, bool has_node) {
  switch (refusal.code) {
    case wire::RefusalCode::kDiskId:
      // Who was let in with this disk is refused only by those who have not heard of it yet, or if
      // the change came to nothing: then another `member replace` lets it in again.
      if (has_node) return std::nullopt;
      [[fallthrough]];
    case wire::RefusalCode::kRemoved:
    case wire::RefusalCode::kRecovered:
      // Only a member of this very cluster says this.
      return Error{ErrorKind::kNotAdmitted,
                   fmt::format("refused by node {}: {}", peer, refusal.text)};
    case wire::RefusalCode::kClusterName:
    case wire::RefusalCode::kClusterId:
    case wire::RefusalCode::kPluginName:
    case wire::RefusalCode::kPluginLevel:
    case wire::RefusalCode::kSkips:
      // One stranger at a peer's address must not stop a healthy node; a majority is right.
      by_.insert(peer);
      if (by_.size() < members_ / 2 + 1 && (by_.size() + 1 < members_ || members_ == 1)) {
        return std::nullopt;
      }
      return Error{ErrorKind::kNotAdmitted,
                   fmt::format("refused by {} of {} members; node {} says: {}", by_.size(),
                               members_, peer, refusal.text)};
    case wire::RefusalCode::kOther:
    case wire::RefusalCode::kProtocol:
    case wire::RefusalCode::kWrongNode:
    case wire::RefusalCode::kLeftBehind:
    case wire::RefusalCode::kNotMember:
      break;  // the transport has logged it, and tries again
  }
  return std::nullopt;
}

}  // namespace connectd::node
