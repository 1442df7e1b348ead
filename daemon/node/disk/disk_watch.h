// Tracks full and stalled disks: this node's, and those that other nodes report.
//
// *Full*: less free space than storage.min_free_disk, or no space in the log (its reserve is used
// up). Every node reports to every peer; the leader counts. While the reachable voters are a
// quorum, but those with space are not, the leader rejects commands and reports that: all holders
// reply DISKFULL before they number a write, so that no rejected write can have happened. One full
// disk changes nothing for clients.
//
// *Stalled*: something was given to the disk and nothing was completed for storage.stall_timeout,
// or two election timeouts of the cluster where the configuration has none, also after a change. A
// stalled node neither campaigns nor is a transfer target; a stalled leader transfers leadership if
// the other nodes are a quorum without it. An idle node cannot detect a stall.
//
// A report has the current state; it is sent on a change, to a newly connected peer, and once per
// interval, because messages may be lost. A leader's statement about writes holds until the report
// of the next leader, or for kReportsMissed intervals.
//
// Pure: events in, effects out. Owner: the loop thread.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <utility>
#include <vector>

#include "base/clock.h"
#include "base/types.h"
#include "node/effects.h"
#include "raft/types.h"
#include "wire/peer_messages.h"

namespace connectd::node {

class DiskWatch final {
 public:
  static constexpr int kReportsMissed = 3;
  static constexpr int kStallElectionTimeouts = 2;
  struct Options {
    NodeId self;
    uint64_t min_free_bytes = 0;                  // 0: never full
    Duration stall_timeout{};                     // 0: two election timeouts
    Duration interval = std::chrono::seconds(1);  // between two reports of the same
  };
  // The current role of this node.
  struct View {
    bool leads = false;
    NodeId leader;  // none: unknown
    Term term;
    const raft::ConfState* conf = nullptr;
    std::set<NodeId> near{};  // of a leader: peers that answer
    bool is_new = false;      // a leader whose peers have not had the time to answer
  };

  explicit DiskWatch(const Options& options) : options_(options) {}

  // ---- what the node learns
  void measured(uint64_t free_bytes);
  void log_has_room(bool room) { log_has_room_ = room; }
  // `waits`: the disk has something to do. `done` rises with all that it completes.
  // `election_timeout`: the one in force in the cluster.
  void progressed(bool waits, uint64_t done, Duration election_timeout, Time now);
  void on_message(NodeId from, const wire::DiskReport& report, Time now);
  void peer_reached(NodeId peer) { greet_.insert(peer); }

  // ---- the turn
  // At least every 50 ms, and after each event.
  void advance(const View& view, Time now, Effects& out);

  // ---- as of the last advance()
  // Decided or reported by the leader: no quorum has space, commands are rejected.
  bool writes_stopped() const { return writes_stopped_; }
  bool is_full() const { return full_ || !log_has_room_; }
  bool is_stalled() const { return stalled_; }
  std::optional<uint64_t> free_bytes() const { return free_bytes_; }
  Duration stalled_for(Time now) const { return now - since_; }
  // The last report of a peer; unknown counts as good.
  bool is_full(NodeId peer) const;
  bool is_stalled(NodeId peer) const;

  // Voters that a leader should avoid as transfer targets.
  std::vector<NodeId> unfit(const raft::ConfState& conf) const;
  // The leader whose disk is the sick one: whether the others are a quorum without it, by disks
  // that work. Only then is it of use to hand over.
  bool others_suffice(const View& view) const;
  // For a leader with a full disk: reachable voters that reported space.
  bool others_have_space(const View& view) const;

 private:
  bool judge(const View& view) const;

  const Options options_;
  std::optional<uint64_t> free_bytes_;
  bool full_ = false;  // by what was measured
  bool log_has_room_ = true;
  bool stalled_ = false;
  bool writes_stopped_ = false;
  // What was complete when the disk last made progress, or had nothing to do, and when that was.
  uint64_t done_ = 0;
  Time since_;
  Time looked_;

  std::map<NodeId, wire::DiskReport> reports_;
  std::set<NodeId> greet_;  // peers to report to unconditionally
  // The statement of a term's leader about writes, and its expiry.
  NodeId said_by_;
  Term said_in_;
  bool said_stopped_ = false;
  Time said_until_;

  wire::DiskReport told_;
  Time tell_again_;
};

}  // namespace connectd::node
