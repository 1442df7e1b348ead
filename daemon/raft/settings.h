// What the whole cluster agrees on about time: settings that must never differ from node to node,
// because one node's safety rests on what the others keep to. They are part of the founding
// document, are changed by an entry (EntryKind::kSettings), and are part of every snapshot. Values.
#pragma once

#include <cstdint>
#include <string>

#include "base/bytes.h"
#include "base/clock.h"
#include "raft/types.h"

namespace connectd::raft {

struct Settings {
  // A follower that has heard no leader for this long, up to twice this long, campaigns.
  Duration election_timeout = std::chrono::milliseconds(500);
  // Leaders may serve reads by a lease, and every node keeps the promise that a lease rests on: for
  // an election timeout after it heard a leader, and after it started, it elects nobody.
  bool lease_reads = false;
  // Each clock is at most so much faster or slower than time.
  uint8_t max_clock_drift_percent = 10;
  // Every voter is known to keep the promise at least this long, durably: what a lease may be
  // counted from. 0: it is not known. Leaders set it, nobody else (docs/adr/0016-lease-reads.md).
  Duration confirmed_timeout{};
  bool operator==(const Settings&) const = default;

  static constexpr uint8_t kMaxDriftPercent = 40;

  // How long a lease lasts from the moment at which the message that renewed it left: the fastest
  // clock must not have counted confirmed_timeout before the slowest has counted this. 0: no lease.
  Duration lease_length() const;
  // These settings in force, what an operator wants to change them to: what is confirmed of it.
  Settings changed_to(Settings wanted) const;

  // docs/storage-format.md, "Settings".
  std::string encode() const;
  // Reads as much as it needs; false: it does not make sense.
  static bool decode(ByteReader& in, Settings& out);
  // decode() fails because a newer connectd wrote them.
  static bool are_newer(ByteView bytes);
};

// Settings and the entry that brought them, 0: the founding document.
struct SettingsAtIndex {
  Index index;
  Settings settings;
};

}  // namespace connectd::raft
