// Snapshots of one node: those it takes (SnapshotSchedule), those it is sent (SnapshotIntake),
// those it sends (SnapshotSender), which two are kept, and how far the log may be compacted after
// them.
//
// What it does not do: capture (the apply thread, plugin/capture.h), write (Snapshotter), read and
// restore (Worker), and put a restored state in place, which Node does between two turns.
//
// Pure: events in, effects out. Owner: the loop thread.
#pragma once

#include <cstdint>
#include <string>

#include "node/snapshots/snapshot_intake.h"
#include "node/snapshots/snapshot_schedule.h"
#include "node/snapshots/snapshot_sender.h"

namespace connectd::node {

class Snapshots final {
 public:
  // What the store holds at the start; no index: nothing.
  struct Start {
    raft::SnapshotMark newest;
    raft::SnapshotMark older;
    uint64_t newest_bytes = 0;
  };
  // Of the node, at the moment.
  struct View {
    Time now;
    Term term;
    bool leads = false;
    Index handed;       // went to the plugin, or is in the state
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
  // An operator asks: at once, or behind the one in progress. `applied`: what is in the state.
  void ask(Index applied, const View& view, Effects& out);
  // Entries of this weight went to the apply thread.
  void handed(uint64_t bytes) { schedule_.handed(bytes); }
  // The state was captured for `mark`: false when one from the leader has overtaken it meanwhile.
  bool is_current(const raft::SnapshotMark& mark) const { return mark.index >= newest_.index; }
  // It is durable. `cost`: what the capture cost, for the log; may be empty.
  void taken(const raft::SnapshotMark& mark, uint64_t file_bytes, const std::string& cost,
             const View& view, Effects& out);
  void failed(const SnapshotFailed& failed, Time now) { schedule_.failed(failed, now); }
  // The same, of one that the snapshotter wrote.
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
  // A restored snapshot takes the state's place.
  void installed(const wire::SnapshotFile& file, Effects& out);
  // It was put in place, or was not needed; `view` is of the state after it.
  void on_restored(NodeId from, const wire::SnapshotFile& file, const View& view, Effects& out) {
    intake_.on_restored(from, file, {view.handed, view.durable}, out);
  }

  // ---- to followers
  void begin_sending(NodeId peer, const View& view, Effects& out) {
    sender_.begin(peer, view.term, view.first_index, view.now, out);
  }
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
  // Now and then: takes the one that is due, resumes streams, lets go of what nobody needs.
  struct Disk {
    std::optional<wire::SnapshotFile> partial;  // of a snapshot that came in part
    bool is_full = false;
    std::vector<raft::PeerStatus> peers;  // of a leader that holds log for followers
    std::function<uint64_t(Index)> log_bytes_from;
  };
  void advance(const Disk& disk, const View& view, Effects& out);
  Time next_deadline() const { return sender_.next_deadline(); }
  bool holds_log() const { return sender_.holds_log(); }

  // ---- what it knows
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
