#include "node/membership/feature_levels.h"

#include <fmt/format.h>

namespace connectd::node {

void FeatureLevels::announced(NodeId peer, const DiskId& disk, uint32_t highest) {
  announcements_[peer] = {disk, highest};
}

Result<void> FeatureLevels::check_raise(uint32_t level,
                                        const std::vector<GenesisMember>& members) const {
  std::string why;
  auto add = [&](const std::string& text) { why += (why.empty() ? "" : "; ") + text; };
  for (const GenesisMember& member : members) {
    uint32_t highest = highest_;
    if (member.id != self_) {
      auto known = announcements_.find(member.id);
      const bool counts = known != announcements_.end() &&
                          (!member.disk_id || known->second.disk == member.disk_id);
      if (!counts) {
        add(fmt::format("node {} has not announced its level since the leader started", member.id));
        continue;
      }
      highest = known->second.highest;
    }
    if (highest < level) add(fmt::format("node {} supports levels up to {}", member.id, highest));
  }
  if (why.empty()) return {};
  return failure(
      ErrorKind::kUsage,
      fmt::format("feature level {} requires every member, including those that are down: {}. "
                  "Upgrade and start them, or remove the lost ones, then try again",
                  level, why));
}

}  // namespace connectd::node
