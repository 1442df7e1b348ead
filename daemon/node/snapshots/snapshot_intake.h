// The follower's side of a snapshot transfer: tracks the file being received, passes its chunks to
// the worker, and answers the leader.
//
// The worker writes, verifies and restores the file, which takes long; until it is done, the leader
// gets the answer "working". A file whose index this node already has is answered at once.
//
// Pure: events in, effects out. Owner: the loop thread.
#pragma once

#include <cstddef>

#include "node/effects.h"
#include "storage/snapshot_store.h"
#include "wire/peer_messages.h"

namespace connectd::node {

class SnapshotIntake final {
 public:
  // Offers and chunks that the worker may hold unanswered. Further ones are dropped, and the leader
  // retries.
  static constexpr size_t kMaxTasks = 64;
  // The state of this node.
  struct View {
    Index handed;   // applied, or queued for the plugin
    Index durable;  // on this node's disk
  };

  // ---- messages from the leader of the current term
  void on_offer(NodeId from, const wire::SnapshotOffer& offer, const View& view, Effects& out);
  void on_chunk(NodeId from, wire::SnapshotChunk chunk, const View& view, Effects& out);

  // ---- the worker's answers, one for each task
  void on(jobs::OfferTaken& taken, Effects& out);
  void on(jobs::ChunkReceived& received, Effects& out);
  // The whole snapshot is durable and restored; it was installed, or was no longer needed. `view`
  // is the state afterwards.
  void on_restored(NodeId from, const wire::SnapshotFile& file, const View& view, Effects& out);

  // Periodically. `partial`: an incomplete snapshot in the store. It is dropped when the log has
  // already brought this node past it.
  void advance(const std::optional<wire::SnapshotFile>& partial, Index handed, Effects& out);

 private:
  bool has_it(NodeId from, const wire::SnapshotFile& file, const View& view, Effects& out) const;
  void forget_if_refused(const wire::SnapshotAck& ack);

  wire::SnapshotFile file_;  // being received
  size_t tasks_ = 0;         // held by the worker
  wire::SnapshotFile dropped_;
};

}  // namespace connectd::node
