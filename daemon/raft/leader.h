// The state of a node while it leads, for one term: the followers' progress, the rounds of messages
// and what their answers confirm, read rounds, the lease, a transfer, the log's time. Created when
// the node is elected, destroyed when it steps down.
//
// Rounds: every AppendRequest and Heartbeat of a leader is numbered, and the answer returns the
// number. An answer confirms what needs a message sent after some moment: reads (thesis §6.4), the
// check of the quorum (§6.2), the lease (§6.4.1). Owner: the core, which decides what to send.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <utility>
#include <vector>

#include "base/clock.h"
#include "raft/lease.h"
#include "raft/log_time.h"
#include "raft/progress.h"
#include "raft/read_index.h"
#include "raft/types.h"

namespace connectd::raft {

// A leader yields to a preferred voter that has been near and caught up for this many election
// timeouts without interruption; twice as many after each failed attempt, up to 2^5 times.
inline constexpr int kYieldTimeouts = 10;
inline constexpr int kMaxYieldDoublings = 5;

// When a leader hands over to a voter of higher priority.
class Preference final {
 public:
  // `best` is the preferred voter now; none: there is none. True: it has been for long enough, and
  // the leader hands over to it. Then the time counts from zero.
  bool observe(NodeId best, Time now, Duration election_timeout);

 private:
  NodeId preferred_;
  Time since_;
  int yields_ = 0;
};

// Thesis §3.10.
struct Transfer {
  NodeId to;
  Time deadline;
  bool timeout_now_sent = false;
};

class Leader final {
 public:
  Leader(NodeId self, Index first_of_term, LogTime time)
      : log_time(std::move(time)), term_start(first_of_term), self_(self) {}

  // The followers are the other members; a new one is probed from `next` on.
  void set_members(const ConfState& conf, Index next, Time now);
  // A follower that has confirmed entries begins again like a new one. Others stay as they are.
  void forget_log_of(NodeId id, Index next, Time now);
  // Null: not a follower.
  Progress* follower(NodeId id);
  const Progress* follower(NodeId id) const;

  // -- rounds
  // The number of a message that is sent now. Those within `grain` count as sent at the same time.
  uint64_t next_round(Time now, Duration grain);
  uint64_t last_round() const { return round_; }
  // `peer` answered a message. True: the answer is to a later round than all before.
  bool answered(Progress& peer, uint64_t round) const;
  std::optional<Time> sent_at(uint64_t round) const { return send_times_.of(round); }

  // -- check of the quorum: a period is an election timeout
  // Answers to all messages of this term count.
  void begin_quorum_period(Time now);
  // Only answers to messages sent from now on count.
  void restart_quorum_period(Time now);
  Time quorum_period_began() const { return quorum_since_; }
  bool quorum_is_active(const ConfState& conf);

  // -- what a quorum has reached. `own`: this node's value.
  Index quorum_match(const ConfState& conf, Index own);
  uint64_t quorum_answered(const ConfState& conf);
  // Send time of the messages with which a quorum renewed the lease. None: no quorum has answered.
  std::optional<Time> quorum_renewed_at(const ConfState& conf, Time now) const;

  // -- lease (docs/adr/0016-lease-reads.md)
  // Only answers to messages sent from now on renew it.
  void void_lease();
  bool renews_lease(uint64_t round) const { return round > lease_round_; }

  // Kept here for the core.
  std::map<NodeId, Progress> followers;
  LogTime log_time;
  Index term_start;  // the no-op
  ReadRounds reads;
  Time elected_at{};
  Time next_heartbeat;
  bool heartbeat_is_due = false;
  bool round_is_needed = false;  // a read round was opened: send to all followers
  std::optional<Transfer> transfer;
  NodeId failed_transferee;     // the last one in this term that did not take over in time
  bool lease_given_up = false;  // for the rest of the term: a TimeoutNow was sent
  std::optional<Time> settings_everywhere_since;  // since when every voter has the newest, durably
  Preference preference;

 private:
  NodeId self_;
  uint64_t round_ = 0;
  SendTimes send_times_;
  Time quorum_since_;
  uint64_t quorum_round_ = 0;  // only answers to later rounds count in the period
  uint64_t lease_round_ = 0;   // only answers to later rounds renew the lease
  std::vector<uint64_t> scratch_;
};

}  // namespace connectd::raft
