#include "node/disk/disks.h"

#include <algorithm>
#include <utility>

#include "base/log_event.h"

namespace connectd::node {
namespace {

constexpr std::string_view kNoQuorumHasSpace =
    "no quorum of nodes has storage.min_free_disk of free space: writes are rejected until it has, "
    "reads continue; to see the full disks: connectctl status";
constexpr std::string_view kLogIsFull =
    "this node's disk is full and its log has no space: it cannot follow the cluster; use another "
    "node";
constexpr std::string_view kLogHasNoDescriptor =
    "this node has no file descriptor left for its log: it cannot follow the cluster; use another "
    "node, and raise the limit of open files (LimitNOFILE)";

}  // namespace

DiskWatch::View Disks::view_of(const raft::Core& core) const {
  DiskWatch::View view{core.role() == raft::Role::kLeader, core.leader(), core.term(),
                       &core.conf()};
  view.is_new = core.is_new_leader();
  for (const raft::PeerStatus& peer : core.peers()) {
    if (peer.is_near) view.near.insert(peer.id);
  }
  return view;
}

// ---- what happened

void Disks::measured(uint64_t free_bytes) {
  watch_.measured(free_bytes);
  changed_ = true;
  const bool full = watch_.is_full();
  if (std::exchange(was_full_, full) == full) return;
  if (full) {
    log_event(LogEvent::kDiskFull, "disk full free={} min_free_disk={}", free_bytes,
              min_free_bytes_);
  } else {
    log_event(LogEvent::kDiskSpaceRecovered, "disk space recovered free={}", free_bytes);
  }
}

void Disks::segment_prepared(const jobs::SegmentPrepared& prepared, Time now) {
  preparing_segment_ = false;
  no_descriptors_ = prepared.no_descriptors;
  if (!prepared.ok) next_preparation_ = now + kSpaceCheckInterval;
}

void Disks::on_report(NodeId from, const wire::DiskReport& report, Time now) {
  watch_.on_message(from, report, now);
  changed_ = true;
}

void Disks::peer_reached(NodeId peer) {
  watch_.peer_reached(peer);
  changed_ = true;
}

// ---- the turn

void Disks::react(const raft::Core& core, bool log_has_reserve, Time now, Effects& out) {
  // A new leader decides before it accepts anything.
  const bool leads = core.role() == raft::Role::kLeader;
  if (std::exchange(led_, leads) != leads) changed_ = true;
  if (std::exchange(changed_, false)) judge(core, log_has_reserve, now, out);
}

void Disks::advance(const raft::Core& core, const LogView& log, bool stopping, Time now,
                    Effects& out) {
  if (log.wants_segment && !preparing_segment_ && now >= next_preparation_) {
    preparing_segment_ = true;
    out.tasks.push_back(jobs::PrepareSegment{});
  }
  if (now >= next_space_check_) {
    next_space_check_ = now + kSpaceCheckInterval;
    out.tasks.push_back(jobs::CheckSpace{});
  }
  stall_asked_ = Term();
  watch_.progressed(log.is_behind, log.done, core.settings().election_timeout, now);
  judge(core, log.has_reserve, now, out);
  if (!stopping) hand_over(core, now, out);
}

void Disks::judge(const raft::Core& core, bool log_has_reserve, Time now, Effects& out) {
  watch_.log_has_room(log_has_reserve);
  watch_.advance(view_of(core), now, out);
  tell_core(core, now, out);
  log_changes(!log_has_reserve);
  refusal_ = !log_has_reserve          ? (no_descriptors_ ? kLogHasNoDescriptor : kLogIsFull)
             : watch_.writes_stopped() ? kNoQuorumHasSpace
                                       : std::string_view();
}

void Disks::tell_core(const raft::Core& core, Time now, Effects& out) {
  std::vector<NodeId> unfit = watch_.unfit(core.conf());
  if (unfit != unfit_) {
    unfit_ = std::move(unfit);
    out.events.push_back(raft::Unfit{unfit_});
  }
  const bool stalled = watch_.is_stalled();
  if (std::exchange(was_stalled_, stalled) == stalled) return;
  out.events.push_back(raft::Candidacy{!stalled});
  if (stalled) {
    log_event(LogEvent::kDiskStalled,
              "log disk stalled: it has completed nothing for {} ms; this node does not vote, "
              "acknowledge or lead until it recovers",
              watch_.stalled_for(now) / std::chrono::milliseconds(1));
  } else {
    log_event(LogEvent::kDiskRecovered, "log disk recovered");
  }
}

void Disks::log_changes(bool log_is_full) {
  const bool stopped = watch_.writes_stopped();
  if (std::exchange(writes_were_stopped_, stopped) != stopped) {
    if (stopped) {
      log_event(LogEvent::kWritesRejected,
                "writes rejected (DISKFULL): no quorum of nodes has storage.min_free_disk of "
                "free space; reads continue");
    } else {
      log_event(LogEvent::kWritesAccepted, "writes accepted again");
    }
  }
  if (std::exchange(log_was_full_, log_is_full) != log_is_full) {
    if (log_is_full) {
      log_event(LogEvent::kEntriesRejected,
                "entries rejected: {} and the log has no reserve; this node still votes, and "
                "resumes when there is {}",
                no_descriptors_ ? "no file descriptor is left" : "the disk is full",
                no_descriptors_ ? "one" : "space");
    } else {
      log_event(LogEvent::kEntriesAccepted, "entries accepted again: the log has its reserve");
    }
  }
}

// A leader with a full or stalled disk transfers leadership to a node with a good one; not more
// often than kHandOverInterval, so that useless transfers are not repeated continually.
void Disks::hand_over(const raft::Core& core, Time now, Effects& out) {
  if (core.role() != raft::Role::kLeader || core.is_transferring()) return;
  const DiskWatch::View view = view_of(core);
  const bool because_stalled = watch_.is_stalled() && watch_.others_suffice(view);
  if (because_stalled && stalled_hand_over_ == core.term()) {
    // The entries that the others lack may be on this disk only: then no target can catch up, and
    // the others are better off without this leader.
    log_event(LogEvent::kRaftSteppedDown,
              "log disk stalled and no transfer succeeded: stepping down");
    out.events.push_back(raft::StepDown{});
    out.wake = true;
    return;
  }
  if (now < next_hand_over_) return;
  const bool because_full = !because_stalled && watch_.is_full() && watch_.others_have_space(view);
  if (!because_stalled && !because_full) return;
  log_event(
      LogEvent::kRaftHandover, "handing over leadership: {}",
      because_stalled ? "the log disk stalled" : "the disk is full and another voter has space");
  out.events.push_back(raft::TransferLeadership{});
  out.wake = true;
  next_hand_over_ = now + kHandOverInterval;
  if (because_stalled) stall_asked_ = core.term();
}

// ---- what it decides

// The log already uses its reserve. Entries for elections and membership changes are small and are
// accepted; all others wait at the leader, as if they were lost, until there is space.
bool Disks::take_what_fits(raft::AppendRequest& append, const raft::Core& core, Time now) {
  // Entries after rejected ones leave a gap, and each rejection would make the leader resend its
  // window. A new leader needs one rejection to find where the logs match.
  if (append.prev_index > core.last_index()) {
    if (now < next_gap_answer_) return false;
    next_gap_answer_ = now + core.settings().election_timeout;
    return true;
  }
  auto is_taken = [&](const raft::Entry& entry) {
    const bool is_here =
        entry.index <= core.commit_index() || core.term_at(entry.index) == entry.term;
    return is_here || raft::row_of(entry.kind).passes_full_log;
  };
  auto end = std::ranges::find_if_not(append.entries, is_taken);
  if (end == append.entries.end()) return true;
  append.entries.erase(end, append.entries.end());
  return !append.entries.empty();
}

// Opening a session remains possible: a node needs it to learn the outcome of its numbered writes.
bool Disks::refuses(const wire::ForwardProposals& forward) const {
  return watch_.writes_stopped() &&
         std::ranges::any_of(forward.proposals, [](const raft::Proposal& proposal) {
           return !raft::row_of(proposal.kind).passes_stopped_writes;
         });
}

std::map<NodeId, std::string> Disks::problems(const raft::ConfState& conf) const {
  std::map<NodeId, std::string> problems;
  for (NodeId id : watch_.unfit(conf))
    problems[id] = watch_.is_stalled(id) ? "has stalled" : "is full";
  return problems;
}

}  // namespace connectd::node
