#include "node/snapshots/snapshots.h"

#include <algorithm>
#include <utility>

#include "base/log_event.h"

namespace connectd::node {

std::string fault_of(const raft::SnapshotMark& mark, NodeId from, Term leader_term,
                     const raft::Core& core) {
  const NodeId leader = core.leader();
  if (leader_term == core.term() && leader && leader != from) return "two leaders in one term";
  if (!mark.term || mark.term > leader_term) return "a snapshot of a term that is yet to come";
  const Term here = core.term_at(mark.index);
  if (mark.index <= core.commit_index() && here && here != mark.term) {
    return "a snapshot that contradicts the committed log";
  }
  return {};
}

void Snapshots::ask(Index applied, const View& view, Effects& out) {
  if (schedule_.in_progress()) {
    schedule_.ask(applied);
  } else if (applied > newest_.index) {
    begin(view.now, out);
    out.wake = true;
  }
}

void Snapshots::taken(const raft::SnapshotMark& mark, uint64_t file_bytes, const std::string& cost,
                      const View& view, Effects& out) {
  log_event(LogEvent::kSnapshotTaken, "took index={} bytes={} ms={}{}{}", mark.index, file_bytes,
            schedule_.since_begin(view.now) / std::chrono::milliseconds(1),
            cost.empty() ? "" : ": ", cost);
  schedule_.taken(file_bytes);
  if (mark.index > newest_.index) {
    older_ = std::exchange(newest_, mark);
  } else if (mark.index < newest_.index && mark.index > older_.index) {
    // A snapshot from the leader was installed while this one was written.
    older_ = mark;
  }
  out.events.push_back(raft::SnapshotTaken{mark});
  compact(view, out);
  if (schedule_.take_asked(newest_.index)) begin(view.now, out);
}

void Snapshots::on(jobs::Written& written, const View& view, Effects& out) {
  taken(written.mark, written.file_bytes, written.capture->cost(), view, out);
  out.releases.push_back(std::move(written.capture));
}

void Snapshots::on(jobs::NotWritten& not_written, const View& view, Effects& out) {
  failed(not_written.failed, view.now);
  out.releases.push_back(std::move(not_written.capture));
}

void Snapshots::installed(const wire::SnapshotFile& file, Effects& out) {
  ++installed_count_;
  older_ = std::exchange(newest_, file.mark);
  schedule_.installed(file.bytes);
  // A snapshot that is being written is older.
  if (schedule_.in_progress()) out.cancel_snapshot = true;
}

void Snapshots::on(jobs::SourceOpened& opened, const View& view, Effects& out) {
  // The newest snapshot is unreadable, but the state is intact: take a new one.
  if (opened.newest_is_damaged && !schedule_.in_progress()) begin(view.now, out);
  sender_.source_opened(opened, view.now, out);
}

void Snapshots::begin_sending(const raft::SnapshotNeed& need, const View& view, Effects& out) {
  if (newest_.index < need.least) {
    // Of an entry that only a snapshot can carry (raft/replication.cc). The peer asks again.
    if (!schedule_.in_progress()) schedule_.need();
    out.events.push_back(raft::SnapshotSent{need.peer, false, {}});
    return;
  }
  sender_.begin(need.peer, view.term, std::max(view.first_index, need.least + 1), view.now, out);
}

void Snapshots::follow_role(const View& view, Effects& out) {
  sender_.lead(view.leads, view.term, view.now);
  if (view.now >= sender_.next_deadline()) sender_.advance(view.now, out);
}

void Snapshots::advance(const Disk& disk, const View& view, Effects& out) {
  if (schedule_.is_due(view.now)) begin(view.now, out);
  schedule_.watch(view.now);
  sender_.advance(view.now, out);
  if (sender_.holds_log()) {
    const uint64_t held_max = std::max(policy_.held_log_bytes, 2 * schedule_.due_bytes());
    if (sender_.release({disk.peers, newest_.index, held_max, disk.is_full, disk.log_bytes_from},
                        view.now)) {
      compact(view, out);
    }
  }
  intake_.advance(disk.partial, view.handed, out);
}

void Snapshots::compact(const View& view, Effects& out) const {
  if (!older_.index) return;
  // Applied entries may not be durable here yet: never compact beyond the durable index,
  Index up_to = std::min(older_.index, view.durable) + 1;
  // nor beyond the log that a follower needs after its snapshot.
  up_to = std::min(up_to, sender_.keep_from().value_or(up_to));
  const uint64_t trailing = std::min(policy_.trailing_entries, older_.index.value());
  const Index keep_from = std::min(older_.index + 1 - trailing, up_to);
  if (up_to <= view.first_index) return;
  out.tasks.push_back(jobs::Compact{keep_from, up_to, policy_.trailing_bytes});
}

}  // namespace connectd::node
