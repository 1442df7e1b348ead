// The writes of this node's clients: numbers them in this node's session and hands them to the
// leader; matches what this node applies with what it numbered.
//
// The session is opened by a log entry. When the leader changes while numbered writes are out, a
// new session is opened, which closes the old: when that entry is applied here, each old write
// either was applied before it, and is answered, or never will be, and goes again under a new
// number, in order (ADR 8).
//
// Pure: events in, effects out. Owner: the loop thread.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <optional>
#include <vector>

#include "base/clock.h"
#include "base/types.h"
#include "node/requests/limits.h"
#include "node/requests/request.h"

namespace connectd::node {

class Writes final {
 public:
  Writes(NodeId self, uint64_t incarnation, const HolderLimits& limits)
      : self_(self), incarnation_(incarnation), limits_(limits) {}

  // ---- what happened
  void add(RequestRef ref, Slice request, Time deadline);
  void leader_changed(NodeId leader, Term term, bool takes_proposals);
  // What was forwarded may be lost.
  void forward_lost(NodeId peer);
  void forward_refused(Term leader_term, Time now);
  // This node applied a session open of its own.
  void session_opened(SessionId id, uint64_t incarnation);
  // This node applied a command of `session`: whose it is. None: of another session, or answered
  // before.
  std::optional<RequestRef> applied(SessionId session, Sequence sequence, Time now);
  // A snapshot took the state's place. `last`: the last sequence of this session in its table;
  // none: it does not know the session. Whose replies were never seen here:
  std::vector<RequestRef> state_replaced(std::optional<Sequence> last);

  // ---- the turn
  // Gives numbers to what the credit allows and hands it on. `settle_only`: no session is opened
  // but to learn what became of what is numbered.
  void hand_on(Time now, bool settle_only, Outgoing& out);
  // Everything that nobody was handed yet; it is to be refused.
  std::vector<RequestRef> take_queued();
  // Of those, what is over its time.
  std::vector<RequestRef> expire_queued(Time now);
  // Numbered ones over their time: the outcome is not known. Each is given once.
  std::vector<RequestRef> expire_numbered(Time now);

  // ---- what it knows
  // An answer is on its way that a timer must watch for: a session is being opened.
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
  void reopen();
  void open_session(Time now, Outgoing& out);
  std::vector<raft::Proposal> number_next();
  void hand_to_leader(std::vector<raft::Proposal> proposals, Outgoing& out);
  Write settle_first();

  const NodeId self_;
  const uint64_t incarnation_;
  const HolderLimits limits_;

  NodeId leader_;
  Term term_;
  bool leader_takes_proposals_ = false;

  bool session_open_ = false;  // session_ is the one to number in
  SessionId session_;          // the last one opened by this incarnation
  bool open_sent_ = false;
  NodeId sent_to_;  // whom the numbered writes went to, in which term
  Term sent_term_;
  Time open_sent_at_;
  Time last_progress_;          // a number was settled, or the first one given out
  Time refused_until_;          // a refusal is not answered with the same question at once
  Sequence next_sequence_{1};   // of session_
  std::deque<Write> numbered_;  // contiguous, up to next_sequence_ - 1
  size_t numbered_bytes_ = 0;
  std::deque<Write> queued_;  // handed to nobody; by deadline
};

}  // namespace connectd::node
