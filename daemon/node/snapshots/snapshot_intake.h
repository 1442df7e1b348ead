// The follower's side of a snapshot that the leader sends: which file comes in, what the worker was
// given of it, and what the leader is answered.
//
// The worker writes, verifies and restores, which takes long; meanwhile the leader is told that it
// is being worked on. A file whose index is here already is answered at once.
//
// Pure: events in, effects out. Owner: the loop thread.
#pragma once

#include <cstddef>

#include "node/effects.h"
#include "node/jobs.h"
#include "storage/snapshot_store.h"
#include "wire/peer_messages.h"

namespace connectd::node {

class SnapshotIntake final {
 public:
  // Offers and chunks that the worker has and has not answered. What exceeds it is dropped; the
  // leader asks again.
  static constexpr size_t kMaxTasks = 64;
  // What this node has.
  struct View {
    Index handed;   // applied, or on its way to the plugin
    Index durable;  // on this node's disk
  };

  // ---- what arrives; of the leader of the present term
  void on_offer(NodeId from, const wire::SnapshotOffer& offer, const View& view, Effects& out);
  void on_chunk(NodeId from, wire::SnapshotChunk chunk, const View& view, Effects& out);

  // ---- the worker's answers, one for each task
  void on(jobs::OfferTaken& taken, Effects& out);
  void on(jobs::ChunkReceived& received, Effects& out);
  // The whole snapshot is durable and restored; it was put in place, or was not needed any more.
  // `view` is of the state after it.
  void on_restored(NodeId from, const wire::SnapshotFile& file, const View& view, Effects& out);

  // Now and then. `partial`: what the store has of a snapshot that is not complete. It is dropped
  // when the log came first.
  void advance(const std::optional<wire::SnapshotFile>& partial, Index handed, Effects& out);

 private:
  bool has_it(NodeId from, const wire::SnapshotFile& file, const View& view, Effects& out) const;
  void forget_if_refused(const wire::SnapshotAck& ack);

  wire::SnapshotFile file_;  // the one that comes in
  size_t tasks_ = 0;         // with the worker
  wire::SnapshotFile dropped_;
};

}  // namespace connectd::node
