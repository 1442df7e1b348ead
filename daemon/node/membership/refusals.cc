#include "node/membership/refusals.h"

#include <fmt/format.h>

namespace connectd::node {

void Refusals::reached(NodeId peer) {
  by_.erase(peer);
  said_.erase(peer);
}

std::optional<Error> Refusals::refused(NodeId peer, const wire::Refusal& refusal, Standing standing,
                                       Time now) {
  std::erase_if(said_, [&](const auto& said) { return said.second.until <= now; });
  if (said_.size() < kMaxTexts || listed_.contains(peer) || said_.contains(peer)) {
    said_[peer] = {refusal.text, now + wire::kRefusalStands};
  }
  switch (refusal.code) {
    case wire::RefusalCode::kRemoved:
    case wire::RefusalCode::kRecovered:
    case wire::RefusalCode::kTwin:
      // Only a member of this very cluster says this. It may be wrong: somebody who ran `connectctl
      // recover` on a copy of a member's disk must not end a cluster that works, and a copy that
      // one member has let in must not end the process that the leader knows.
      if (standing.has_quorum) return std::nullopt;
      return Error{ErrorKind::kNotAdmitted,
                   fmt::format("refused by node {}: {}", peer, refusal.text)};
    case wire::RefusalCode::kClusterName:
    case wire::RefusalCode::kClusterId:
    case wire::RefusalCode::kPluginName:
    case wire::RefusalCode::kPluginLevel:
    case wire::RefusalCode::kSkips:
      // Whoever answers at a member's address may be of another cluster. An empty node has nothing
      // to lose; others retry.
      if (standing.has_log || !listed_.contains(peer)) return std::nullopt;
      by_.insert(peer);
      if (by_.size() < listed_.size() / 2 + 1) return std::nullopt;
      return Error{ErrorKind::kNotAdmitted,
                   fmt::format("refused by {} of {} members; node {} says: {}", by_.size(),
                               listed_.size(), peer, refusal.text)};
    case wire::RefusalCode::kDiskId:
    case wire::RefusalCode::kRunsElsewhere:
      // `member replace` lets it in, or has done so already and this peer has not heard of it.
    case wire::RefusalCode::kOther:
    case wire::RefusalCode::kProtocol:
    case wire::RefusalCode::kWrongNode:
    case wire::RefusalCode::kLeftBehind:
    case wire::RefusalCode::kNotMember:
    case wire::RefusalCode::kTls:
      break;  // the transport has logged it, and tries again
  }
  return std::nullopt;
}

std::string Refusals::text(Time now) const {
  std::string text;
  for (const auto& [peer, said] : said_) {
    if (said.until <= now) continue;
    text += fmt::format("{}refused by node {}: {}", text.empty() ? "" : "; ", peer, said.text);
  }
  return text;
}

}  // namespace connectd::node
