// The snapshots of one node: taken (SnapshotSchedule), received (SnapshotIntake) and sent
// (SnapshotSender). Also decides which two are kept, and how far the log may be compacted.
//
// It does not capture (the apply thread, plugin/capture.h), write (Snapshotter), read or restore
// (Worker), nor install a restored state, which Node does between two turns.
//
// Pure: events in, effects out. Owner: the loop thread.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "node/snapshots/snapshot_intake.h"
#include "node/snapshots/snapshot_schedule.h"
#include "node/snapshots/snapshot_sender.h"

namespace connectd::node {

// Why no leader of `leader_term` can have sent a file with this mark; empty: one can.
std::string fault_of(const raft::SnapshotMark& mark, NodeId from, Term leader_term,
                     const raft::Core& core);

class Snapshots final {
 public:
  // The contents of the store at the start; no index: none.
  struct Start {
    raft::SnapshotMark newest;
    raft::SnapshotMark older;
    uint64_t newest_bytes = 0;
  };
  // The current state of the node.
  struct View {
    Time now;
    Term term;
    bool leads = false;
    Index handed;       // handed to the plugin, or in the state
    Index durable;      // of the log
    Index first_index;  // of the log
  };

  Snapshots(const SnapshotPolicy& policy, double spread, size_t chunk_bytes, const Start& start)
      : policy_(policy),
        schedule_(policy, spread, start.newest_bytes),
        sender_(chunk_bytes),
        newest_(start.newest),
        older_(start.older) {}

  // ---- of this node
  // An operator requests a snapshot: it starts now, or after the one in progress. `applied`: the
  // last index in the state.
  void ask(Index applied, const View& view, Effects& out);
  // Entries were handed to the apply thread.
  void handed(const std::vector<raft::Entry>& entries) {
    uint64_t bytes = 0;
    for (const raft::Entry& entry : entries) bytes += entry.weight();
    schedule_.handed(bytes);
  }
  // False: a snapshot from the leader is newer than this captured one.
  bool is_current(const raft::SnapshotMark& mark) const { return mark.index >= newest_.index; }
  // The snapshot is durable. `cost`: the cost of the capture, for the log; may be empty.
  void taken(const raft::SnapshotMark& mark, uint64_t file_bytes, const std::string& cost,
             const View& view, Effects& out);
  void failed(const SnapshotFailed& failed, Time now) { schedule_.failed(failed, now); }
  // The same for snapshots that the snapshotter wrote.
  void on(jobs::Written& written, const View& view, Effects& out);
  void on(jobs::NotWritten& not_written, const View& view, Effects& out);

  // ---- from the leader
  void on_offer(NodeId from, const wire::SnapshotOffer& offer, const View& view, Effects& out) {
    intake_.on_offer(from, offer, {view.handed, view.durable}, out);
  }
  void on_chunk(NodeId from, wire::SnapshotChunk chunk, const View& view, Effects& out) {
    intake_.on_chunk(from, std::move(chunk), {view.handed, view.durable}, out);
  }
  void on(jobs::OfferTaken& taken, const View&, Effects& out) { intake_.on(taken, out); }
  void on(jobs::ChunkReceived& received, const View&, Effects& out) { intake_.on(received, out); }
  // A restored snapshot replaces the state.
  void installed(const wire::SnapshotFile& file, Effects& out);
  // It was installed, or was not needed; `view` is the state afterwards.
  void on_restored(NodeId from, const wire::SnapshotFile& file, const View& view, Effects& out) {
    intake_.on_restored(from, file, {view.handed, view.durable}, out);
  }

  // ---- to followers
  void begin_sending(const raft::SnapshotNeed& need, const View& view, Effects& out);
  void on_ack(NodeId from, const wire::SnapshotAck& ack, Time now, Effects& out) {
    sender_.on_ack(from, ack, now, out);
  }
  void on(jobs::SourceOpened& opened, const View& view, Effects& out);
  void on(jobs::ChunkRead& chunk, const View& view, Effects& out) {
    sender_.chunk_read(chunk, view.now, out);
  }
  void peer_lost(NodeId peer, Time now, Effects& out) { sender_.peer_lost(peer, now, out); }
  // Bytes a second to all followers together; 0: no limit. Also for streams in progress.
  void set_rate(uint64_t bytes_per_second, Time now) { sender_.set_rate(bytes_per_second, now); }

  // ---- the turn
  // Each turn, before the worker's results.
  void follow_role(const View& view, Effects& out);
  // Periodically: begins a due snapshot, resumes streams, drops what is no longer needed.
  struct Disk {
    std::optional<wire::SnapshotFile> partial;  // of an incomplete snapshot
    bool is_full = false;
    std::vector<raft::PeerStatus> peers;  // only if a leader keeps log for followers
    std::function<uint64_t(Index)> log_bytes_from;
  };
  void advance(const Disk& disk, const View& view, Effects& out);
  Time next_deadline() const { return sender_.next_deadline(); }
  bool holds_log() const { return sender_.holds_log(); }

  // ---- state
  const raft::SnapshotMark& newest() const { return newest_; }  // durable; no index: none
  bool is_taking() const { return schedule_.is_wanted(); }
  uint64_t failures() const { return schedule_.failures(); }
  const std::string& last_failure() const { return schedule_.last_failure(); }
  uint64_t installed_count() const { return installed_count_; }
  const SnapshotSender& sender() const { return sender_; }

 private:
  void begin(Time now, Effects& out) { out.take_snapshot = schedule_.begin(now); }
  void compact(const View& view, Effects& out) const;

  const SnapshotPolicy policy_;
  SnapshotSchedule schedule_;
  SnapshotIntake intake_;
  SnapshotSender sender_;
  raft::SnapshotMark newest_;
  raft::SnapshotMark older_;
  uint64_t installed_count_ = 0;  // from leaders
};

}  // namespace connectd::node
