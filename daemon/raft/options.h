// The constructor's arguments of a core: options, and what recovery found. Values.
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
  // T: timeouts are drawn from [T, 2T). Used only if Initial::settings_history is empty.
  Duration election_timeout = std::chrono::milliseconds(500);
  Duration heartbeat_interval = std::chrono::milliseconds(50);
  bool pre_vote = true;
  bool check_quorum = true;
  uint8_t priority = kDefaultPriority;
  uint64_t seed = 0;                  // for timeouts; differs between nodes
  size_t max_append_bytes = 1 << 20;  // of one AppendRequest, which has at least one entry
  size_t max_append_entries = 8192;
  // A leader neither accepts nor sends a larger payload. At least max_append_bytes.
  size_t max_payload_bytes = 32 << 20;
  size_t inflight_bytes = 16 << 20;  // unacknowledged per follower in replicate state
  size_t cache_bytes = 16 << 20;     // durable, applied entries kept in memory for followers
  size_t apply_bytes = 1 << 20;      // of one Ready::committed
  // Do not campaign before PeersTried, unless a leader was heard.
  bool awaits_peers = false;
  // The highest level that this node supports: it accepts no settings of a higher one.
  uint32_t feature_level_max = highest_feature_level();
};

// A configuration and the index of its entry.
struct ConfAtIndex {
  Index index;
  ConfState conf;
  // The host's data about the members (addresses, disks). Part of the entry, in force as long as
  // its configuration; opaque to the core.
  Slice details{};
};

// The state that recovery found.
struct Initial {
  HardState hard_state;
  ConfState conf;  // in force at the end of the log
  // The configurations along the log, oldest first, `conf` last: if the entry of one that is not
  // committed is truncated, the previous one is in force again. Empty: `conf` has been in force all
  // along.
  std::vector<ConfAtIndex> conf_history;
  // The settings, likewise. Empty: Options::election_timeout, and no leases.
  std::vector<SettingsAtIndex> settings_history;
  // The log was created at this start, so the node has made no promise yet (raft/leases.cc).
  bool is_fresh = false;
  SnapshotMark snapshot;       // newest durable snapshot; {0,0}: none
  Index first_index{1};        // first entry in the log; the log may start below the snapshot
  Term before_first_term;      // term of first_index - 1
  std::vector<TermRun> terms;  // of [first_index, last_index]
  Index last_index;            // first_index - 1 when the log is empty
  Index applied;               // index of the state machine: the snapshot's
  int64_t last_stamp_ns = 0;   // of the last entry or the snapshot
};

}  // namespace connectd::raft
