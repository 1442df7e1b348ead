#include "raft/leader.h"

#include <algorithm>
#include <utility>

#include "raft/quorum.h"

namespace connectd::raft {

// By this rule leadership only moves to a higher priority, and only after an uninterrupted time, so
// it does not flap.
bool Preference::observe(NodeId best, Time now, Duration election_timeout) {
  if (best != preferred_) {
    preferred_ = best;
    since_ = now;
  }
  if (!preferred_) return false;
  const int doublings = std::min(yields_, kMaxYieldDoublings);
  if (now - since_ < kYieldTimeouts * (1 << doublings) * election_timeout) return false;
  ++yields_;
  preferred_ = NodeId();
  return true;
}

void Leader::set_members(const ConfState& conf, Index next, Time now) {
  log_time.set_voters(conf.voters);
  std::erase_if(followers, [&](const auto& follower) { return !conf.is_member(follower.first); });
  for (NodeId id : conf.members()) {
    if (id != self_) followers.try_emplace(id, next, now);
  }
}

void Leader::forget_log_of(NodeId id, Index next, Time now) {
  Progress* peer = follower(id);
  // Of one that has confirmed nothing only guesses are known; a snapshot on its way goes on.
  if (peer != nullptr && peer->match()) *peer = Progress(next, now);
}

Progress* Leader::follower(NodeId id) {
  auto found = followers.find(id);
  return found == followers.end() ? nullptr : &found->second;
}

const Progress* Leader::follower(NodeId id) const {
  auto found = followers.find(id);
  return found == followers.end() ? nullptr : &found->second;
}

uint64_t Leader::next_round(Time now, Duration grain) {
  send_times_.sent(++round_, now, grain);
  return round_;
}

bool Leader::answered(Progress& peer, uint64_t round) const {
  if (round > quorum_round_) peer.active = true;
  if (round <= peer.answered_round || round > round_) return false;
  peer.answered_round = round;
  return true;
}

void Leader::begin_quorum_period(Time now) {
  quorum_since_ = now;
  quorum_round_ = 0;
  for (auto& [id, peer] : followers) peer.was_active = std::exchange(peer.active, false);
}

void Leader::restart_quorum_period(Time now) {
  begin_quorum_period(now);
  quorum_round_ = round_;
}

bool Leader::quorum_is_active(const ConfState& conf) {
  return quorum_value(conf, scratch_, [&](NodeId id) -> uint64_t {
           if (id == self_) return 1;
           const Progress* peer = follower(id);
           return peer != nullptr && peer->active ? 1 : 0;
         }) > 0;
}

Index Leader::quorum_match(const ConfState& conf, Index own) {
  return Index(quorum_value(conf, scratch_, [&](NodeId id) -> uint64_t {
    if (id == self_) return own.value();
    const Progress* peer = follower(id);
    return peer == nullptr ? 0 : peer->match().value();
  }));
}

uint64_t Leader::quorum_answered(const ConfState& conf) {
  return quorum_value(conf, scratch_, [&](NodeId id) -> uint64_t {
    if (id == self_) return UINT64_MAX;
    const Progress* peer = follower(id);
    return peer == nullptr ? 0 : peer->answered_round;
  });
}

std::optional<Time> Leader::quorum_renewed_at(const ConfState& conf, Time now) const {
  std::vector<uint64_t> scratch;
  // 0: never. The clock starts at boot, so no time is before its zero.
  auto ticks = [](Time time) { return static_cast<uint64_t>(time.time_since_epoch().count()) + 1; };
  uint64_t renewed = quorum_value(conf, scratch, [&](NodeId id) -> uint64_t {
    if (id == self_) return ticks(now);
    const Progress* peer = follower(id);
    return peer == nullptr || !peer->renewed_at ? 0 : ticks(*peer->renewed_at);
  });
  if (renewed == 0) return {};
  return Time(Duration(static_cast<int64_t>(renewed - 1)));
}

void Leader::void_lease() {
  lease_round_ = round_;
  for (auto& [id, peer] : followers) peer.renewed_at.reset();
}

}  // namespace connectd::raft
