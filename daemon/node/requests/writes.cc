#include "node/requests/writes.h"

#include <algorithm>
#include <utility>

#include "base/log.h"
#include "base/log_event.h"
#include "wire/session_owner.h"

namespace connectd::node {

void Writes::add(RequestRef ref, Slice request, Time deadline) {
  // Ordered by deadline: a write that waited at its stream's barrier precedes newer ones. Within a
  // stream the deadlines rise, so its order does not change.
  auto place = queued_.end();
  while (place != queued_.begin() && std::prev(place)->deadline > deadline) --place;
  queued_.insert(place, Write{std::move(ref), std::move(request), deadline});
  next_expiry_ = std::min(next_expiry_, deadline);
}

// ---- what happened

void Writes::leader_changed(NodeId leader, Term term, bool takes_proposals) {
  leader_ = leader;
  term_ = term;
  leader_takes_proposals_ = takes_proposals;
  // Numbered writes that went to another leader, or in another term, may be lost.
  if (is_out() && (sent_to_ != leader || sent_term_ != term)) reopen();
}

void Writes::forward_lost(NodeId peer) {
  if (is_out() && sent_to_ == peer) reopen();
}

void Writes::forward_refused(Term leader_term, Time now) {
  if (!is_out() || sent_term_ != leader_term) return;
  reopen();
  refused_until_ = now + limits_.tick;
}

void Writes::reopen() {
  session_open_ = false;
  open_sent_ = false;
  awaited_until_.reset();
}

void Writes::session_opened(SessionId id, uint64_t incarnation) {
  if (incarnation != incarnation_) {
    // A late open from before a restart of this node: it closed the current session.
    if (session_open_) reopen();
    return;
  }
  session_ = id;
  session_open_ = true;
  open_sent_ = false;
  awaited_until_.reset();
  next_sequence_ = Sequence(1);
  numbered_bytes_ = 0;
  // All earlier sessions of this node are closed: writes not applied so far never will be. They are
  // sent again, before all newer ones.
  while (!numbered_.empty()) {
    Write& last = numbered_.back();
    if (!last.answered) {
      next_expiry_ = std::min(next_expiry_, last.deadline);
      queued_.push_front(std::move(last));
    }
    numbered_.pop_back();
  }
}

Writes::Write Writes::settle_first() {
  Write write = std::move(numbered_.front());
  numbered_.pop_front();
  numbered_bytes_ -= cost_of(write);
  return write;
}

std::optional<RequestRef> Writes::applied(SessionId session, Sequence sequence, Time now) {
  if (session != session_) return std::nullopt;
  if (numbered_.empty()) {
    // This node has sent none: another member used its session and the number of the next write,
    // which would be taken for applied. In a new session it is not.
    if (session_open_) {
      log_event(LogEvent::kSessionForeignWrite,
                "session={} has a write of another member: sequence={}", session.value(),
                sequence.value());
      reopen();
    }
    return std::nullopt;
  }
  CHECK_EQ(sequence.value(), first_numbered().value()) << "a session's writes are applied in order";
  Write write = settle_first();
  last_progress_ = now;
  if (write.answered) return std::nullopt;
  return std::move(write.ref);
}

std::vector<RequestRef> Writes::state_replaced(std::optional<Sequence> last) {
  const Sequence first = first_numbered();
  size_t settled = numbered_.size();
  if (last) settled = *last < first ? 0 : std::min(settled, *last - first + 1);
  std::vector<RequestRef> unknown;
  for (; settled > 0; --settled) {
    Write write = settle_first();
    if (!write.answered) unknown.push_back(std::move(write.ref));
  }
  if (!last) reopen();
  return unknown;
}

std::string Writes::fault_of(const wire::ForwardProposals& forward, NodeId from) {
  for (const raft::Proposal& proposal : forward.proposals) {
    if (proposal.kind != raft::EntryKind::kSessionOpen) continue;
    wire::SessionOwner owner;
    const bool is_own =
        wire::SessionOwner::decode(proposal.payload.view(), owner) && owner.node == from;
    if (!is_own || forward.proposals.size() != 1) return "a session that the sender does not open";
  }
  return {};
}

// ---- the turn

// What was sent at `sent` has had no effect here. It may be among the entries that are committed
// and wait for the plugin: then it is not lost, however long the plugin is busy, until those of the
// moment when the time was over are applied.
bool Writes::is_lost(Time sent, Duration timeout, const Progress& progress, Time now) {
  if (awaited_since_ != sent) {
    awaited_since_ = sent;
    awaited_until_.reset();
  }
  if (now - sent < timeout) return false;
  if (!awaited_until_) awaited_until_ = progress.committed;
  return progress.applied >= *awaited_until_;
}

void Writes::forward_queued(Time now, const Progress& progress, bool settle_only, Effects& out) {
  if (session_open_ && !numbered_.empty() &&
      is_lost(last_progress_, limits_.stuck_timeout, progress, now)) {
    reopen();
  }
  if (!leader_ || !leader_takes_proposals_ || now < refused_until_) return;
  if (!session_open_) {
    if (settle_only && numbered_.empty()) return;
    if (open_sent_ && !is_lost(open_sent_at_, limits_.retry_interval, progress, now)) return;
    return open_session(now, out);
  }
  while (!queued_.empty()) {
    std::vector<raft::Proposal> proposals = number_next();
    if (proposals.empty()) return;
    if (numbered_.size() == proposals.size()) last_progress_ = now;
    hand_to_leader(std::move(proposals), out);
  }
}

void Writes::open_session(Time now, Effects& out) {
  std::vector<raft::Proposal> proposals(1);
  proposals.front().kind = raft::EntryKind::kSessionOpen;
  proposals.front().payload = Slice::copy_of(wire::SessionOwner{self_, incarnation_}.encode());
  open_sent_ = true;
  open_sent_at_ = now;
  hand_to_leader(std::move(proposals), out);
}

// As many as fit into one message and the credit allows.
std::vector<raft::Proposal> Writes::number_next() {
  std::vector<raft::Proposal> proposals;
  size_t bytes = 0;
  const Sequence acked_below = first_numbered();
  while (!queued_.empty()) {
    Write& write = queued_.front();
    const size_t cost = cost_of(write);
    if (!numbered_.empty() && numbered_bytes_ + cost > limits_.credit_bytes) break;
    if (!proposals.empty() && bytes + write.request.size() > limits_.forward_bytes) break;
    proposals.push_back(
        {raft::EntryKind::kCommand, session_, next_sequence_, acked_below, write.request});
    bytes += write.request.size();
    numbered_bytes_ += cost;
    ++next_sequence_;
    numbered_.push_back(std::move(write));
    queued_.pop_front();
  }
  return proposals;
}

void Writes::hand_to_leader(std::vector<raft::Proposal> proposals, Effects& out) {
  sent_to_ = leader_;
  sent_term_ = term_;
  out.writes.push_back({leader_, term_, std::move(proposals)});
}

std::vector<RequestRef> Writes::take_queued() {
  std::vector<RequestRef> taken;
  for (Write& write : std::exchange(queued_, {})) taken.push_back(std::move(write.ref));
  return taken;
}

std::vector<RequestRef> Writes::expire_queued(Time now) {
  std::vector<RequestRef> expired;
  if (now < next_expiry_) return expired;
  next_expiry_ = Time::max();
  // All of them: one that came back from a session that was closed stands before older ones.
  std::erase_if(queued_, [&](const Write& write) {
    if (write.deadline <= now) {
      expired.push_back(write.ref);
      return true;
    }
    next_expiry_ = std::min(next_expiry_, write.deadline);
    return false;
  });
  return expired;
}

std::vector<RequestRef> Writes::expire_numbered(Time now) {
  std::vector<RequestRef> expired;
  for (Write& write : numbered_) {
    if (write.answered || write.deadline > now) continue;
    write.answered = true;
    expired.push_back(std::move(write.ref));
    write.ref = {};
  }
  return expired;
}

}  // namespace connectd::node
