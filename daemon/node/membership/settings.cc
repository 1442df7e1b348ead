#include "node/membership/settings.h"

#include <fmt/format.h>

#include <limits>

#include "config/options.h"
#include "config/values.h"

namespace connectd::node {
namespace {

constexpr std::string_view kElectionTimeout = "raft.election_timeout";
constexpr std::string_view kLeaseReads = "raft.lease_reads";
constexpr std::string_view kMaxClockDrift = "raft.max_clock_drift_percent";
// Less, and no heartbeat may be late; the configuration asks the same.
constexpr int kHeartbeats = 3;

// The range of the option table, which the configuration file and `settings set` share.
template <class Value, class Parse>
Result<Value> in_range(std::string_view key, std::string_view text, Parse&& parse) {
  auto value = parse(text);
  if (!value) return failure(ErrorKind::kUsage, fmt::format("{}: {}", key, value.error()));
  const config::Option* option = config::find_option(key);
  auto low = parse(option->min);
  auto high = parse(option->max);
  if (*value < *low || *value > *high) {
    return failure(ErrorKind::kUsage, fmt::format("{}: {} is out of range {} to {}", key, text,
                                                  option->min, option->max));
  }
  return *value;
}

}  // namespace

std::vector<Setting> list_settings(const raft::Settings& settings) {
  return {
      {std::string(kElectionTimeout), config::format_duration(settings.election_timeout)},
      {std::string(kLeaseReads), settings.lease_reads ? "true" : "false"},
      {std::string(kMaxClockDrift), std::to_string(settings.max_clock_drift_percent)},
      {std::string(kFeatureLevelKey), std::to_string(settings.feature_level)},
  };
}

Result<raft::Settings> with_setting(raft::Settings settings, std::string_view key,
                                    std::string_view value, Duration heartbeat_interval) {
  if (key == kElectionTimeout) {
    auto timeout = in_range<Duration>(key, value, config::parse_duration);
    if (!timeout) return failure(timeout.error());
    if (*timeout < kHeartbeats * heartbeat_interval) {
      return failure(
          ErrorKind::kUsage,
          fmt::format("{}: {} is less than {} x raft.heartbeat_interval, which is {} on "
                      "the leader",
                      key, value, kHeartbeats, config::format_duration(heartbeat_interval)));
    }
    settings.election_timeout = *timeout;
  } else if (key == kLeaseReads) {
    auto on = config::parse_bool(value);
    if (!on) return failure(ErrorKind::kUsage, fmt::format("{}: {}", key, on.error()));
    settings.lease_reads = *on;
  } else if (key == kMaxClockDrift) {
    auto percent = in_range<uint64_t>(key, value, config::parse_integer);
    if (!percent) return failure(percent.error());
    settings.max_clock_drift_percent = static_cast<uint8_t>(*percent);
  } else if (key == kFeatureLevelKey) {
    auto level = config::parse_integer(value);
    if (!level) return failure(ErrorKind::kUsage, fmt::format("{}: {}", key, level.error()));
    if (*level < settings.feature_level || *level > std::numeric_limits<uint32_t>::max()) {
      return failure(
          ErrorKind::kUsage,
          fmt::format("{}: {} is invalid: the current level is {}, and it is never lowered", key,
                      value, settings.feature_level));
    }
    settings.feature_level = static_cast<uint32_t>(*level);
  } else {
    std::string known;
    for (const Setting& setting : list_settings(settings)) {
      known += (known.empty() ? "" : ", ") + setting.key;
    }
    return failure(
        ErrorKind::kUsage,
        fmt::format("'{}' is not a cluster setting; must be one of {}", key.substr(0, 64), known));
  }
  return settings;
}

std::vector<std::string> setting_differences(const raft::Settings& configured,
                                             const raft::Settings& in_force) {
  std::vector<std::string> warnings;
  const std::vector<Setting> wanted = list_settings(configured);
  const std::vector<Setting> real = list_settings(in_force);
  for (size_t i = 0; i < wanted.size(); ++i) {
    if (wanted[i].value == real[i].value || wanted[i].key == kFeatureLevelKey) continue;
    warnings.push_back(
        fmt::format("{} differs config={} cluster={}: the cluster's value applies. To change it: "
                    "connectctl settings set {} {}",
                    wanted[i].key, wanted[i].value, real[i].value, wanted[i].key, wanted[i].value));
  }
  return warnings;
}

}  // namespace connectd::node
