// What a node tells the outside of itself: one immutable value, made by the loop thread, read by
// the HTTP thread (admin/) and by whoever writes it to the log. A new field needs a row in
// admin/answers.cc, and is shown everywhere then.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "base/clock.h"
#include "base/mutex.h"
#include "base/types.h"
#include "raft/types.h"

namespace connectd::plugin {
class MetricTable;
}

namespace connectd::node {

struct MemberStatus {
  NodeId id;
  bool voter = true;
  std::string peer;  // addresses, host:port
  std::string client;
  std::string http;
  bool promoting = false;   // a learner that becomes a voter when it has caught up
  std::string disk{};       // empty: the one that it comes with
  unsigned priority = 100;  // as it says of itself; the default while it is not heard
  bool operator==(const MemberStatus&) const = default;
};

// What the leader knows of another member.
struct PeerProgress {
  NodeId id;
  bool active = false;  // heard of in the present check-quorum period, or the one before
  std::string state;    // "probe", "replicate", "snapshot"
  Index match;
  uint64_t lag = 0;  // entries of the leader's log that it is not known to have
  bool operator==(const PeerProgress&) const = default;
};

// What this node can do for clients, and if not everything, why: the first that holds.
enum class ServiceState : uint8_t {
  kUnknown,     // of another build
  kForming,     // there is no cluster yet
  kStuck,       // a plugin call does not come back
  kStopping,    // it shuts down
  kNoQuorum,    // it knows of no leader, and reaches no majority
  kNoLeader,    // it knows of none, and one may be elected in a moment
  kCatchingUp,  // it has not been up to date since it started
  kLagging,     // it has been
  kDiverged,    // the replicas differ, and no majority agrees
  kReady,
};
struct StatusSnapshot {
  Time made{};  // by the loop; one that grows old says that the loop hangs

  NodeId id;
  std::string name;  // config node.name
  std::string cluster_name;
  ClusterId cluster_id;  // none: no cluster was formed yet
  std::string version;   // of connectd
  int64_t started_wall_ns = 0;

  raft::Role role = raft::Role::kFollower;
  Term term;
  NodeId leader;  // none: unknown
  Index last_index;
  Index commit_index;
  Index applied_index;
  Index snapshot_index;
  uint64_t digest = 0;  // of the chain at applied_index
  std::vector<MemberStatus> members;
  Index members_index;              // of the entry that brought them; 0: from the founding on
  bool members_settled = true;      // that entry is committed, and no other is to follow it
  std::vector<PeerProgress> peers;  // leader only

  // Of the cluster, by key; committed when commit_index has reached settings_index.
  std::vector<std::pair<std::string, std::string>> settings;
  Index settings_index;  // of the entry that brought them; 0: from the founding on
  bool lease = false;    // this node holds one

  std::string plugin_name;
  std::string plugin_version;
  uint32_t plugin_level = 0;
  std::string plugin_warning;  // "file changed since start"; empty: none

  // The replicas have diverged, no majority agrees, and writes are rejected: where they differ.
  // Empty: they have not.
  std::string divergence;

  // Of this node: "ok", "full", "no room" (the log takes no entries) or "stalled".
  std::string disk_state = "ok";
  uint64_t disk_free_bytes = 0;
  bool writes_stopped = false;  // no quorum has space: DISKFULL

  uint64_t max_request = 0;  // bytes, in force in the cluster; 0: no cluster yet
  uint64_t max_clients = 0;  // connections, in force on this node

  // A plugin call that does not come back: "apply at 812". Empty: none.
  std::string stuck;

  // This machine's clock, or the log time that this node stamps, is wrong. Empty: neither is.
  std::string clock_warning;
  // What is not yet, or not any longer, as TLS should be; empty: nothing.
  std::string tls_warning;

  uint64_t log_lines_dropped = 0;  // of the text on standard error, since the start

  std::string hang;  // why /livez fails though the loop runs; empty: it does not
  ServiceState state = ServiceState::kUnknown;
  bool ready = false;  // it can serve
  std::string reason;  // when not ready: why, in words ("waiting for members 2, 3")
  // What to do about it if the cluster has no leader. A reader that knows one does not show it.
  std::string remedy;
  bool operator==(const StatusSnapshot&) const = default;
};

// What the loop counts and only it may read: as old as the status.
struct TrafficSnapshot {
  struct Peer {
    uint64_t messages_sent = 0;
    uint64_t bytes_sent = 0;
    uint64_t messages_dropped = 0;
    uint64_t messages_received = 0;
    uint64_t bytes_received = 0;
    uint64_t times_lost = 0;  // its connections
    bool is_plain = false;    // one of them is not inside TLS
  };
  std::map<NodeId, Peer> peers;
  struct Clients {
    uint64_t connected = 0;
    uint64_t accepted = 0;
    uint64_t rejected = 0;
    uint64_t bad_frames = 0;
    uint64_t stalled = 0;
    uint64_t half_sent = 0;
    uint64_t unknown = 0;
    uint64_t too_large = 0;
  };
  Clients clients;
  uint64_t requests_held = 0;
  uint64_t requests_held_bytes = 0;
  uint64_t snapshots_failed = 0;
  uint64_t snapshots_installed = 0;
  // By port ("peer", "client", "http"): when its certificate ends, in Unix seconds.
  std::map<std::string, int64_t> certificates;
  int64_t reloaded_wall_s = 0;  // the last reload, in Unix seconds; 0: there was none
  bool reload_succeeded = true;
  // What the plugin counts, by the thread that reads it; null: before there is a node.
  std::shared_ptr<const plugin::MetricTable> plugin;
};

// For those who know no more than this node.
inline std::string full_reason(const StatusSnapshot& status) {
  return status.remedy.empty() ? status.reason : status.reason + ": " + status.remedy;
}

// Where the loop leaves its newest status, and another thread what it knows of plugin calls that do
// not come back: the loop itself may be in one. Any thread. Under a mutex that is held for short
// copies.
class StatusBoard {
 public:
  // The loop publishes on every change that people wait for and at least once a second.
  void publish(std::shared_ptr<const StatusSnapshot> status) {
    MutexLock lock(mutex_);
    status_ = std::move(status);
  }
  void publish(std::shared_ptr<const TrafficSnapshot> traffic) {
    MutexLock lock(mutex_);
    traffic_ = std::move(traffic);
  }
  // "apply at 812"; empty: no call is stuck. Shown in every status from now on.
  void set_stuck(std::string call) {
    MutexLock lock(mutex_);
    stuck_ = std::move(call);
  }
  // Null until the first publish().
  std::shared_ptr<const StatusSnapshot> read() const {
    MutexLock lock(mutex_);
    if (stuck_.empty() || status_ == nullptr) return status_;
    auto status = std::make_shared<StatusSnapshot>(*status_);
    status->stuck = stuck_;
    status->ready = false;
    status->state = ServiceState::kStuck;
    status->reason = "STUCK in " + stuck_;
    status->remedy.clear();
    return status;
  }

  // Null until there is a node.
  std::shared_ptr<const TrafficSnapshot> read_traffic() const {
    MutexLock lock(mutex_);
    return traffic_;
  }

 private:
  mutable Mutex mutex_;
  std::shared_ptr<const StatusSnapshot> status_ GUARDED_BY(mutex_);
  std::shared_ptr<const TrafficSnapshot> traffic_ GUARDED_BY(mutex_);
  std::string stuck_ GUARDED_BY(mutex_);
};

}  // namespace connectd::node
