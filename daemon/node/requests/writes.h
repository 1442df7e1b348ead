// The writes of this node's clients: numbers them in this node's session, sends them to the leader,
// and matches the entries that this node applies with the numbered writes.
//
// A log entry opens the session. When the leader changes while numbered writes are in flight, a new
// session is opened, which closes the old one. When this node applies that entry, each old write
// has either been applied and answered, or never will be: those are sent again under new numbers,
// in order (ADR 8).
//
// Pure: events in, effects out. Owner: the loop thread.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <optional>
#include <string>
#include <vector>

#include "base/clock.h"
#include "base/types.h"
#include "node/effects.h"
#include "node/requests/limits.h"
#include "node/requests/request.h"

namespace connectd::node {

// How far this node is: entries between the two wait for the plugin.
struct Progress {
  Index committed;
  Index applied;
};

class Writes final {
 public:
  Writes(NodeId self, uint64_t incarnation, const HolderLimits& limits)
      : self_(self), incarnation_(incarnation), limits_(limits) {}

  // What no node sends: the open of another node's session, or one beside writes. Thousands of
  // opens in one message would keep the leader busy for minutes. Empty: nothing.
  static std::string fault_of(const wire::ForwardProposals& forward, NodeId from);

  // ---- events
  void add(RequestRef ref, Slice request, Time deadline);
  void leader_changed(NodeId leader, Term term, bool takes_proposals);
  // Forwarded writes may be lost.
  void forward_lost(NodeId peer);
  void forward_refused(Term leader_term, Time now);
  // This node applied an entry that opens its own session.
  void session_opened(SessionId id, uint64_t incarnation);
  // This node applied a command of `session`: returns its request. None: it belongs to another
  // session, or was answered before.
  std::optional<RequestRef> applied(SessionId session, Sequence sequence, Time now);
  // A snapshot replaced the state. `last`: the last sequence of this session in its table; none: it
  // does not know the session. Returns the writes whose replies this node never saw.
  std::vector<RequestRef> state_replaced(std::optional<Sequence> last);

  // ---- the turn
  // Numbers as many writes as the credit allows and sends them to the leader. `settle_only`: opens
  // a session only to learn the outcome of numbered writes.
  void forward_queued(Time now, const Progress& progress, bool settle_only, Effects& out);
  // Moves out all writes that were not sent; the caller refuses them.
  std::vector<RequestRef> take_queued();
  // Moves out the expired ones of these.
  std::vector<RequestRef> expire_queued(Time now);
  // Expired numbered writes: their outcome is unknown. Each is returned once.
  std::vector<RequestRef> expire_numbered(Time now);

  // ---- state
  // A session is being opened: its answer needs a timer.
  bool is_opening() const { return open_sent_ && !session_open_; }
  bool has_session() const { return session_open_; }
  SessionId session() const { return session_; }
  uint64_t incarnation() const { return incarnation_; }

 private:
  struct Write {
    RequestRef ref;
    Slice request;
    Time deadline;
    bool answered = false;  // timed out; kept until its number is settled
  };
  size_t cost_of(const Write& write) const { return write.request.size() + kRequestOverhead; }
  Sequence first_numbered() const { return next_sequence_ - numbered_.size(); }
  bool is_out() const { return !numbered_.empty() || open_sent_; }
  bool is_lost(Time sent, Duration timeout, const Progress& progress, Time now);
  void reopen();
  void open_session(Time now, Effects& out);
  std::vector<raft::Proposal> number_next();
  void hand_to_leader(std::vector<raft::Proposal> proposals, Effects& out);
  Write settle_first();

  const NodeId self_;
  const uint64_t incarnation_;
  const HolderLimits limits_;

  NodeId leader_;
  Term term_;
  bool leader_takes_proposals_ = false;

  bool session_open_ = false;  // session_ can number writes
  SessionId session_;          // the last one opened by this incarnation
  bool open_sent_ = false;
  NodeId sent_to_;  // the leader that got the numbered writes, and its term
  Term sent_term_;
  Time open_sent_at_;
  Time last_progress_;  // a number was settled, or the first one assigned
  // When what is awaited was sent, and the commit index when its time was over; none: it is not.
  Time awaited_since_;
  std::optional<Index> awaited_until_;
  Time refused_until_;          // no immediate retry after a refusal
  Sequence next_sequence_{1};   // of session_
  std::deque<Write> numbered_;  // contiguous, up to next_sequence_ - 1
  size_t numbered_bytes_ = 0;
  // Not sent. By deadline, but for what came back from a session that was closed: that is first.
  std::deque<Write> queued_;
  Time next_expiry_ = Time::max();  // of queued_, or earlier
};

}  // namespace connectd::node
