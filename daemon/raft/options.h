// What a core is made from: the host's options, and what recovery found. Values.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "base/clock.h"
#include "raft/settings.h"
#include "raft/types.h"

namespace connectd::raft {

struct Options {
  NodeId id;
  // Lower bound; drawn from [T, 2T). Counts while there are no settings
  // (Initial::settings_history).
  Duration election_timeout = std::chrono::milliseconds(500);
  Duration heartbeat_interval = std::chrono::milliseconds(50);
  bool pre_vote = true;
  bool check_quorum = true;
  uint8_t priority = kDefaultPriority;
  uint64_t seed = 0;                  // for timeouts; differs from node to node
  size_t max_append_bytes = 1 << 20;  // of one AppendRequest; at least one entry always goes
  size_t max_append_entries = 8192;
  size_t inflight_bytes = 16 << 20;  // unacknowledged per follower in replicate state
  size_t cache_bytes = 16 << 20;     // durable, applied entries kept in memory for followers
  size_t apply_bytes = 1 << 20;      // of one Ready::committed
};

// A configuration and the entry that brought it.
struct ConfAtIndex {
  Index index;
  ConfState conf;
  // What the host wants to know of the members (addresses, disks) beside who they are. It travels
  // in the entry, is in force and goes out of force with it, and means nothing to the core.
  Slice details{};
};

// What recovery found.
struct Initial {
  HardState hard_state;
  ConfState conf;  // in force at the end of the log
  // The configurations along the log, oldest first, `conf` last: one that is not committed goes out
  // of force if its entry is truncated. Empty: `conf` has been in force all along.
  std::vector<ConfAtIndex> conf_history;
  // Likewise the settings. Empty: Options::election_timeout, and no leases.
  std::vector<SettingsAtIndex> settings_history;
  // This log is begun in this life: nobody was ever promised anything by this node.
  bool is_fresh = false;
  SnapshotMark snapshot;       // newest durable snapshot; {0,0}: none
  Index first_index{1};        // first entry in the log; the log may start below the snapshot
  Term before_first_term;      // term of first_index - 1
  std::vector<TermRun> terms;  // of [first_index, last_index]
  Index last_index;            // first_index - 1 when the log is empty
  Index applied;               // what the state machine holds: the snapshot's index
  int64_t last_stamp_ns = 0;   // of the last entry or the snapshot
};

}  // namespace connectd::raft
