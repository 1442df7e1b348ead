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

Result<void> check_supported(const raft::Settings& settings, Index index, uint32_t highest,
                             const std::string& place) {
  if (settings.feature_level <= highest) return {};
  return failure(ErrorKind::kNewerVersion,
                 fmt::format("{}: index {} set the cluster's feature level to {}, and this "
                             "connectd supports levels up to {}: a newer version wrote the data. "
                             "Start the version that ran here before, or a newer one",
                             place, index, settings.feature_level, highest));
}

Result<raft::Settings> read_settings(ByteView payload, Index index, uint32_t highest,
                                     const std::string& place) {
  if (raft::Settings::are_newer(payload)) {
    return failure(
        ErrorKind::kNewerVersion,
        fmt::format(
            "{}: the settings at index {} have unknown format version {}: a newer version wrote "
            "them. The log was not changed. Start the version that ran here before, or a newer one",
            place, index, payload[0]));
  }
  ByteReader in(payload);
  raft::Settings settings;
  if (!raft::Settings::decode(in, settings)) {
    return failure(ErrorKind::kCorrupt,
                   fmt::format("{}: invalid settings at index {}", place, index));
  }
  auto supported = check_supported(settings, index, highest, place);
  if (!supported) return failure(supported.error());
  return settings;
}

}  // namespace connectd::node
