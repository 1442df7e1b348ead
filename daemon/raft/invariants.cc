// The invariants of one core (see core.h): of its state, and of a step from one state to the next.
#include "raft/invariants.h"

#include <fmt/format.h>

#include <algorithm>

namespace connectd::raft {

struct InvariantChecker::Seen {
  Term term;
  NodeId vote;
  NodeId leader;  // of `term`, if this node knew it
  Role role = Role::kFollower;
  Index last_index;
  Index commit;
  Term commit_term;  // none: was compacted
  Index applied;
  Index handed_out;
  Index first_index;
  Index conf_index;
  std::map<NodeId, Index> match;
};

void InvariantChecker::restarted(NodeId id) { seen_.erase(id); }

#define HOLDS(condition, ...)                                                \
  do {                                                                       \
    if (!(condition)) {                                                      \
      return fmt::format("node {} term {}: {} ({})", core.id(), core.term(), \
                         fmt::format(__VA_ARGS__), #condition);              \
    }                                                                        \
  } while (false)

std::string InvariantChecker::after_step(const Core& core) {
  const Core& c = core;
  const Log& log = c.log_;

  // -- one state: the log
  HOLDS(log.first_ >= Index(1) && log.last_ + 1 >= log.first_, "the log's ends cross");
  HOLDS(log.commit_ <= log.last_, "committed {} past the end {}", log.commit_, log.last_);
  HOLDS(log.commit_ + 1 >= log.first_, "compacted past the commit index");
  HOLDS(c.applied_index() <= log.handed_out_, "applied {} was never handed out", c.applied_index());
  HOLDS(log.handed_out_ <= log.commit_, "handed out {} uncommitted", log.handed_out_);
  HOLDS(log.durable_ <= log.last_, "durable past the end");
  HOLDS(log.durable_ < log.unwritten_from_, "durable, but never written");
  HOLDS(log.entries_.size() - log.head_ == log.last_ + 1 - log.memory_from_, "memory has gaps");
  HOLDS(log.memory_from_ <= log.durable_ + 1, "evicted before it was durable");
  HOLDS(log.runs_.empty() == (log.last_ < log.first_), "terms without entries, or the reverse");
  if (!log.runs_.empty()) {
    HOLDS(log.runs_.front().first == log.first_, "the first term run starts elsewhere");
    HOLDS(log.runs_.back().first <= log.last_, "a term run past the end");
    HOLDS(log.runs_.back().term <= c.term_, "an entry of a term to come");
  }
  for (size_t i = 1; i < log.runs_.size(); ++i) {
    HOLDS(log.runs_[i - 1].first < log.runs_[i].first, "term runs out of order");
    HOLDS(log.runs_[i - 1].term < log.runs_[i].term, "terms do not rise along the log");
  }
  // Older entries were checked when they were new.
  constexpr uint64_t kLook = 64;
  Index from = log.memory_from_ + kLook > log.last_ ? log.memory_from_ : log.last_ - kLook;
  int64_t stamp = from > log.memory_from_ ? log.at(from - 1).stamp_ns : INT64_MIN;
  for (Index i = from; i <= log.last_; ++i) {
    HOLDS(log.at(i).index == i, "an entry in a wrong place");
    HOLDS(log.at(i).term == log.term_at(i), "an entry's term differs from its run");
    HOLDS(log.at(i).stamp_ns > stamp, "stamps do not rise at index {}", i);
    stamp = log.at(i).stamp_ns;
  }
  HOLDS(std::is_sorted(c.batches_.batches_.begin(), c.batches_.batches_.end(),
                       [](const auto& a, const auto& b) { return a.id < b.id; }),
        "batches out of order");

  for (const Entry& entry : c.loaded_for_apply_) {
    HOLDS(entry.index <= log.handed_out_ || log.holds(entry.index, entry.term),
          "loaded entry {} of term {}, to be applied, is not in the log", entry.index, entry.term);
  }

  // -- one state: roles
  HOLDS(!c.confs_.empty() && c.confs_.back().index <= log.last_, "a configuration past the log");
  HOLDS(!c.settings_.empty() && c.settings_.back().index <= log.last_, "settings past the log");
  for (size_t i = 1; i < c.settings_.size(); ++i) {
    HOLDS(c.settings_[i - 1].index < c.settings_[i].index, "settings out of order");
  }
  const Leader* leader = c.leading();
  HOLDS(!c.lease_until() ||
            (leader != nullptr && !(leader->transfer && leader->transfer->timeout_now_sent)),
        "a lease without leadership, or after it was handed over");
  switch (c.role()) {
    case Role::kLeader:
      HOLDS(c.vote_ == c.options_.id, "a leader that did not vote for itself");
      HOLDS(log.last_term() == c.term_, "a leader without its no-op");
      HOLDS(leader->term_start < log.first_ || log.term_at(leader->term_start) == c.term_,
            "the no-op is gone");
      break;
    case Role::kCandidate:
      HOLDS(c.vote_ == c.options_.id, "a candidate that did not vote for itself");
      [[fallthrough]];
    case Role::kPreCandidate:
      HOLDS(c.is_needed_ || std::any_of(c.confs_.begin(), c.confs_.end(),
                                        [&](const ConfAtIndex& known) {
                                          return known.conf.is_voter(core.id());
                                        }),
            "a campaign of one who is no voter");
      break;
    case Role::kFollower:
      HOLDS(c.leader() != c.options_.id, "a follower of itself");
  }
  static const std::map<NodeId, Progress> kNoFollowers;
  const auto& followers = leader == nullptr ? kNoFollowers : leader->followers;
  for (const auto& [id, peer] : followers) {
    HOLDS(peer.match() < peer.next(), "next of {} is not past match", id);
    HOLDS(peer.match() <= log.last_ && peer.next() <= log.last_ + 1, "{} has what is not here", id);
    HOLDS(peer.state() != Progress::State::kSnapshot || peer.inflight_messages() == 0,
          "{} is in snapshot state and has a window", id);
    HOLDS((peer.inflight_bytes() == 0) == (peer.inflight_messages() == 0), "window of {}", id);
    HOLDS(c.conf().is_member(id) && id != c.options_.id, "{} is no other member", id);
  }

  // -- a step
  auto& seen = seen_[core.id()];
  if (!seen) {
    seen = std::make_shared<Seen>();
  } else {
    HOLDS(c.term_ >= seen->term, "the term goes back from {}", seen->term);
    if (c.term_ == seen->term) {
      HOLDS(!seen->vote || c.vote_ == seen->vote, "a second vote, for {}", c.vote_);
      HOLDS(!seen->leader || !c.leader() || c.leader() == seen->leader, "a second leader, {}",
            c.leader());
      // Paper, figure 3, leader append-only.
      if (seen->role == Role::kLeader && leader != nullptr) {
        HOLDS(log.last_ >= seen->last_index, "a leader truncated its log");
        for (const auto& [id, peer] : followers) {
          auto before = seen->match.find(id);
          // A change that exchanges a disk forgets what the one before it had.
          const bool is_forgotten = c.conf_index() > seen->conf_index && !peer.match();
          HOLDS(before == seen->match.end() || peer.match() >= before->second || is_forgotten,
                "match of {} goes back", id);
        }
      }
    }
    HOLDS(log.commit_ >= seen->commit, "the commit index goes back from {}", seen->commit);
    HOLDS(c.applied_index() >= seen->applied, "the applied index goes back from {}", seen->applied);
    HOLDS(log.handed_out_ >= seen->handed_out, "entries are handed out again");
    HOLDS(log.first_ >= seen->first_index, "the log's front comes back");
    if (seen->commit_term && seen->commit >= log.first_) {
      HOLDS(log.term_at(seen->commit) == seen->commit_term, "committed entry {} changed",
            seen->commit);
    }
  }
  remember(core, *seen);
  return {};
}

#undef HOLDS

void InvariantChecker::remember(const Core& core, Seen& seen) {
  const Core& c = core;
  const Log& log = c.log_;
  if (c.term_ != seen.term) seen.leader = NodeId();
  seen.term = c.term_;
  seen.vote = c.vote_;
  if (c.leader()) seen.leader = c.leader();
  seen.role = c.role();
  seen.last_index = log.last_;
  seen.commit = log.commit_;
  seen.commit_term = log.commit_ >= log.first_ ? log.term_at(log.commit_) : Term();
  seen.applied = c.applied_index();
  seen.handed_out = log.handed_out_;
  seen.first_index = log.first_;
  seen.conf_index = c.conf_index();
  seen.match.clear();
  if (const Leader* leader = c.leading()) {
    for (const auto& [id, peer] : leader->followers) seen.match[id] = peer.match();
  }
}

}  // namespace connectd::raft
