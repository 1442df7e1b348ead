// Roles, terms, votes, timers, leadership transfer.

#include <algorithm>
#include <utility>

#include "base/log.h"
#include "raft/core.h"
#include "raft/quorum.h"

namespace connectd::raft {

// ---- terms

// Paper, figure 2, "all servers": a higher term makes a follower; what is of a lower term is not
// listened to. True: the message is of the present term (or asks about a coming one) and is
// handled.
bool Core::admit(const Envelope& m) {
  if (m.from == options_.id || m.to != options_.id) return false;
  const bool from_leader = std::holds_alternative<AppendRequest>(m.message) ||
                           std::holds_alternative<Heartbeat>(m.message) ||
                           (std::holds_alternative<TimeoutNow>(m.message) && m.from == leader());
  const bool asks_for_vote = std::holds_alternative<PreVoteRequest>(m.message) ||
                             std::holds_alternative<VoteRequest>(m.message);
  // Thesis §4.1: requests are answered whoever asks, for this node may not have heard of the change
  // that made the asker a member, and its vote may be the one that is needed. That who was removed
  // does not disturb is seen to by pre-vote and by stickiness (§4.2.3). What others say counts only
  // if they are members.
  if (!from_leader && !asks_for_vote && !conf().is_member(m.from)) return false;
  if (!may_vote_ && asks_for_vote) return false;

  if (std::holds_alternative<PreVoteRequest>(m.message)) {
    // Thesis §9.6: it changes nobody's term.
    if (m.term >= term_) return !leader_is_near();
  } else if (const auto* vote = std::get_if<VoteRequest>(&m.message)) {
    // Thesis §4.2.3: within an election timeout of hearing from a leader, a vote request is
    // ignored, its term included; unless the leader itself wishes it (§3.10).
    if (m.term >= term_ && !vote->leader_transfer && leader_is_near()) return false;
    if (m.term > term_) become_follower(m.term, NodeId());
  } else if (const auto* pre_vote = std::get_if<PreVoteResponse>(&m.message);
             pre_vote != nullptr && pre_vote->granted) {
    return true;  // carries the term that was asked about
  } else if (m.term > term_) {
    become_follower(m.term, from_leader ? m.from : NodeId());
  }
  if (m.term >= term_) return true;
  answer_older_term(m);
  return false;
}

void Core::answer_older_term(const Envelope& m) {
  // The present term, for one who does not know it. A leader that others ignored while they had one
  // steps down by this, and a candidate that is behind catches up; neither could proceed without.
  if (const auto* append = std::get_if<AppendRequest>(&m.message)) {
    AppendResponse response;
    response.index = append->prev_index;
    response.wall_ns = now_.wall_ns;
    send_when_durable(envelope(m.from, response), Index());
  } else if (std::holds_alternative<Heartbeat>(m.message)) {
    send_when_durable(envelope(m.from, HeartbeatResponse{0, now_.wall_ns}), Index());
  } else if (std::holds_alternative<PreVoteRequest>(m.message)) {
    send(m.from, PreVoteResponse{false});
  } else if (std::holds_alternative<VoteRequest>(m.message)) {
    send_when_durable(envelope(m.from, VoteResponse{false, now_.wall_ns}), Index());
  }
}

bool Core::leader_is_near() const {
  if (has_promised()) return true;
  if (!options_.check_quorum) return false;
  // A leader that has lost its quorum steps down by itself, so being one is near enough.
  if (leading() != nullptr) return true;
  const Follower* self = following();
  return self != nullptr && self->heard_at && now_.time - *self->heard_at < election_timeout();
}

void Core::heard_from_leader(NodeId leader) {
  CHECK(leading() == nullptr) << "two leaders in term " << term_.value() << ": " << leader.value()
                              << " and this node";
  const Follower* self = following();
  CHECK(self == nullptr || !self->leader || self->leader == leader)
      << "two leaders in term " << term_.value();
  if (self == nullptr || self->leader != leader) become_follower(term_, leader);
  following()->heard_at = now_.time;
  leader_spoke_ = true;
  is_needed_ = false;
  quick_timeouts_ = 0;
  reset_election_timer();
}

// ---- timers

// Paper §5.2: drawn afresh each time, so that split votes do not repeat. After the connection to
// the leader broke there is nobody to wait for: a fraction of the timeout is enough, a few times;
// if that does not elect a leader, the network or the disks are slower than the short range.
Duration Core::draw_timeout() {
  auto timeout = static_cast<uint64_t>(election_timeout().count());
  uint64_t drawn = quick_timeouts_ > 0 ? random_.between(timeout / 20, timeout / 5)
                                       : timeout + random_.below(timeout);
  if (quick_timeouts_ > 0) --quick_timeouts_;
  return Duration(static_cast<int64_t>(drawn));
}

void Core::check_timers() {
  if (Leader* leader = leading()) {
    check_timers(*leader);
    return;
  }
  for (uint64_t context : asks_.overdue(now_.time - election_timeout())) {
    ready_.reads_dropped.push_back(context);
  }
  if (now_.time < election_deadline_) return;
  if (has_promised()) {
    // The own vote is promised away like any other; the timeout was set while less was promised.
    election_deadline_ = now_.time + promise_length();
  } else {
    campaign_or_wait();
  }
}

void Core::check_timers(Leader& leader) {
  if (leader.transfer && now_.time >= leader.transfer->deadline) {
    leader.failed_transferee = leader.transfer->to;
    leader.transfer.reset();
  }
  if (options_.check_quorum && now_.time >= leader.quorum_period_began() + election_timeout()) {
    // Thesis §6.2: a leader that no quorum has answered for an election timeout steps down, so that
    // its clients look for another and the others' elections are not held up by it.
    if (!leader.quorum_is_active(conf())) {
      become_follower(term_, NodeId());
      return;
    }
    leader.begin_quorum_period(now_.time);
  }
  if (now_.time >= leader.next_heartbeat) {
    leader.heartbeat_is_due = true;
    leader.next_heartbeat = now_.time + options_.heartbeat_interval;
    confirm_settings(leader);
    yield_to_preferred(leader);
  }
}

// ---- campaigns

bool Core::may_campaign() const {
  if (!may_vote_ || !may_lead_ || priority_ == 0) return false;
  if (is_voter() || is_needed_) return true;
  return confs_.size() > 1 && confs_.back().index > log_.commit_index() &&
         confs_[confs_.size() - 2].conf.is_voter(options_.id);
}

void Core::campaign_or_wait() {
  // Thesis §4.2.1: who is no voter does not campaign; but who was one until a change that is not
  // committed (§4.2.2), or is one by a change that it does not know of (refused_an_older_log), may
  // be the only one whose log reaches so far. And a candidate whose requests still wait for its own
  // disk would only make it write one more term: on slow disks no campaign would ever end.
  const Candidate* candidate = campaigning();
  const bool is_writing = candidate != nullptr && !candidate->is_pre && !hard_state_is_durable();
  if (!may_campaign() || is_writing) {
    reset_election_timer();
  } else if (options_.pre_vote) {
    pre_campaign();
  } else {
    campaign(false);
  }
}

// Thesis §9.6: ask whether an election could be won before disturbing anyone with a new term.
void Core::pre_campaign() {
  leave_role();
  role_.emplace<Candidate>().is_pre = true;
  reset_election_timer();
  for (NodeId id : conf().members()) {
    if (id == options_.id || !conf().is_voter(id)) continue;
    outbox_.push_back(
        {options_.id, id, term_ + 1, PreVoteRequest{log_.last_index(), log_.last_term()}});
  }
  count_vote(options_.id, true);
}

// Paper §5.2. The requests leave when the new term and the own vote are durable: a candidate that
// forgot them in a crash could campaign again in the same term with a shorter log, and count votes
// that were given to the longer one.
void Core::campaign(bool transfer) {
  leave_role();
  ++term_;
  vote_ = options_.id;
  held_.clear();  // of an older term: nobody waits for them
  role_.emplace<Candidate>().log_time.start(options_.id, now_);
  reset_election_timer();
  for (NodeId id : conf().members()) {
    if (id == options_.id || !conf().is_voter(id)) continue;
    with_next_batch_.push_back(
        envelope(id, VoteRequest{log_.last_index(), log_.last_term(), transfer}));
  }
  // The own vote is counted when the batch that holds it is done.
}

void Core::count_vote(NodeId from, bool granted) {
  Candidate* candidate = campaigning();
  CHECK(candidate != nullptr) << "a vote for one who does not campaign";
  candidate->votes.try_emplace(from, granted);
  switch (vote_result(conf(), candidate->votes)) {
    case VoteResult::kPending:
      break;
    case VoteResult::kWon:
      if (candidate->is_pre) {
        campaign(false);
      } else {
        become_leader();
      }
      break;
    case VoteResult::kLost:
      // Wait for a leader, or for the timer.
      leave_role();
      break;
  }
}

// Paper §5.4.1: the voter denies its vote if its own log is more up-to-date.
bool Core::is_up_to_date(Index last_index, Term last_term) const {
  return last_term > log_.last_term() ||
         (last_term == log_.last_term() && last_index >= log_.last_index());
}

// Only voters are asked. Who asks a learner has a change in its log that makes the learner a voter,
// not committed, and needs its vote until that change is truncated; nobody can win while this log
// is the newest of those that are left, unless it is this node (§4.2.2). Should it win, it commits
// what it has and hands over (advance_commit).
void Core::refused_an_older_log() {
  if (!is_voter() && conf().is_member(options_.id)) is_needed_ = true;
}

// Thesis §9.6.
void Core::on(NodeId from, Term term, const PreVoteRequest& request) {
  bool up_to_date = is_up_to_date(request.last_index, request.last_term);
  if (!up_to_date) refused_an_older_log();
  bool could_vote = term > term_ || vote_ == from || (!vote_ && !leader());
  if (up_to_date && could_vote) {
    outbox_.push_back({options_.id, from, term, PreVoteResponse{true}});
  } else {
    send(from, PreVoteResponse{false});
  }
}

void Core::on(NodeId from, Term term, const PreVoteResponse& response) {
  // A grant for an earlier campaign names an earlier term.
  const Candidate* candidate = campaigning();
  if (candidate == nullptr || !candidate->is_pre) return;
  if (response.granted && term != term_ + 1) return;
  count_vote(from, response.granted);
}

void Core::on(NodeId from, Term, const VoteRequest& request) {
  bool up_to_date = is_up_to_date(request.last_index, request.last_term);
  if (!up_to_date) refused_an_older_log();
  // Figure 2: one vote in a term; the same candidate may ask again, its answer may have been lost.
  bool free_to_vote = vote_ == from || (!vote_ && !leader());
  bool granted = up_to_date && free_to_vote;
  if (granted) {
    vote_ = from;
    quick_timeouts_ = 0;
    reset_election_timer();  // §5.2: who has just voted gives the candidate time
  }
  send_when_durable(envelope(from, VoteResponse{granted, now_.wall_ns}), Index());
}

void Core::on(NodeId from, Term, const VoteResponse& response) {
  Candidate* candidate = campaigning();
  if (candidate == nullptr || candidate->is_pre) return;
  if (response.granted) candidate->log_time.observe(from, response.wall_ns, now_);
  count_vote(from, response.granted);
}

// ---- roles

// What belongs to the present role ends with it; reads that depend on it are given back. The next
// role is that of a follower without a leader, unless the caller begins another.
void Core::leave_role() {
  with_next_batch_.clear();
  if (Leader* leader = leading()) {
    for (const Reader& reader : leader->reads.drop_all()) answer_reader(reader, Index());
  }
  for (uint64_t context : asks_.drop_all()) ready_.reads_dropped.push_back(context);
  role_.emplace<Follower>();
}

// The vote survives a step-down within the term (figure 2: votedFor is of the term, not of the
// role).
void Core::become_follower(Term term, NodeId leader) {
  CHECK(term >= term_);
  bool was_leader = leading() != nullptr;
  // Answers that leave below name the term in which they were asked for.
  leave_role();
  if (term > term_) {
    term_ = term;
    vote_ = NodeId();
    held_.clear();  // of an older term: nobody waits for them
  }
  role_ = Follower{leader, {}};
  // Others' requests with higher terms do not put off the own campaign; a leader does, and one who
  // was leader itself has no timer that runs.
  if (was_leader || leader) reset_election_timer();
}

void Core::become_leader() {
  Candidate* candidate = campaigning();
  CHECK(candidate != nullptr && !candidate->is_pre);
  LogTime log_time = std::move(candidate->log_time);
  leave_role();
  quick_timeouts_ = 0;
  log_time.begin(log_.last_stamp_ns(), now_);
  const Index next = log_.last_index() + 1;
  Leader& leader = role_.emplace<Leader>(options_.id, next, std::move(log_time));
  leader.set_members(conf(), next, now_.time);
  leader.begin_quorum_period(now_.time);
  leader.next_heartbeat = now_.time + options_.heartbeat_interval;
  // Thesis §6.4 and paper §8: nothing of earlier terms is known to be committed until an entry of
  // this one is.
  append_own(leader, EntryKind::kNoop, Proposal{});
}

// ---- leadership transfer (thesis §3.10)

void Core::on(const TransferLeadership& event) {
  Leader* leader = leading();
  if (leader == nullptr || leader->transfer) return;
  NodeId to = event.to ? event.to : successor(*leader);
  if (!to || to == options_.id || !conf().is_voter(to) || priority_of(to) == 0) return;
  leader->transfer = Transfer{to, now_.time + election_timeout()};
}

// New proposals are refused meanwhile, so the target's log comes to match this one.
void Core::continue_transfer(Leader& leader) {
  if (!leader.transfer || leader.transfer->timeout_now_sent) return;
  const NodeId to = leader.transfer->to;
  const Progress* peer = leader.follower(to);
  if (peer == nullptr) {
    leader.transfer.reset();
  } else if (peer->match() == log_.last_index()) {
    // From here on the others may elect, however lately they heard this node (thesis §6.4.1): also
    // much later, should the message or the votes that it leads to be delayed.
    leader.lease_given_up = true;
    send(to, TimeoutNow{});
    leader.transfer->timeout_now_sent = true;
  }
}

void Core::on(NodeId from, Term, const TimeoutNow&) {
  if (leading() != nullptr || !may_campaign() || from != leader()) return;
  campaign(true);
}

}  // namespace connectd::raft
