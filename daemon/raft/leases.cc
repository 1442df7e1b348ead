// The cluster's settings, the promise not to elect, leases, and priorities. The reasoning is in
// docs/adr/0016-lease-reads.md; thesis §6.4.1.
//
// The promise: while lease reads may be on, a node that heard a leader takes part in no election
// for promise_length() from then on, whatever happens meanwhile: a broken connection, a change of
// role, a restart (then it counts from the start). Only the leader itself lifts it, by TimeoutNow.
// The lease: if a quorum has answered messages sent at s, each node of it made the promise after s,
// so no other node is elected before s + lease_length() by the leader's clock.

#include <algorithm>
#include <utility>

#include "base/log.h"
#include "base/wall_clock.h"
#include "raft/core.h"

namespace connectd::raft {

namespace {
// A follower that lacks at most this many entries catches up within a round trip or two: it can
// take over.
constexpr uint64_t kHandoverLag = 256;
}  // namespace

// ---- settings

// Each entry has the timeout that is confirmed after it. A change that lowers the election timeout
// lowers the confirmed one, too; a change that raises it keeps it until every voter has the entry.
void Core::on(const ChangeSettings& event) {
  Leader* leader = leading();
  if (!leader_is_ready() || leader->transfer) return;
  const uint32_t level = event.settings.feature_level;
  if (level < settings_.back().settings.feature_level || level > options_.feature_level_max) return;
  append_settings(*leader, settings_.back().settings.changed_to(event.settings));
}

void Core::append_settings(Leader& leader, const Settings& settings) {
  Proposal proposal;
  proposal.payload = Slice::copy_of(settings.encode());
  append_own(leader, EntryKind::kSettings, std::move(proposal));
  leader.settings_everywhere_since.reset();
}

void Core::forget_old_settings() {
  while (settings_.size() > 1 && settings_[1].index <= log_.commit_index()) settings_.pop_front();
}

// The newest settings can be truncated, and then the previous ones are in force again, so the
// promise is as long as any of them requires.
Duration Core::promise_length() const {
  Duration longest{};
  for (const SettingsAtIndex& known : settings_) {
    if (known.settings.lease_reads) {
      longest = std::max(longest, known.settings.election_timeout);
    }
  }
  return longest;
}

bool Core::has_promised() const {
  const Duration length = promise_length();
  if (length == Duration() || leading() != nullptr) return false;
  return leader_spoke_ || (promised_at_ && now_.time - *promised_at_ < length);
}

// Two conditions: every voter has the newest settings on its disk, and has had them for as long as
// a lease can last that depends on a promise from before. The leader knows the first by the match
// index, so no reports are needed; the second is a matter of time. Once an entry in the log says
// so, it stays true: later leaders need not find out again, possibly with a voter missing. Later
// voters have the entry when they become voters (node/membership/members.h).
void Core::confirm_settings(Leader& leader) {
  const SettingsAtIndex& newest = settings_.back();
  bool everywhere = newest.settings.lease_reads &&
                    newest.settings.confirmed_timeout < newest.settings.election_timeout &&
                    leader_is_ready() && !leader.transfer && newest.index <= log_.commit_index() &&
                    newest.index <= log_.durable_index();
  for (const auto& [id, peer] : leader.followers) {
    everywhere &= !conf().is_voter(id) || peer.match() >= newest.index;
  }
  if (!everywhere) {
    leader.settings_everywhere_since.reset();
    return;
  }
  if (!leader.settings_everywhere_since) leader.settings_everywhere_since = now_.time;
  if (now_.time - *leader.settings_everywhere_since < newest.settings.election_timeout) return;
  Settings confirmed = newest.settings;
  confirmed.confirmed_timeout = confirmed.election_timeout;
  append_settings(leader, confirmed);
}

// ---- leases

Duration Core::lease_length() const {
  Duration shortest = settings_.back().settings.lease_length();
  for (const SettingsAtIndex& known : settings_) {
    shortest = std::min(shortest, known.settings.lease_length());
  }
  return shortest;
}

std::optional<Time> Core::lease_until() const {
  if (!leader_is_ready() || !options_.check_quorum) return {};
  const Leader& leader = *leading();
  if (leader.transfer || leader.lease_given_up) return {};
  const Duration length = lease_length();
  if (length == Duration()) return {};
  const std::optional<Time> renewed = leader.quorum_renewed_at(conf(), now_.time);
  if (!renewed) return {};
  const Time until = *renewed + length;
  if (now_.time >= until) return {};
  return until;
}

// The machine's two clocks agree from turn to turn, unless the wall clock is set, or the monotonic
// clock runs at a wrong rate or stood still.
void Core::watch_own_clock(const Now& now) {
  Leader* leader = leading();
  if (leader == nullptr || now.wall_ns == 0 || now_.wall_ns == 0) return;
  const Settings& settings = settings_.back().settings;
  if (!settings.lease_reads) return;
  if (!is_readable(now.wall_ns) || !is_readable(now_.wall_ns)) return leader->void_lease();
  const int64_t steady = (now.time - now_.time).count();
  const int64_t wall = now.wall_ns - now_.wall_ns;
  const Duration lease_gap = settings.confirmed_timeout - settings.lease_length();
  const int64_t allowed = std::max(lease_gap, Duration(1)).count();
  // Not their difference: that can overflow.
  if (wall > steady + allowed || wall < steady - allowed) leader->void_lease();
}

void Core::renew_lease(const Leader& leader, Progress& peer, uint64_t round, int64_t wall_ns) {
  if (!keeps_promises()) return;
  auto sent = leader.sent_at(round);
  if (!sent) return;
  const Settings& settings = settings_.back().settings;
  const bool good = peer.clock.observe(wall_ns, *sent, now_.time, settings.max_clock_drift_percent,
                                       2 * settings.election_timeout);
  if (!good) {
    peer.renewed_at.reset();
  } else if (leader.renews_lease(round) && (!peer.renewed_at || *sent > *peer.renewed_at)) {
    peer.renewed_at = sent;
  }
}

// ---- priorities (docs/adr/0017-stale-reads-and-priorities.md)

uint8_t Core::priority_of(NodeId id) const {
  if (id == options_.id) return priority_;
  auto known = priorities_.find(id);
  return known == priorities_.end() ? kDefaultPriority : known->second;
}

// A voter that answers, and is not unfit.
bool Core::may_succeed(NodeId id, const Progress& peer) const {
  // In the current period nothing may have been heard yet.
  return conf().is_voter(id) && (peer.active || peer.was_active) && priority_of(id) > 0 &&
         std::ranges::find(unfit_, id) == unfit_.end();
}

// It has also caught up.
bool Core::can_take_over(NodeId id, const Progress& peer) const {
  return may_succeed(id, peer) && peer.match() + kHandoverLag >= log_.last_index();
}

// The highest priority among those that have caught up; if none has, the most up to date. A node
// that was chosen before and did not take over comes last: in an idle cluster all are equally up to
// date, also one whose disk has just stalled and that has not reported it yet.
NodeId Core::successor(const Leader& leader) const {
  NodeId best;
  auto rank = [&](NodeId id, const Progress& peer) {
    const bool near = can_take_over(id, peer);
    return std::tuple(id != leader.failed_transferee, near, near ? priority_of(id) : uint8_t{0},
                      peer.match());
  };
  std::tuple<bool, bool, uint8_t, Index> best_rank;
  for (const auto& [id, peer] : leader.followers) {
    if (!may_succeed(id, peer)) continue;
    if (best && rank(id, peer) <= best_rank) continue;
    best = id;
    best_rank = rank(id, peer);
  }
  return best;
}

void Core::yield_to_preferred(Leader& leader) {
  NodeId best;
  if (!leader.transfer && leader_is_ready() && conf_is_settled()) {
    uint8_t highest = priority_;
    for (const auto& [id, peer] : leader.followers) {
      if (!can_take_over(id, peer) || priority_of(id) <= highest) continue;
      best = id;
      highest = priority_of(id);
    }
  }
  if (leader.preference.observe(best, now_.time, election_timeout())) on(TransferLeadership{best});
}

}  // namespace connectd::raft
