#include "raft/settings.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/limits.h"

namespace connectd::raft {

namespace {
constexpr uint8_t kVersion = 1;
// Behind the fields of version 1: the feature level. Written only when that is over the first one,
// so builds that came before it read all that is written until then.
constexpr uint8_t kVersionWithLevel = 2;
}  // namespace

Duration Settings::lease_length() const {
  if (!lease_reads) return Duration();
  const int64_t slow = 100 - max_clock_drift_percent;
  const int64_t fast = 100 + max_clock_drift_percent;
  return confirmed_timeout / fast * slow;
}

Settings Settings::changed_to(Settings wanted) const {
  wanted.confirmed_timeout =
      wanted.lease_reads ? std::min(confirmed_timeout, wanted.election_timeout) : Duration();
  return wanted;
}

std::string Settings::encode() const {
  std::string bytes;
  ByteWriter out(bytes);
  const bool has_level = feature_level > kFirstFeatureLevel;
  out.number<uint8_t>(has_level ? kVersionWithLevel : kVersion);
  out.number<uint8_t>(lease_reads ? 1 : 0);
  out.number<uint8_t>(max_clock_drift_percent);
  out.number<uint64_t>(static_cast<uint64_t>(election_timeout.count()));
  out.number<uint64_t>(static_cast<uint64_t>(confirmed_timeout.count()));
  if (has_level) out.number<uint32_t>(feature_level);
  return bytes;
}

bool Settings::decode(ByteReader& in, Settings& out) {
  constexpr uint64_t kMaxNs =
      static_cast<uint64_t>(std::chrono::duration_cast<Duration>(std::chrono::hours(1)).count());
  const auto version = in.number<uint8_t>();
  if (version != kVersion && version != kVersionWithLevel) return false;
  const auto lease = in.number<uint8_t>();
  const auto drift = in.number<uint8_t>();
  const auto timeout = in.number<uint64_t>();
  const auto confirmed = in.number<uint64_t>();
  const auto level = version == kVersion ? kFirstFeatureLevel : in.number<uint32_t>();
  if (version != kVersion && level <= kFirstFeatureLevel) return false;
  if (!in.ok() || lease > 1 || drift > kMaxClockDriftPercent || timeout == 0 || timeout > kMaxNs ||
      confirmed > timeout) {
    return false;
  }
  out.lease_reads = lease == 1;
  out.max_clock_drift_percent = drift;
  out.election_timeout = Duration(static_cast<int64_t>(timeout));
  out.confirmed_timeout = Duration(static_cast<int64_t>(confirmed));
  out.feature_level = level;
  return true;
}

bool Settings::are_newer(ByteView bytes) { return !bytes.empty() && bytes[0] > kVersionWithLevel; }

Result<void> check_supported(const Settings& settings, Index index, uint32_t highest,
                             const std::string& place) {
  if (settings.feature_level <= highest) return {};
  return failure(ErrorKind::kNewerVersion,
                 fmt::format("{}: index {} set the cluster's feature level to {}, and this "
                             "connectd supports levels up to {}: a newer version wrote the data. "
                             "Start the version that ran here before, or a newer one",
                             place, index, settings.feature_level, highest));
}

Result<Settings> read_settings(ByteView payload, Index index, uint32_t highest,
                               const std::string& place) {
  if (Settings::are_newer(payload)) {
    return failure(
        ErrorKind::kNewerVersion,
        fmt::format(
            "{}: the settings at index {} have unknown format version {}: a newer version wrote "
            "them. The log was not changed. Start the version that ran here before, or a newer one",
            place, index, payload[0]));
  }
  ByteReader in(payload);
  Settings settings;
  if (!Settings::decode(in, settings)) {
    return failure(ErrorKind::kCorrupt,
                   fmt::format("{}: invalid settings at index {}", place, index));
  }
  auto supported = check_supported(settings, index, highest, place);
  if (!supported) return failure(supported.error());
  return settings;
}

}  // namespace connectd::raft
