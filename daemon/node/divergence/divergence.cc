#include "node/divergence/divergence.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "base/log_event.h"
#include "raft/quorum.h"

namespace connectd::node {
namespace {

// Hashes of the state that are kept: compare entries are rare.
constexpr size_t kMaxHashes = 16;
// Between two compare entries that are wanted because one alone did not settle a difference.
constexpr Duration kCompareRetry = std::chrono::seconds(10);

using wire::Compared;

// Where two replicas differ: not at `agreed`, and at `index`.
std::string place_of(Compared compared, Index agreed, Index index) {
  if (compared == Compared::kState) {
    std::string since = agreed ? fmt::format(" and were equal at index {}", agreed) : "";
    return fmt::format("the states differ at index {}, a compare entry,{}{}", index, since,
                       agreed ? "" : " or before it");
  }
  if (agreed + 1 == index) return fmt::format("the first different answer is at index {}", index);
  return agreed ? fmt::format(
                      "the first different answer is at one of the indexes {} to {}, older "
                      "than the digests that are kept",
                      agreed + 1, index)
                : fmt::format(
                      "the first different answer is at or before index {}, older than the "
                      "digests that are kept",
                      index);
}

}  // namespace

// ---- DigestRing

void DigestRing::record(Index index, uint64_t digest) {
  if (slots_.empty() || index != last_ + 1) {
    if (!slots_.empty() && index == last_ && at(index) == digest) return;
    slots_.clear();
    origin_ = first_ = index;
  }
  if (slots_.size() < kCapacity) {
    slots_.push_back(digest);
  } else {
    slots_[(index - origin_) % kCapacity] = digest;
    ++first_;
  }
  last_ = index;
}

std::optional<uint64_t> DigestRing::at(Index index) const {
  if (slots_.empty() || index < first_ || index > last_) return std::nullopt;
  return slots_[(index - origin_) % kCapacity];
}

// ---- what the node learns

Divergence::Divergence(const Options& options, Index applied, uint64_t digest) : options_(options) {
  tracks_[1].compared = Compared::kState;
  ring_.record(applied, digest);
}

void Divergence::applied(Index index, const std::vector<uint64_t>& digests,
                         const std::vector<std::pair<Index, uint64_t>>& hashed) {
  const Index before = index - digests.size();
  for (size_t i = 0; i < digests.size(); ++i) applied(before + i + 1, digests[i]);
  for (const auto& [at, hash] : hashed) {
    if (at > before) state_hashed(at, hash);  // not of a state that was replaced since
  }
}

void Divergence::state_hashed(Index index, uint64_t hash) {
  hashes_.emplace_back(index, hash);
  if (hashes_.size() > kMaxHashes) hashes_.pop_front();
}

void Divergence::state_hash_done(Index index, std::optional<uint64_t> hash) {
  if (index != hashing_) return;
  hashing_ = Index();
  if (hash) state_hashed(index, *hash);
}

Index Divergence::settled(Compared compared) const {
  if (compared == Compared::kState && hashing_) return std::min(ring_.last(), hashing_ - 1);
  return ring_.last();
}

std::optional<uint64_t> Divergence::own(const Track& track, Index index) const {
  if (track.compared == Compared::kReplies) return ring_.at(index);
  for (const auto& [at, hash] : hashes_) {
    if (at == index) return hash;
  }
  return std::nullopt;
}

Index Divergence::own_newest(const Track& track) const {
  return track.compared == Compared::kReplies ? ring_.last() : last_hashed();
}

void Divergence::peer_changed(NodeId peer) {
  for (Track& track : tracks_) track.peers.erase(peer);
  if (peer == view_.leader) reported_ = state_reported_ = Index();
}

wire::DigestReport Divergence::report_of(Compared compared, Index index) const {
  wire::DigestReport report;
  report.leader_term = view_.term;
  report.compared = compared;
  report.incarnation = options_.incarnation;
  report.index = index;
  auto value = own(tracks_[static_cast<size_t>(compared)], index);
  report.known = value.has_value();
  report.digest = value.value_or(0);
  report.first = ring_.first();
  report.last = settled(compared);
  if (compared == Compared::kState) {
    report.build = options_.build;
    report.first = hashes_.empty() ? Index() : hashes_.front().first;
  }
  return report;
}

void Divergence::on_message(NodeId from, const wire::DigestQuery& query) {
  if (view_.leads || from != view_.leader || query.leader_term != view_.term) return;
  answers_.emplace_back(from, report_of(query.compared, query.index));
}

void Divergence::on_message(NodeId from, const wire::DigestReport& report) {
  if (!view_.leads || report.leader_term != view_.term || !conf_.is_member(from)) return;
  if (report.compared == Compared::kState && report.build != options_.build) return;
  Track& track = track_of(report.compared);
  Peer& peer = track.peers[from];
  if (peer.incarnation != report.incarnation) {
    peer = Peer();
    peer.incarnation = report.incarnation;
  }
  peer.first = report.first;
  peer.last = report.last;
  if (report.known) {
    look_at(track, peer, report.index, report.digest);
  } else if (report.last >= report.index && report.index == track.index) {
    // It has passed the index of the case without a value.
    peer.cannot_vote = true;
  }
}

void Divergence::look_at(Track& track, Peer& peer, Index index, uint64_t digest) {
  auto mine = own(track, index);
  if (!mine) {
    if (index > settled(track.compared)) peer.ahead = {index, digest};
    return;
  }
  if (digest == *mine) {
    // Equal after a difference: what differed in the state was replaced, or deleted.
    if (peer.differs && index >= peer.differs) peer.differs = Index();
    peer.agreed = std::max(peer.agreed, index);
  } else if (index > peer.agreed) {
    bool fresh = !peer.differs;
    if (fresh || index < peer.differs) {
      peer.differs = index;
      peer.other_digest = digest;
    }
    if (fresh && index > track.index) open_case(track, index);
  }
  if (index == track.index) peer.vote = digest;
}

// A case that is not decided keeps its age when it moves to another index.
void Divergence::open_case(Track& track, Index index) {
  if (!track.index || track.verdict != Verdict::kOpen) {
    track.since = now_;
    track.verdict = Verdict::kOpen;
    track.blocked = false;
    track.told.clear();
  }
  track.index = index;
  for (auto& [id, peer] : track.peers) {
    peer.vote.reset();
    peer.cannot_vote = false;
    peer.vote_asked = Time();
  }
}

void Divergence::on_message(NodeId from, const wire::DivergenceVerdict& verdict) {
  if (view_.leads || from != view_.leader || verdict.leader_term != view_.term) return;
  const Track& track = tracks_[static_cast<size_t>(verdict.compared)];
  if (verdict.kind == wire::DivergenceVerdict::Kind::kStop) {
    // A verdict on a state before a restart, or one that a snapshot has replaced, is void.
    if (own(track, verdict.index) == verdict.digest) stop_verdict_ = verdict;
    return;
  }
  notice_ = fmt::format(
      "the replicas have diverged, and no majority agrees: {} (digest {:016x} on node {}, which "
      "leads, {:016x} on another)",
      place_of(verdict.compared, verdict.agreed, verdict.index), verdict.digest, from,
      verdict.other_digest);
  notice_until_ = now_ + view_.patience;
}

// ---- the turn

void Divergence::advance(const View& view, Time now, Effects& out) {
  if (stopped_) return;
  now_ = now;
  if (view.leads != view_.leads || view.leader != view_.leader || view.term != view_.term) {
    for (Track& track : tracks_) {
      Compared compared = track.compared;
      track = Track();
      track.compared = compared;
    }
    reported_ = state_reported_ = Index();
    notice_.clear();
    answers_.clear();
    stop_verdict_.reset();
  }
  view_ = view;
  view_.conf = nullptr;  // valid during this call only
  if (view.leads) {
    if (conf_ != *view.conf) {
      conf_ = *view.conf;
      for (Track& track : tracks_) {
        std::erase_if(track.peers, [&](const auto& item) { return !conf_.is_member(item.first); });
      }
    }
    for (Track& track : tracks_) {
      for (auto& [id, peer] : track.peers) {
        if (!peer.ahead || peer.ahead->first > settled(track.compared)) continue;
        auto [index, digest] = *std::exchange(peer.ahead, std::nullopt);
        look_at(track, peer, index, digest);
      }
      if (track.index) judge(track, out);
      if (stopped_) return;
    }
  } else if (stop_verdict_) {
    stop(stop_verdict_->compared, stop_verdict_->agreed, stop_verdict_->index,
         stop_verdict_->digest, stop_verdict_->other_digest, out);
    return;
  } else if (view.leader) {
    report(now, out);
  }
  for (auto& answer : answers_) out.messages.push_back(std::move(answer));
  answers_.clear();
  settle_writes();
}

void Divergence::report(Time now, Effects& out) {
  if (last_hashed() > state_reported_) {
    state_reported_ = last_hashed();
    out.messages.emplace_back(view_.leader, report_of(Compared::kState, state_reported_));
  }
  if (ring_.last() <= reported_ || now < next_report_) return;
  reported_ = ring_.last();
  next_report_ = now + options_.interval;
  out.messages.emplace_back(view_.leader, report_of(Compared::kReplies, reported_));
}

void Divergence::settle_writes() {
  writes_ = Writes::kTaken;
  reason_.clear();
  if (!view_.leads) {
    if (notice_.empty() || now_ >= notice_until_) return;
    writes_ = Writes::kRefused;
    reason_ = notice_;
    return;
  }
  for (const Track& track : tracks_) {
    if (!track.index || track.verdict == Verdict::kOwnMajority) continue;
    if (track.blocked && track.verdict == Verdict::kOpen) {
      writes_ = Writes::kRefused;
      reason_ = track.told;
      return;
    }
    writes_ = Writes::kHeld;
  }
}

bool Divergence::take_compare_due(Index applied, bool takes_writes, Time now) {
  const Duration since = now - last_compare_;
  const bool wanted = wants_compare() && since >= kCompareRetry;
  // An idle cluster writes nothing.
  const bool due = options_.compare_interval > Duration::zero() &&
                   since >= options_.compare_interval && applied > last_hashed() &&
                   writes() == Writes::kTaken && takes_writes;
  if (!wanted && !due) return false;
  last_compare_ = now;
  return true;
}

bool Divergence::wants_compare() const {
  const Track& track = tracks_[1];
  if (!view_.leads || !track.index || track.verdict != Verdict::kOpen) return false;
  return std::ranges::any_of(track.peers, [](const auto& item) { return item.second.cannot_vote; });
}

// ---- the leader's judgement

std::optional<uint64_t> Divergence::vote_of(const Track& track, const Peer& peer,
                                            uint64_t own) const {
  if (peer.vote) return peer.vote;
  if (peer.differs == track.index) return peer.other_digest;
  // A chain that is equal at an index is equal at all before it; a state may have been replaced.
  bool agreed = track.compared == Compared::kReplies ? peer.agreed >= track.index
                                                     : peer.agreed == track.index;
  if (agreed) return own;
  return std::nullopt;
}

// The value that a majority of the voters has; of both sets while the membership is joint.
std::optional<uint64_t> Divergence::majority(const std::map<NodeId, uint64_t>& votes) const {
  for (const auto& [candidate_of, candidate] : votes) {
    std::map<NodeId, bool> granted;
    for (const auto& [id, vote] : votes) granted[id] = vote == candidate;
    if (raft::vote_result(conf_, granted) == raft::VoteResult::kWon) return candidate;
  }
  return std::nullopt;
}

void Divergence::judge(Track& track, Effects& out) {
  // Where the case cannot be decided any more, it moves to the newest value.
  Index newest = own_newest(track);
  bool moves = !own(track, track.index);
  if (track.verdict == Verdict::kOpen) {
    moves = moves || track.compared == Compared::kState ||
            std::ranges::any_of(track.peers, [](const auto& p) { return p.second.cannot_vote; });
  }
  if (moves && newest > track.index) open_case(track, newest);
  auto mine = own(track, track.index);
  if (!mine) return;

  halve(track, out);
  std::map<NodeId, uint64_t> votes{{options_.self, *mine}};
  for (const auto& [id, peer] : track.peers) {
    if (auto vote = vote_of(track, peer, *mine)) votes[id] = *vote;
  }
  auto winner = majority(votes);
  if (!winner) {
    track.verdict = Verdict::kOpen;
    collect_votes(track, votes, out);
    auto members = conf_.members();
    bool complete = std::ranges::all_of(
        members, [&](NodeId id) { return !conf_.is_voter(id) || votes.contains(id); });
    // A moment more, and the refusal names the first index.
    complete = complete && std::ranges::none_of(track.peers, [&](const auto& item) {
                 return next_probe(track, item.second).has_value();
               });
    if (complete || now_ - track.since >= view_.patience) track.blocked = true;
    if (track.blocked) refuse_writes(track, out);
    return;
  }
  track.blocked = false;
  if (*winner == *mine) {
    track.verdict = Verdict::kOwnMajority;
    stop_minority(track, out);
  } else {
    track.verdict = Verdict::kOtherMajority;
    stop_self(track, *winner, out);
  }
}

// The next index to ask the peer for on the way to the first difference; none when no question
// would tell more.
std::optional<Index> Divergence::next_probe(const Track& track, const Peer& peer) const {
  if (track.compared == Compared::kState || !peer.differs || peer.agreed + 1 == peer.differs) {
    return std::nullopt;
  }
  Index floor = std::max(ring_.first(), peer.first);
  if (peer.differs <= floor) return std::nullopt;
  if (peer.agreed < floor) return floor;
  return peer.agreed + (peer.differs - peer.agreed) / 2;
}

bool Divergence::is_found(const Track& track, const Peer& peer) const {
  return peer.differs && !next_probe(track, peer);
}

void Divergence::halve(Track& track, Effects& out) {
  for (auto& [id, peer] : track.peers) {
    if (!peer.differs) continue;
    // Evidence that one of the two does not have any more counts no more.
    if (!own(track, peer.differs) || peer.differs < peer.first) {
      peer.differs = Index();
      continue;
    }
    auto probe = next_probe(track, peer);
    if (!probe || (*probe == peer.probe && now_ - peer.probe_asked < options_.interval)) continue;
    peer.probe = *probe;
    peer.probe_asked = now_;
    out.messages.emplace_back(id, wire::DigestQuery{view_.term, track.compared, *probe});
  }
}

void Divergence::collect_votes(Track& track, const std::map<NodeId, uint64_t>& votes,
                               Effects& out) {
  for (NodeId id : conf_.members()) {
    if (id == options_.self || !conf_.is_voter(id)) continue;
    Peer& peer = track.peers[id];
    if (votes.contains(id) || peer.cannot_vote || now_ - peer.vote_asked < options_.interval) {
      continue;
    }
    peer.vote_asked = now_;
    out.messages.emplace_back(id, wire::DigestQuery{view_.term, track.compared, track.index});
  }
}

void Divergence::stop_minority(Track& track, Effects& out) {
  bool some_differ = false;
  for (auto& [id, peer] : track.peers) {
    if (!peer.differs) continue;
    some_differ = true;
    if (!is_found(track, peer)) continue;
    uint64_t mine = *own(track, peer.differs);
    if (!peer.told) {
      peer.told = true;
      out.errors.emplace_back(
          LogEvent::kDivergenceFound,
          fmt::format(
              "node {} has diverged from the majority: {} (digest {:016x} there, {:016x} here); "
              "stopping it",
              id, place_of(track.compared, peer.agreed, peer.differs), peer.other_digest, mine));
    } else if (now_ - peer.told_at < options_.interval) {
      continue;
    }
    peer.told_at = now_;
    wire::DivergenceVerdict verdict;
    verdict.leader_term = view_.term;
    verdict.compared = track.compared;
    verdict.agreed = peer.agreed;
    verdict.index = peer.differs;
    verdict.digest = peer.other_digest;
    verdict.other_digest = mine;
    out.messages.emplace_back(id, verdict);
  }
  if (!some_differ) track.index = Index();
}

void Divergence::stop_self(Track& track, uint64_t majority, Effects& out) {
  for (auto& [id, peer] : track.peers) {
    if (peer.vote != majority || !is_found(track, peer)) continue;
    stop(track.compared, peer.agreed, peer.differs, *own(track, peer.differs), peer.other_digest,
         out);
    return;
  }
}

void Divergence::refuse_writes(Track& track, Effects& out) {
  wire::DivergenceVerdict notice;
  notice.leader_term = view_.term;
  notice.compared = track.compared;
  notice.kind = wire::DivergenceVerdict::Kind::kNoMajority;
  notice.index = track.index;
  notice.digest = *own(track, track.index);
  std::string differences;
  for (const auto& [id, peer] : track.peers) {
    if (!is_found(track, peer)) continue;
    uint64_t mine = *own(track, peer.differs);
    if (differences.empty()) {
      notice.agreed = peer.agreed;
      notice.index = peer.differs;
      notice.digest = mine;
      notice.other_digest = peer.other_digest;
    }
    differences += fmt::format(
        "{}node {}: {} (digest {:016x} there, {:016x} here)", differences.empty() ? ": " : "; ", id,
        place_of(track.compared, peer.agreed, peer.differs), peer.other_digest, mine);
  }
  std::string text =
      fmt::format("the replicas have diverged, and no majority agrees{}", differences);
  if (text != track.told) {
    track.told = text;
    out.errors.emplace_back(LogEvent::kDivergenceNoMajority,
                            text + "; writes are rejected until there is a majority");
  }
  if (now_ < track.next_notice) return;
  track.next_notice = now_ + options_.interval;
  for (NodeId id : conf_.members()) {
    if (id != options_.self) out.messages.emplace_back(id, notice);
  }
}

void Divergence::stop(Compared compared, Index agreed, Index index, uint64_t mine, uint64_t other,
                      Effects& out) {
  stopped_ = true;
  out.stop = Error{
      ErrorKind::kDiverged,
      fmt::format(
          "this node has diverged from the majority: {} (digest {:016x} here, {:016x} there). "
          "Either plugin {} is not deterministic, or this machine's memory or disk failed. The "
          "node stops to avoid wrong replies. See docs/operations.md, \"Divergence\"",
          place_of(compared, agreed, index), mine, other, options_.plugin)};
}

}  // namespace connectd::node
