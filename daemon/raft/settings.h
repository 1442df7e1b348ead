// The cluster's settings about time. They must never differ between nodes, because each node's
// safety depends on the others keeping to them. They are part of the genesis and of every snapshot,
// and are changed by an entry (EntryKind::kSettings). Values.
#pragma once

#include <cstdint>
#include <string>

#include "base/bytes.h"
#include "base/clock.h"
#include "base/error.h"
#include "raft/feature_level.h"
#include "raft/types.h"

namespace connectd::raft {

struct Settings {
  // A follower campaigns after hearing no leader for this long to twice this long.
  Duration election_timeout = std::chrono::milliseconds(500);
  // Leaders may serve reads from a lease. Every node keeps the promise that leases depend on: for
  // an election timeout after it heard a leader, and after it started, it grants no vote.
  bool lease_reads = false;
  // Bound on how much faster or slower than real time any clock runs.
  uint8_t max_clock_drift_percent = 10;
  // Every voter is known to keep the promise for at least this long, durably; the length of leases
  // is derived from it. 0: unknown. Set by leaders only (docs/adr/0016-lease-reads.md).
  Duration confirmed_timeout{};
  // What may be written and sent (raft/feature_level.h). Rises, and never falls.
  uint32_t feature_level = kFirstFeatureLevel;
  bool operator==(const Settings&) const = default;

  // Length of a lease, counted from the send time of the message that renewed it: the slowest clock
  // must have counted it before the fastest has counted confirmed_timeout. 0: no lease.
  Duration lease_length() const;
  // Whether these settings, in force, allow what came with a level: an entry kind, a field, a peer
  // frame. Whoever is about to write or send such a thing asks this.
  bool allow(uint32_t since_level) const { return since_level <= feature_level; }
  // The settings to append when an operator changes these to `wanted`: confirmed_timeout is kept as
  // far as it still holds.
  Settings changed_to(Settings wanted) const;

  // docs/storage-format.md, "Settings".
  std::string encode() const;
  // Reads as much as it needs; false: invalid.
  static bool decode(ByteReader& in, Settings& out);
  // decode() fails because a newer connectd wrote them.
  static bool are_newer(ByteView bytes);
};

// kNewerVersion when `settings`, of the entry at `index` in `place`, are of a level over `highest`.
Result<void> check_supported(const Settings& settings, Index index, uint32_t highest,
                             const std::string& place);

// The settings of an entry of the log in `place`. kNewerVersion when a newer version wrote them.
Result<Settings> read_settings(ByteView payload, Index index, uint32_t highest,
                               const std::string& place);

// Settings and the index of their entry; 0: the genesis.
struct SettingsAtIndex {
  Index index;
  Settings settings;
};

}  // namespace connectd::raft
