#include "node/snapshots/snapshot_intake.h"

#include <utility>

#include "base/log.h"

namespace connectd::node {
namespace {
using State = wire::SnapshotAck::State;

// The leader treats "installed" as "durable". Entries that are applied but not yet on the disk
// could still be lost, so they do not count; the leader retries.
wire::SnapshotAck covered(const wire::SnapshotFile& file, Index durable) {
  const bool is_durable = durable >= file.mark.index;
  return {file, is_durable ? file.bytes : 0, is_durable ? State::kInstalled : State::kWorking};
}
}  // namespace

bool SnapshotIntake::has_it(NodeId from, const wire::SnapshotFile& file, const View& view,
                            Effects& out) const {
  if (file.mark.index > view.handed) return false;
  out.send(from, covered(file, view.durable));
  return true;
}

void SnapshotIntake::on_offer(NodeId from, const wire::SnapshotOffer& offer, const View& view,
                              Effects& out) {
  if (has_it(from, offer.file, view, out)) return;
  if (offer.file == file_ && tasks_ > 0) {
    // The worker is writing, reading the partial file, or restoring, which takes long.
    out.send(from, wire::SnapshotAck{offer.file, 0, State::kWorking});
    return;
  }
  if (tasks_ >= kMaxTasks) return;
  file_ = offer.file;
  ++tasks_;
  out.tasks.push_back(jobs::TakeOffer{from, offer.file});
}

void SnapshotIntake::on_chunk(NodeId from, wire::SnapshotChunk chunk, const View& view,
                              Effects& out) {
  if (has_it(from, chunk.file, view, out)) return;
  if (!(chunk.file == file_)) {
    // The stream began before this node restarted: the leader must offer the file again.
    out.send(from, wire::SnapshotAck{chunk.file, 0, State::kRefused});
    return;
  }
  if (tasks_ >= kMaxTasks) return;
  ++tasks_;
  out.tasks.push_back(jobs::ReceiveChunk{from, std::move(chunk)});
}

void SnapshotIntake::forget_if_refused(const wire::SnapshotAck& ack) {
  if (ack.state == State::kRefused && ack.file == file_) file_ = wire::SnapshotFile();
}

void SnapshotIntake::on(jobs::OfferTaken& taken, Effects& out) {
  CHECK_GT(tasks_, 0u);
  --tasks_;
  forget_if_refused(taken.ack);
  out.send(taken.from, taken.ack);
}

void SnapshotIntake::on(jobs::ChunkReceived& received, Effects& out) {
  CHECK_GT(tasks_, 0u);
  --tasks_;
  if (!received.ack) return;
  forget_if_refused(*received.ack);
  out.send(received.from, *received.ack);
}

void SnapshotIntake::on_restored(NodeId from, const wire::SnapshotFile& file, const View& view,
                                 Effects& out) {
  CHECK_GT(tasks_, 0u);
  --tasks_;
  wire::SnapshotAck ack{file, file.bytes, State::kInstalled};
  // Overtaken by appends that are not on the disk yet: the leader retries.
  if (view.durable < file.mark.index) ack.state = State::kWorking;
  out.send(from, ack);
}

void SnapshotIntake::advance(const std::optional<wire::SnapshotFile>& partial, Index handed,
                             Effects& out) {
  if (!partial || partial->mark.index > handed || tasks_ > 0 || *partial == dropped_) return;
  dropped_ = *partial;
  out.tasks.push_back(jobs::DropPartial{handed});
}

}  // namespace connectd::node
