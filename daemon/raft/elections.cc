// Roles, terms, votes, timers, leadership transfer.

#include <algorithm>
#include <utility>

#include "base/log.h"
#include "raft/core_impl.h"

namespace connectd::raft {

// ---- terms

// Paper, figure 2, "all servers": a higher term makes a follower; what is of a lower term is not
// listened to. True: the message is of the present term (or asks about a coming one) and is
// handled.
bool Core::Impl::admit(const Envelope& m) {
  if (m.from == options_.id || m.to != options_.id) return false;
  const bool from_leader = std::holds_alternative<AppendRequest>(m.message) ||
                           std::holds_alternative<Heartbeat>(m.message) ||
                           (std::holds_alternative<TimeoutNow>(m.message) && m.from == leader_);
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

void Core::Impl::answer_older_term(const Envelope& m) {
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

bool Core::Impl::leader_is_near() const {
  if (has_promised()) return true;
  if (!options_.check_quorum || !leader_) return false;
  // A leader that has lost its quorum steps down by itself, so being one is near enough.
  if (role_ == Role::kLeader) return true;
  return leader_heard_at_ && now_.time - *leader_heard_at_ < election_timeout();
}

void Core::Impl::heard_from_leader(NodeId leader) {
  CHECK(role_ != Role::kLeader) << "two leaders in term " << term_.value() << ": " << leader.value()
                                << " and this node";
  CHECK(!leader_ || leader_ == leader || role_ != Role::kFollower)
      << "two leaders in term " << term_.value();
  if (role_ != Role::kFollower || leader_ != leader) become_follower(term_, leader);
  leader_heard_at_ = now_.time;
  leader_spoke_ = true;
  is_needed_ = false;
  quick_timeouts_ = 0;
  reset_election_timer();
}

// ---- timers

// Paper §5.2: drawn afresh each time, so that split votes do not repeat. After the connection to
// the leader broke there is nobody to wait for: a fraction of the timeout is enough, a few times;
// if that does not elect a leader, the network or the disks are slower than the short range.
Duration Core::Impl::draw_timeout() {
  auto timeout = static_cast<uint64_t>(election_timeout().count());
  uint64_t drawn = quick_timeouts_ > 0 ? random_.between(timeout / 20, timeout / 5)
                                       : timeout + random_.below(timeout);
  if (quick_timeouts_ > 0) --quick_timeouts_;
  return Duration(static_cast<int64_t>(drawn));
}

void Core::Impl::check_timers() {
  if (role_ == Role::kLeader) {
    if (transferee_ && now_.time >= transfer_deadline_) {
      failed_transferee_ = transferee_;
      abort_transfer();
    }
    if (options_.check_quorum && now_.time >= quorum_since_ + election_timeout()) {
      check_quorum();
      if (role_ != Role::kLeader) return;
    }
    if (now_.time >= next_heartbeat_) {
      heartbeat_is_due_ = true;
      next_heartbeat_ = now_.time + options_.heartbeat_interval;
      confirm_settings();
      yield_to_preferred();
    }
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

// Thesis §6.2: a leader that no quorum has answered for an election timeout steps down, so that its
// clients look for another and the others' elections are not held up by it.
void Core::Impl::check_quorum() {
  uint64_t active = quorum_value(conf(), scratch_, [&](NodeId id) -> uint64_t {
    if (id == options_.id) return 1;
    auto peer = peers_.find(id);
    return peer != peers_.end() && peer->second.active ? 1 : 0;
  });
  if (active == 0) {
    become_follower(term_, NodeId());
    return;
  }
  restart_quorum_period();
  quorum_round_ = 0;
}

// Only answers to what is sent from now on count.
void Core::Impl::restart_quorum_period() {
  quorum_since_ = now_.time;
  quorum_round_ = round_;
  for (auto& [id, peer] : peers_) peer.was_active = std::exchange(peer.active, false);
}

// ---- campaigns

void Core::Impl::campaign_or_wait() {
  // Thesis §4.2.1: who is no voter does not campaign; but who was one until a change that is not
  // committed (§4.2.2), or is one by a change that it does not know of (refused_an_older_log), may
  // be the only one whose log reaches so far. And a candidate whose requests still wait for its own
  // disk would only make it write one more term: on slow disks no campaign would ever end.
  if (!may_campaign() || (role_ == Role::kCandidate && !hard_state_is_durable())) {
    reset_election_timer();
  } else if (options_.pre_vote) {
    pre_campaign();
  } else {
    campaign(false);
  }
}

// Thesis §9.6: ask whether an election could be won before disturbing anyone with a new term.
void Core::Impl::pre_campaign() {
  leave_role();
  role_ = Role::kPreCandidate;
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
void Core::Impl::campaign(bool transfer) {
  leave_role();
  role_ = Role::kCandidate;
  ++term_;
  vote_ = options_.id;
  held_.clear();  // of an older term: nobody waits for them
  log_time_.start(options_.id, now_);
  reset_election_timer();
  for (NodeId id : conf().members()) {
    if (id == options_.id || !conf().is_voter(id)) continue;
    with_next_batch_.push_back(
        envelope(id, VoteRequest{log_.last_index(), log_.last_term(), transfer}));
  }
  // The own vote is counted when the batch that holds it is done.
}

void Core::Impl::count_vote(NodeId from, bool granted) {
  votes_.try_emplace(from, granted);
  switch (vote_result(conf(), votes_)) {
    case VoteResult::kPending:
      break;
    case VoteResult::kWon:
      if (role_ == Role::kPreCandidate) {
        campaign(false);
      } else {
        become_leader();
      }
      break;
    case VoteResult::kLost:
      // Wait for a leader, or for the timer.
      leave_role();
      role_ = Role::kFollower;
      break;
  }
}

// Paper §5.4.1: the voter denies its vote if its own log is more up-to-date.
bool Core::Impl::is_up_to_date(Index last_index, Term last_term) const {
  return last_term > log_.last_term() ||
         (last_term == log_.last_term() && last_index >= log_.last_index());
}

// Only voters are asked. Who asks a learner has a change in its log that makes the learner a voter,
// not committed, and needs its vote until that change is truncated; nobody can win while this log
// is the newest of those that are left, unless it is this node (§4.2.2). Should it win, it commits
// what it has and hands over (advance_commit).
void Core::Impl::refused_an_older_log() {
  if (!is_voter() && conf().is_member(options_.id)) is_needed_ = true;
}

// Thesis §9.6.
void Core::Impl::on(NodeId from, Term term, const PreVoteRequest& request) {
  bool up_to_date = is_up_to_date(request.last_index, request.last_term);
  if (!up_to_date) refused_an_older_log();
  bool could_vote = term > term_ || vote_ == from || (!vote_ && !leader_);
  if (up_to_date && could_vote) {
    outbox_.push_back({options_.id, from, term, PreVoteResponse{true}});
  } else {
    send(from, PreVoteResponse{false});
  }
}

void Core::Impl::on(NodeId from, Term term, const PreVoteResponse& response) {
  // A grant for an earlier campaign names an earlier term.
  if (role_ != Role::kPreCandidate) return;
  if (response.granted && term != term_ + 1) return;
  count_vote(from, response.granted);
}

void Core::Impl::on(NodeId from, Term, const VoteRequest& request) {
  bool up_to_date = is_up_to_date(request.last_index, request.last_term);
  if (!up_to_date) refused_an_older_log();
  // Figure 2: one vote in a term; the same candidate may ask again, its answer may have been lost.
  bool free_to_vote = vote_ == from || (!vote_ && !leader_);
  bool granted = up_to_date && free_to_vote;
  if (granted) {
    vote_ = from;
    quick_timeouts_ = 0;
    reset_election_timer();  // §5.2: who has just voted gives the candidate time
  }
  send_when_durable(envelope(from, VoteResponse{granted, now_.wall_ns}), Index());
}

void Core::Impl::on(NodeId from, Term, const VoteResponse& response) {
  if (role_ != Role::kCandidate) return;
  if (response.granted) log_time_.observe(from, response.wall_ns, now_);
  count_vote(from, response.granted);
}

// ---- roles

// What belongs to the present role ends with it; reads that depend on it are given back.
void Core::Impl::leave_role() {
  leader_ = NodeId();
  leader_heard_at_.reset();
  votes_.clear();
  peers_.clear();
  abort_transfer();
  failed_transferee_ = NodeId();
  with_next_batch_.clear();
  heartbeat_is_due_ = false;
  round_is_needed_ = false;
  for (const Reader& reader : rounds_.drop_all()) answer_reader(reader, Index());
  for (uint64_t context : asks_.drop_all()) ready_.reads_dropped.push_back(context);
}

// The vote survives a step-down within the term (figure 2: votedFor is of the term, not of the
// role).
void Core::Impl::become_follower(Term term, NodeId leader) {
  CHECK(term >= term_);
  bool was_leader = role_ == Role::kLeader;
  // Answers that leave below name the term in which they were asked for.
  leave_role();
  if (term > term_) {
    term_ = term;
    vote_ = NodeId();
    held_.clear();  // of an older term: nobody waits for them
  }
  role_ = Role::kFollower;
  leader_ = leader;
  // Others' requests with higher terms do not put off the own campaign; a leader does, and one who
  // was leader itself has no timer that runs.
  if (was_leader || leader) reset_election_timer();
}

void Core::Impl::become_leader() {
  CHECK(role_ == Role::kCandidate);
  leave_role();
  role_ = Role::kLeader;
  leader_ = options_.id;
  quick_timeouts_ = 0;
  round_ = 0;
  send_times_.clear();
  lease_round_ = 0;
  lease_given_up_ = false;
  settings_everywhere_since_.reset();
  preferred_ = NodeId();
  yields_ = 0;
  for (NodeId id : conf().members()) {
    if (id != options_.id) peers_.try_emplace(id, log_.last_index() + 1, now_.time);
  }
  restart_quorum_period();
  next_heartbeat_ = now_.time + options_.heartbeat_interval;
  log_time_.begin(log_.last_stamp_ns(), now_);
  // Thesis §6.4 and paper §8: nothing of earlier terms is known to be committed until an entry of
  // this one is.
  append_own(EntryKind::kNoop, Proposal{});
  term_start_ = log_.last_index();
}

// ---- leadership transfer (thesis §3.10)

void Core::Impl::on(const TransferLeadership& event) {
  if (role_ != Role::kLeader || transferee_) return;
  NodeId to = event.to ? event.to : successor();
  if (!to || to == options_.id || !conf().is_voter(to) || priority_of(to) == 0) return;
  transferee_ = to;
  timeout_now_sent_ = false;
  transfer_deadline_ = now_.time + election_timeout();
}

// New proposals are refused meanwhile, so the target's log comes to match this one.
void Core::Impl::continue_transfer() {
  if (!transferee_ || timeout_now_sent_) return;
  auto peer = peers_.find(transferee_);
  if (peer == peers_.end()) {
    abort_transfer();
  } else if (peer->second.match() == log_.last_index()) {
    // From here on the others may elect, however lately they heard this node (thesis §6.4.1): also
    // much later, should the message or the votes that it leads to be delayed.
    lease_given_up_ = true;
    send(transferee_, TimeoutNow{});
    timeout_now_sent_ = true;
  }
}

void Core::Impl::abort_transfer() {
  transferee_ = NodeId();
  timeout_now_sent_ = false;
}

void Core::Impl::on(NodeId from, Term, const TimeoutNow&) {
  if (role_ == Role::kLeader || !may_campaign() || from != leader_) return;
  campaign(true);
}

}  // namespace connectd::raft
