// Snapshots: when one is taken, what came of it; those that peers send.
// Loop thread, like all of Node: what is owned here is in node.h.

#include <algorithm>
#include <utility>

#include "base/log.h"
#include "base/overloaded.h"
#include "node/node.h"

namespace connectd::node {
namespace {

// Offers and chunks of a snapshot that the worker has and has not answered.
constexpr size_t kMaxIncomingTasks = 64;
// A snapshot that failed is tried again after this long, then twice as long, up to the last.
constexpr Duration kSnapshotRetry = std::chrono::seconds(1);
constexpr Duration kSnapshotRetryMax = std::chrono::minutes(1);
// So many failures in a row of the way of capturing (no fork, no progress, too much memory), and
// the next snapshot is written on the apply thread.
constexpr int kCaptureAttempts = 2;
// One that takes longer than this is spoken of, again and again.
constexpr Duration kSnapshotNotice = std::chrono::minutes(1);

}  // namespace

bool Node::wants_snapshot() const {
  if (taking_snapshot_) return false;
  if (snapshot_wanted_) return true;
  if (now_.time < next_snapshot_) return false;
  double wanted = std::max(static_cast<double>(options_.snapshot.log_min_bytes),
                           options_.snapshot.log_ratio * static_cast<double>(snapshot_bytes_));
  return static_cast<double>(log_bytes_) > wanted * snapshot_spread_;
}

Index Node::begin_snapshot() {
  if (taking_snapshot_) {
    snapshot_asked_ = applied_;
  } else if (applied_ > snapshot_.index) {
    start_snapshot();
    host_.wake();
  }
  return applied_;
}

// The newest snapshot cannot be read, and the state is here: a new one takes its place.
void Node::replace_snapshot() {
  if (!taking_snapshot_) start_snapshot();
}

void Node::start_snapshot() {
  taking_snapshot_ = true;
  snapshot_wanted_ = false;
  snapshot_since_ = now_.time;
  next_snapshot_notice_ = now_.time + kSnapshotNotice;
  snapshot_log_bytes_ = std::exchange(log_bytes_, 0);
  bool falls_back = options_.snapshot.falls_back && capture_attempts_ >= kCaptureAttempts;
  if (falls_back) {
    LOG_WARNING("snapshot",
                "the state could not be captured {} times: this snapshot is written on the apply "
                "thread, and nothing is applied or read here until it is done",
                capture_attempts_);
  }
  applier_->take_snapshot(falls_back ? Applier::How::kInline : Applier::How::kCapture);
}

// A view that hangs cannot be ended, as a forked child can; the operator should know.
void Node::watch_snapshot() {
  if (now_.time < next_snapshot_notice_) return;
  next_snapshot_notice_ = now_.time + kSnapshotNotice;
  LOG_WARNING("snapshot",
              "a snapshot has been under way for {} s; no other is taken before it ends, and the "
              "log behind it stays. The plugin may hang in it, or its disk be slow",
              (now_.time - snapshot_since_) / std::chrono::seconds(1));
}

void Node::on_captured(Snapshotter::Task task) {
  // A snapshot from the leader may have come while this one waited.
  auto* write = std::get_if<Snapshotter::Write>(&task);
  bool overtaken = write != nullptr && write->mark.index < snapshot_.index;
  if (const auto* hash = std::get_if<Snapshotter::Hash>(&task)) {
    divergence_->state_hashing(hash->index);
  }
  snapshotter_->submit(std::move(task));
  if (overtaken) snapshotter_->cancel();
}

void Node::take_snapshotter_results() {
  if (!snapshotter_->take_results(snapshotter_items_)) return;
  for (Snapshotter::Item& item : snapshotter_items_) {
    std::visit(Overloaded{
                   [&](Snapshotter::Written& written) {
                     snapshot_taken(written.mark, written.file_bytes, written.capture->cost());
                     applier_->release(std::move(written.capture));
                   },
                   [&](Snapshotter::NotWritten& not_written) {
                     snapshot_failed(not_written.failed);
                     applier_->release(std::move(not_written.capture));
                   },
                   [&](Snapshotter::Hashed& hashed) {
                     if (!hashed.hash) {
                       LOG_WARNING("divergence", "the state at index {} is not compared: {}",
                                   hashed.index, hashed.failure);
                     }
                     divergence_->state_hash_done(hashed.index, hashed.hash);
                     last_compare_ = now_.time;
                     applier_->release(std::move(hashed.capture));
                   },
               },
               item);
  }
  snapshotter_items_.clear();
}

void Node::snapshot_taken(raft::SnapshotMark mark, uint64_t file_bytes, const std::string& cost) {
  taking_snapshot_ = false;
  snapshot_failure_.clear();
  snapshot_attempts_ = capture_attempts_ = 0;
  if (mark.index > snapshot_.index) {
    older_snapshot_ = std::exchange(snapshot_, mark);
  } else if (mark.index < snapshot_.index && mark.index > older_snapshot_.index) {
    // One from the leader was installed while this one was written.
    older_snapshot_ = mark;
  }
  snapshot_bytes_ = file_bytes;
  LOG_INFO("snapshot", "took index={} bytes={} ms={}{}{}", mark.index, file_bytes,
           (now_.time - snapshot_since_) / std::chrono::milliseconds(1), cost.empty() ? "" : ": ",
           cost);
  step(raft::SnapshotTaken{mark});
  compact();
  if (snapshot_asked_ > snapshot_.index) start_snapshot();
  snapshot_asked_ = Index();
}

void Node::snapshot_failed(const SnapshotFailed& failed) {
  using Why = SnapshotFailed::Why;
  taking_snapshot_ = false;
  log_bytes_ += snapshot_log_bytes_;
  snapshot_wanted_ = failed.why == Why::kBusy;
  if (failed.why == Why::kBusy || failed.why == Why::kOvertaken) return;
  ++snapshots_failed_;
  snapshot_failure_ = failed.text;
  snapshot_asked_ = Index();
  Duration wait =
      std::min(kSnapshotRetryMax, kSnapshotRetry * (1 << std::min(snapshot_attempts_, 6)));
  ++snapshot_attempts_;
  if (failed.why == Why::kMeans) ++capture_attempts_;
  next_snapshot_ = now_.time + wait;
  LOG_WARNING("snapshot",
              "none was taken at index {}: {}. It is tried again in {} s{}; until then the log "
              "stays as it is ({} failed in a row)",
              failed.mark.index, failed.text, wait / std::chrono::seconds(1),
              options_.snapshot.falls_back && capture_attempts_ >= kCaptureAttempts
                  ? ", on the apply thread"
                  : "",
              snapshot_attempts_);
}

// ---- snapshots between nodes

void Node::set_snapshot_rate(uint64_t bytes_per_second) {
  sender_->set_rate(bytes_per_second, now_.time);
  host_.wake();
}

void Node::follow_snapshots() {
  sender_->advance(now_.time);
  if (sender_->holds_log()) {
    const double due = options_.snapshot.log_ratio * static_cast<double>(snapshot_bytes_);
    const auto held_max =
        std::max(options_.snapshot.held_log_bytes, static_cast<uint64_t>(2 * due));
    if (sender_->release({core_->peers(), snapshot_.index, held_max, disks_->is_full(),
                          [this](Index index) { return log_->bytes_from(index); }},
                         now_.time)) {
      compact();
    }
  }
  // What came of a snapshot before the log did, or another one.
  auto part = snapshots_->partial();
  if (part && part->mark.index <= handed_ && incoming_tasks_ == 0 && !(*part == dropped_)) {
    dropped_ = *part;
    worker_->submit(Worker::DropPartial{handed_});
  }
}

// What every offer and chunk is asked first; false: it was answered.
bool Node::takes_snapshot(NodeId from, Term leader_term, const wire::SnapshotFile& file) {
  if (leader_term < core_->term()) return false;  // of a former leader
  if (leader_term > core_->term()) {
    // The first that is heard of a new term, by one that may still lead the old one. A chunk says
    // what a heartbeat says (paper, figure 13): whose term it is.
    step(raft::Received{
        raft::Envelope{from, options_.id, leader_term, raft::Heartbeat{Index(), 0}}});
  }
  if (file.mark.index > handed_) return true;
  // Everything it covers is here already. But the leader takes "installed" for "durable"; what is
  // applied and not yet on the disk could be lost, and must not be vouched for: it asks again.
  bool durable = core_->durable_index() >= file.mark.index;
  host_.transport->send(from, wire::SnapshotAck{file, durable ? file.bytes : 0,
                                                durable ? wire::SnapshotAck::State::kInstalled
                                                        : wire::SnapshotAck::State::kWorking});
  return false;
}

void Node::on_snapshot_offer(NodeId from, const wire::SnapshotOffer& offer) {
  if (!takes_snapshot(from, offer.leader_term, offer.file)) return;
  if (offer.file == incoming_ && incoming_tasks_ > 0) {
    // The worker is at it: it writes, or reads what is there, or restores, which takes long.
    host_.transport->send(from,
                          wire::SnapshotAck{offer.file, 0, wire::SnapshotAck::State::kWorking});
    return;
  }
  if (incoming_tasks_ >= kMaxIncomingTasks) return;
  incoming_ = offer.file;
  ++incoming_tasks_;
  worker_->submit(Worker::TakeOffer{from, offer.file});
}

void Node::on_snapshot_chunk(NodeId from, wire::SnapshotChunk chunk) {
  if (!takes_snapshot(from, chunk.leader_term, chunk.file)) return;
  if (!(chunk.file == incoming_)) {
    // Of a stream that a former life of this node began: it is to be offered anew.
    host_.transport->send(from,
                          wire::SnapshotAck{chunk.file, 0, wire::SnapshotAck::State::kRefused});
    return;
  }
  if (incoming_tasks_ >= kMaxIncomingTasks) return;
  ++incoming_tasks_;
  worker_->submit(Worker::ReceiveChunk{from, std::move(chunk)});
}

// It is durable, and of this cluster.
void Node::install(Worker::Restored& restored) {
  const raft::SnapshotMark mark = restored.file.mark;
  // The core's present effects come first: they speak of the old log.
  if (mark.index > handed_) do_ready();
  if (mark.index > handed_) {
    ++snapshots_installed_;
    LOG_INFO("snapshot", "installed index={} from node {}", mark.index, restored.from);
    if (core_->term_at(mark.index) != mark.term) {
      raft::HardState hard_state = core_->hard_state();
      hard_state.commit = std::max(hard_state.commit, mark.index);
      writer_->reset(mark, hard_state);
    }
    raft::SnapshotInstalled installed{
        mark, restored.state.state.conf, restored.state.state.stamp_ns,
        Slice::copy_of(restored.state.state.members.encode()), restored.state.state.settings};
    handed_ = mark.index;
    older_snapshot_ = snapshot_;
    snapshot_ = mark;
    snapshot_bytes_ = restored.file.bytes;
    // One that is being written is older.
    if (taking_snapshot_) snapshotter_->cancel();
    applier_->replace(std::move(restored.state));
    step(std::move(installed));
  }
  wire::SnapshotAck ack{restored.file, restored.file.bytes, wire::SnapshotAck::State::kInstalled};
  // Overtaken by appends that are not on the disk yet: it is asked for again.
  if (core_->durable_index() < mark.index) ack.state = wire::SnapshotAck::State::kWorking;
  host_.transport->send(restored.from, ack);
}

}  // namespace connectd::node
