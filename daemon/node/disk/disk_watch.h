// Full and stalled disks: this node's own, and what the others say of theirs.
//
// *Full*: less free space than storage.min_free_disk, or no room in the log (its reserve is used
// up). Every node tells every peer; the leader counts. While the voters that it can reach are a
// quorum, but those of them with space are none, it takes no commands, and says so in its reports:
// the holders everywhere answer DISKFULL before a number is given out, so that nothing of what they
// refuse can have happened. One full disk among others with space changes nothing for clients.
//
// *Stalled*: something was given to the disk and nothing was completed for storage.stall_timeout,
// or two election timeouts of the cluster where the configuration has none, also after a change. A
// stalled node does not campaign, and is not handed leadership; a stalled leader hands over, if
// those that are left can do without it. An idle node cannot know, and need not.
//
// A report says what is so now; it is sent when that changes, to a peer whose connection stands
// anew, and once an interval, for messages are lost. What a leader said of writes holds until the
// next leader speaks, or for kReportsMissed intervals.
//
// Pure but for the messages that advance() hands out. Owner: the loop thread.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <utility>
#include <vector>

#include "base/clock.h"
#include "base/types.h"
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
    Duration stall_timeout{};                     // 0: so many election timeouts
    Duration interval = std::chrono::seconds(1);  // between two reports of the same
  };
  // Who this node is at the moment.
  struct View {
    bool leads = false;
    NodeId leader;  // none: unknown
    Term term;
    const raft::ConfState* conf = nullptr;
    std::set<NodeId> near{};  // of a leader: peers that answer
  };
  using Messages = std::vector<std::pair<NodeId, wire::PeerMessage>>;

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
  // At least once in 50 ms, and when something was learned.
  void advance(const View& view, Time now, Messages& out);

  // ---- as of the last advance()
  // Of the leader, or by its word: no quorum has space, no command is taken.
  bool writes_stopped() const { return writes_stopped_; }
  bool is_full() const { return full_ || !log_has_room_; }
  bool is_stalled() const { return stalled_; }
  std::optional<uint64_t> free_bytes() const { return free_bytes_; }
  Duration stalled_for(Time now) const { return now - since_; }
  // What a peer said last; unknown counts as good.
  bool is_full(NodeId peer) const;
  bool is_stalled(NodeId peer) const;

  // Voters that a leader without a target of its own had better not choose.
  std::vector<NodeId> unfit(const raft::ConfState& conf) const;
  // The leader whose disk is the sick one: whether the others are a quorum without it, by disks
  // that work. Only then is it of use to hand over.
  bool others_suffice(const View& view) const;
  // For a leader whose disk is full: voters that are near and have said that they have space.
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
  std::set<NodeId> greet_;  // tell these, whatever was told
  // What the leader of a term said of writes, and until when it holds.
  NodeId said_by_;
  Term said_in_;
  bool said_stopped_ = false;
  Time said_until_;

  wire::DiskReport told_;
  Time tell_again_;
};

}  // namespace connectd::node
