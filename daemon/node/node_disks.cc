// Full and stalled disks (node/disk/disk_watch.h).
// Loop thread, like all of Node: what is owned here is in node.h.

#include <algorithm>
#include <utility>

#include "base/log.h"
#include "node/node.h"

namespace connectd::node {
namespace {

constexpr Duration kHandOverInterval = std::chrono::seconds(2);
constexpr const char* kNoQuorumHasSpace =
    "no quorum of the nodes has storage.min_free_disk of free space: the cluster takes no writes "
    "until there is, reads go on; whose disk is full: connectctl status";
constexpr const char* kLogIsFull =
    "this node's disk is full and its log has no room: it cannot follow the cluster until there is "
    "space; ask another node";

}  // namespace

DiskWatch::View Node::disk_view() const {
  DiskWatch::View view{core_->role() == raft::Role::kLeader, core_->leader(), core_->term(),
                       &core_->conf()};
  for (const raft::PeerStatus& peer : core_->peers()) {
    if (peer.is_near) view.near.insert(peer.id);
  }
  return view;
}

void Node::judge_disks() {
  const bool log_full = log_is_full();
  disks_->log_has_room(!log_full);
  disks_->advance(disk_view(), now_.time, reports_);
  for (auto& [to, message] : reports_) host_.transport->send(to, std::move(message));
  reports_.clear();
  std::vector<NodeId> unfit = disks_->unfit(core_->conf());
  if (unfit != unfit_) {
    unfit_ = std::move(unfit);
    step(raft::Unfit{unfit_});
  }
  if (std::exchange(disk_was_stalled_, disks_->is_stalled()) != disks_->is_stalled()) {
    step(raft::Candidacy{!disks_->is_stalled()});
    if (disks_->is_stalled()) {
      LOG_WARNING("storage",
                  "the log's disk has completed nothing for {} ms: this node neither votes nor "
                  "acknowledges until it does, and does not lead",
                  disks_->stalled_for(now_.time) / std::chrono::milliseconds(1));
    } else {
      LOG_INFO("storage", "the log's disk works again");
    }
  }
  const bool stopped = disks_->writes_stopped();
  if (std::exchange(writes_were_stopped_, stopped) != stopped) {
    if (stopped) {
      LOG_WARNING("storage",
                  "no quorum of the nodes has storage.min_free_disk of free space: the cluster "
                  "takes no writes until there is (DISKFULL); reads go on");
    } else {
      LOG_INFO("storage", "the cluster takes writes again");
    }
  }
  if (std::exchange(log_was_full_, log_full) != log_full) {
    if (log_full) {
      LOG_WARNING("storage",
                  "the disk is full and the log has no reserve: this node takes no entries until "
                  "there is space; it votes, and goes on by itself");
    } else {
      LOG_INFO("storage", "the log has its reserve: this node takes entries again");
    }
  }
  holder_->set_disk_full(log_full ? kLogIsFull : stopped ? kNoQuorumHasSpace : "");
}

// A leader hands over what its disk is no good for, to one whose disk is; no more than once in a
// while, so that what helps nobody is not done again and again.
void Node::watch_disk() {
  disks_->progressed(!held_messages_.empty(), durable_batch_, core_->settings().election_timeout,
                     now_.time);
  judge_disks();
  if (core_->role() != raft::Role::kLeader || core_->is_transferring() || stopping_) return;
  const DiskWatch::View view = disk_view();
  const bool because_stalled = disks_->is_stalled() && disks_->others_suffice(view);
  if (because_stalled && stalled_hand_over_ == core_->term()) {
    // What the others lack may be on this very disk only, and then nobody can be brought far enough
    // to take over; they do better without.
    LOG_WARNING("raft", "the log's disk has stalled, and nobody took over: stepping down");
    step(raft::StepDown{});
    host_.wake();
    return;
  }
  if (now_.time < next_hand_over_) return;
  const bool because_full =
      !because_stalled && disks_->is_full() && disks_->others_have_space(view);
  if (!because_stalled && !because_full) return;
  LOG_WARNING("raft", "handing over leadership: {}",
              because_stalled ? "the log's disk has stalled"
                              : "the disk is full, and another voter has space");
  step(raft::TransferLeadership{});
  if (because_stalled && core_->is_transferring()) stalled_hand_over_ = core_->term();
  next_hand_over_ = now_.time + kHandOverInterval;
  host_.wake();
}

// The log's reserve is used up. What keeps elections and changes of members going is small and is
// taken; all else waits at the leader, as if it were lost, until there is space. False: nothing of
// it is taken, and it is not answered either, lest the leader send the next at once.
bool Node::take_what_fits(raft::AppendRequest& append) {
  // What follows entries that were not taken does not fit; each refusal would make the leader send
  // its window again. A new leader needs one to find where the logs match.
  if (append.prev_index > core_->last_index()) {
    if (now_.time < next_gap_answer_) return false;
    next_gap_answer_ = now_.time + core_->settings().election_timeout;
    return true;
  }
  auto is_taken = [&](const raft::Entry& entry) {
    const bool is_here =
        entry.index <= core_->commit_index() || core_->term_at(entry.index) == entry.term;
    return is_here || raft::row_of(entry.kind).passes_full_log;
  };
  auto end = std::ranges::find_if_not(append.entries, is_taken);
  if (end == append.entries.end()) return true;
  append.entries.erase(end, append.entries.end());
  return !append.entries.empty();
}

// Opening a session stays possible: that is how a node learns what became of what it had numbered.
bool Node::refuses(const wire::ForwardProposals& forward) const {
  return disks_->writes_stopped() &&
         std::ranges::any_of(forward.proposals, [](const raft::Proposal& proposal) {
           return !raft::row_of(proposal.kind).passes_stopped_writes;
         });
}

}  // namespace connectd::node
