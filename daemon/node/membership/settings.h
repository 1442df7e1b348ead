// The cluster's settings as operators see them: keys as in the configuration file, values as they
// are written there. Pure functions; any thread.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/clock.h"
#include "base/error.h"
#include "raft/settings.h"

namespace connectd::node {

struct Setting {
  std::string key;
  std::string value;
  bool operator==(const Setting&) const = default;
};

// The feature level (raft/feature_level.h): it is in no configuration, and operators raise it.
inline constexpr std::string_view kFeatureLevelKey = "cluster.feature_level";

// In the order in which they are shown.
std::vector<Setting> list_settings(const raft::Settings& settings);

// `settings` with one of them changed. kUsage with what is wrong with the key or the value.
// `heartbeat_interval`: of this node, which an election timeout must leave room for.
Result<raft::Settings> with_setting(raft::Settings settings, std::string_view key,
                                    std::string_view value, Duration heartbeat_interval);

// Where a node's configuration says something else than the cluster: a warning for each, which
// names the command. What counts is the cluster's.
std::vector<std::string> setting_differences(const raft::Settings& configured,
                                             const raft::Settings& in_force);

}  // namespace connectd::node
