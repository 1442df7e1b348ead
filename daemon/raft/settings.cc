#include "raft/settings.h"

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

}  // namespace connectd::raft
