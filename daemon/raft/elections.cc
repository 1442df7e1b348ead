// Roles, terms, votes, timers, leadership transfer.

#include <algorithm>
#include <utility>

#include "base/log.h"
#include "raft/core.h"
#include "raft/quorum.h"
#include "raft/term_limits.h"

namespace connectd::raft {

// ---- terms

// Paper, figure 2, "all servers": on a higher term, the node becomes a follower; messages of a
// lower term are ignored. True: the message is of the current term (or asks about a later one) and
// is handled.
bool Core::admit(const Envelope& m) {
  if (m.from == options_.id || m.to != options_.id) return false;
  const bool from_leader = std::holds_alternative<AppendRequest>(m.message) ||
                           std::holds_alternative<Heartbeat>(m.message) ||
                           (std::holds_alternative<TimeoutNow>(m.message) && m.from == leader());
  const bool asks_for_vote = std::holds_alternative<PreVoteRequest>(m.message) ||
                             std::holds_alternative<VoteRequest>(m.message);
  // Thesis §4.1: vote requests of non-members are answered, too, because this node may not know of
  // the change that made the sender a member, and its vote may be needed. Removed nodes cannot
  // disrupt, because of pre-vote and stickiness (§4.2.3). Other messages count only from members.
  if (!from_leader && !asks_for_vote && !conf().is_member(m.from)) return false;
  if (!may_vote_ && asks_for_vote) return false;

  if (std::holds_alternative<PreVoteRequest>(m.message)) {
    // Thesis §9.6: it changes no term.
    if (m.term >= term_) return !leader_is_near();
  } else if (const auto* vote = std::get_if<VoteRequest>(&m.message)) {
    // Thesis §4.2.3: within an election timeout of hearing from a leader, a vote request is
    // ignored, its term included, unless the leader itself started the election (§3.10).
    if (m.term >= term_ && !vote->leader_transfer && leader_is_near()) return false;
    if (m.term > term_ && !adopt(m.term, NodeId())) return false;
  } else if (const auto* pre_vote = std::get_if<PreVoteResponse>(&m.message);
             pre_vote != nullptr && pre_vote->granted) {
    return true;  // has the term of the request
  } else if (m.term > term_ && !adopt(m.term, from_leader ? m.from : NodeId())) {
    return false;
  }
  if (m.term >= term_) return true;
  answer_older_term(m);
  return false;
}

void Core::answer_older_term(const Envelope& m) {
  // Tells the sender the current term. It makes a leader that was cut off step down, and a
  // candidate that is behind catch up; neither could make progress without it.
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
  // A leader without a quorum steps down by itself, so this node counts as near a leader.
  if (leading() != nullptr) return true;
  const Follower* self = following();
  return self != nullptr && self->heard_at && now_.time - *self->heard_at < election_timeout();
}

// A leader without a quorum steps down by itself within two election timeouts (thesis §6.2).
std::optional<Time> Core::quorum_since() const {
  if (!options_.check_quorum) return std::nullopt;
  if (const Leader* leader = leading()) return leader->elected_at;
  const Follower* self = following();
  if (self == nullptr || !self->heard_at) return std::nullopt;
  if (now_.time - *self->heard_at >= election_timeout()) return std::nullopt;
  return self->heard_since;
}

bool Core::heard_from_leader(NodeId leader) {
  const Follower* self = following();
  // A term has one leader (paper §5.2). Who lies is not known, but that this node's own state is
  // wrong is not proven either: a process that ends on what anybody may send would be a gift.
  if (leading() != nullptr || (self != nullptr && self->leader && self->leader != leader)) {
    contradiction_ = "two leaders in one term";
    return false;
  }
  if (self == nullptr || self->leader != leader) become_follower(term_, leader);
  if (!quorum_since()) following()->heard_since = now_.time;
  following()->heard_at = now_.time;
  awaits_peers_ = false;
  leader_spoke_ = true;
  is_needed_ = false;
  quick_timeouts_ = 0;
  reset_election_timer();
  return true;
}

// ---- timers

// Paper §5.2: drawn anew each time, so that split votes do not repeat. After the connection to the
// leader is lost there is no leader to wait for, so a fraction of the timeout is enough, a few
// times. If this does not elect a leader, the network or the disks are slower than the short range.
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
    // The promise covers the node's own vote, too; the timeout was set when the promise was
    // shorter.
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
    // Thesis §6.2: a leader steps down if no quorum answered it for an election timeout, so that
    // its clients look for another leader and it does not delay elections.
    if (!leader.quorum_is_active(conf())) {
      become_follower(term_, NodeId());
      return;
    }
    leader.begin_quorum_period(now_.time);
  }
  if (now_.time >= leader.next_heartbeat) {
    leader.heartbeat_is_due = true;
    leader.log_time.advance(now_);
    leader.next_heartbeat = now_.time + options_.heartbeat_interval;
    confirm_settings(leader);
    yield_to_preferred(leader);
  }
}

// ---- campaigns

bool Core::may_campaign() const {
  if (!may_vote_ || !may_lead_ || awaits_peers_ || priority_ == 0) return false;
  if (has_unsendable()) return false;
  if (is_voter() || is_needed_) return true;
  return confs_.size() > 1 && confs_.back().index > log_.commit_index() &&
         confs_[confs_.size() - 2].conf.is_voter(options_.id);
}

void Core::campaign_or_wait() {
  // Thesis §4.2.1: only voters campaign. But a node that is no voter only by an uncommitted change
  // (§4.2.2), or is a voter by a change that it does not know (note_refused_older_log), may have
  // the only log that is up to date. And a candidate whose requests still wait for its own disk
  // would only have one more term to write: on slow disks no campaign would ever end.
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

// Thesis §9.6: find out whether it could win an election before it disrupts others with a new term.
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

// Paper §5.2. The requests are sent when the new term and the node's own vote are durable. A
// candidate that lost them in a crash could campaign again in the same term with a shorter log, and
// count votes that were granted to the longer one.
void Core::campaign(bool transfer) {
  leave_role();
  ++term_;
  vote_ = options_.id;
  held_.clear();  // of an older term: not needed any more
  role_.emplace<Candidate>().log_time.start(options_.id, conf().voters, now_);
  reset_election_timer();
  for (NodeId id : conf().members()) {
    if (id == options_.id || !conf().is_voter(id)) continue;
    with_next_batch_.push_back(
        envelope(id, VoteRequest{log_.last_index(), log_.last_term(), transfer}));
  }
  // The node's own vote is counted when its batch is durable.
}

void Core::count_vote(NodeId from, bool granted) {
  Candidate* candidate = campaigning();
  CHECK(candidate != nullptr) << "a vote counted without a campaign";
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

// Paper §5.4.1: the voter refuses its vote if its own log is more up to date.
bool Core::is_up_to_date(Index last_index, Term last_term) const {
  return last_term > log_.last_term() ||
         (last_term == log_.last_term() && last_index >= log_.last_index());
}

// Only voters are asked for votes. A candidate that asks a learner has an uncommitted change in its
// log that makes the learner a voter, and needs its vote until that change is truncated. If the
// learner's log is the most up to date of those that are left, no other node can win (§4.2.2), so
// it campaigns. If it wins, it commits its entries and hands over (advance_commit).
void Core::note_refused_older_log() {
  if (!is_voter() && conf().is_member(options_.id)) is_needed_ = true;
}

// Thesis §9.6.
void Core::on(NodeId from, Term term, const PreVoteRequest& request) {
  bool up_to_date = is_up_to_date(request.last_index, request.last_term);
  if (!up_to_date) note_refused_older_log();
  bool could_vote = term > term_ || vote_ == from || (!vote_ && !leader());
  if (up_to_date && could_vote) {
    outbox_.push_back({options_.id, from, term, PreVoteResponse{true}});
  } else {
    send(from, PreVoteResponse{false});
  }
}

void Core::on(NodeId from, Term term, const PreVoteResponse& response) {
  // A vote for an earlier campaign has an earlier term.
  const Candidate* candidate = campaigning();
  if (candidate == nullptr || !candidate->is_pre) return;
  if (response.granted && term != term_ + 1) return;
  count_vote(from, response.granted);
}

void Core::on(NodeId from, Term, const VoteRequest& request) {
  bool up_to_date = is_up_to_date(request.last_index, request.last_term);
  if (!up_to_date) note_refused_older_log();
  // Figure 2: one vote a term. The same candidate may ask again, as the answer may have been lost.
  bool free_to_vote = vote_ == from || (!vote_ && !leader());
  bool granted = up_to_date && free_to_vote;
  if (granted) {
    vote_ = from;
    quick_timeouts_ = 0;
    reset_election_timer();  // §5.2: give the candidate time
  }
  send_when_durable(envelope(from, VoteResponse{granted, now_.wall_ns}), Index());
}

void Core::on(NodeId from, Term, const VoteResponse& response) {
  // The votes that come after the election are not needed, but the clocks are.
  if (Leader* leader = leading()) leader->log_time.observe(from, response.wall_ns, now_);
  Candidate* candidate = campaigning();
  if (candidate == nullptr || candidate->is_pre) return;
  candidate->log_time.observe(from, response.wall_ns, now_);
  count_vote(from, response.granted);
}

// ---- roles

// Destroys the state of the current role and drops the reads that depend on it. The node is then a
// follower without a leader, unless the caller begins another role.
void Core::leave_role() {
  with_next_batch_.clear();
  if (Leader* leader = leading()) {
    for (const Reader& reader : leader->reads.drop_all()) answer_reader(reader, Index());
  }
  for (uint64_t context : asks_.drop_all()) ready_.reads_dropped.push_back(context);
  role_.emplace<Follower>();
}

// False: the term is out of reach, so this node goes as far as one message may take it.
bool Core::adopt(Term theirs, NodeId leader) {
  const Term reach = reach_of(term_);
  if (theirs <= reach) {
    become_follower(theirs, leader);
    return true;
  }
  become_follower(reach, NodeId());
  return false;
}

// The vote is kept if the node steps down within the term (figure 2: votedFor belongs to the term,
// not to the role).
void Core::become_follower(Term term, NodeId leader) {
  CHECK(term >= term_);
  bool was_leader = leading() != nullptr;
  // Before the change of term: its answers have the term of the requests.
  leave_role();
  if (term > term_) {
    term_ = term;
    vote_ = NodeId();
    held_.clear();  // of an older term: not needed any more
  }
  role_ = Follower{leader, {}};
  // Requests with higher terms do not delay this node's campaign. A leader does; and a node that
  // was the leader has no timer running.
  if (was_leader || leader) reset_election_timer();
}

void Core::become_leader() {
  Candidate* candidate = campaigning();
  CHECK(candidate != nullptr && !candidate->is_pre);
  LogTime log_time = std::move(candidate->log_time);
  leave_role();
  quick_timeouts_ = 0;
  log_time.begin(log_.last_stamp_ns(), log_time_offset_, now_);
  const Index next = log_.last_index() + 1;
  Leader& leader = role_.emplace<Leader>(options_.id, next, std::move(log_time));
  leader.set_members(conf(), next, now_.time);
  leader.begin_quorum_period(now_.time);
  leader.elected_at = now_.time;
  leader.next_heartbeat = now_.time + options_.heartbeat_interval;
  // Thesis §6.4 and paper §8: no entry of an earlier term is known to be committed until one of
  // this term is.
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

// New proposals are dropped meanwhile, so the target's log catches up with this one.
void Core::continue_transfer(Leader& leader) {
  if (!leader.transfer || leader.transfer->timeout_now_sent) return;
  const NodeId to = leader.transfer->to;
  const Progress* peer = leader.follower(to);
  if (peer == nullptr) {
    leader.transfer.reset();
  } else if (peer->match() == log_.last_index()) {
    // From now on the others may elect, even if they have just heard this node (thesis §6.4.1);
    // also much later, if this message or the resulting votes are delayed.
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
