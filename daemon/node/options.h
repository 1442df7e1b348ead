// Options for opening a node.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "base/clock.h"
#include "base/types.h"
#include "node/requests/limits.h"
#include "node/snapshots/snapshot_schedule.h"
#include "raft/core.h"
#include "storage/log.h"

namespace connectd::node {

class ApplyObserver;

struct NodeOptions {
  NodeId id;
  DiskId disk_id;
  // As the identity file has them: the cluster this node belongs to by now (none: the one of the
  // genesis), and what it was called before each recovery.
  ClusterId cluster_id{};
  std::vector<ClusterId> former_cluster_ids{};
  // Entries that the plugin is not given (`connectctl recover --skip-entry`); sorted.
  std::vector<raft::EntryId> skips{};
  // This node's own addresses, as it wants to be reached; empty: as the list of members says.
  std::string peer_address{};
  std::string client_address{};
  std::string http_address{};
  raft::Options raft;   // id and seed are set by the node
  HolderLimits holder;  // max_request is set from the genesis
  storage::LogOptions log;
  SnapshotPolicy snapshot;
  uint64_t seed = 0;         // for everything this node draws
  uint64_t incarnation = 0;  // random, differs at each start
  bool apply_inline = true;
  int64_t apply_inline_ns_max = 200'000;  // CPU time of a turn
  size_t apply_replies_max = 4 << 20;     // bytes of replies that are made and not taken
  size_t apply_run_replies = 256 << 10;   // of them, for one client's reads
  size_t chunk_bytes = 256 << 10;
  uint64_t snapshot_rate = 0;  // bytes a second that leave for followers; 0: no limit
  // Between two compare entries, where the plugin's snapshots are canonical. 0: none.
  Duration compare_interval{};
  // With less space than this the node's disk is full (node/disk/disk_watch.h). 0: never.
  uint64_t min_free_bytes = 0;
  // A disk that has completed nothing for this long stalls. Zero: two election timeouts of the
  // cluster.
  Duration stall_timeout{};
  // The node has never run: an empty log is begun with the genesis. Otherwise an empty log is a
  // lost one, and votes are lost with it.
  bool may_begin_log = true;
  std::function<int64_t()> wall_clock;      // Unix time, any thread
  ApplyObserver* apply_observer = nullptr;  // lives as long as the node
};

}  // namespace connectd::node
