// What the threads at the disk are given to do, and what they hand back. Plain values: the worker's
// (node/disk/worker.h) and the snapshotter's (node/snapshots/snapshotter.h).
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "base/bytes.h"
#include "base/types.h"
#include "plugin/capture.h"
#include "raft/core.h"
#include "storage/snapshot_store.h"
#include "wire/peer_messages.h"

namespace connectd::node {

enum class SnapshotHow : uint8_t {
  kCapture,  // captured between two entries, written by the snapshotter
  kInline,   // written on the apply thread; nothing is applied or read meanwhile
};

struct SnapshotFailed {
  enum class Why : uint8_t {
    kBusy,       // the state is being captured for something else
    kOvertaken,  // cancelled: a newer one came from the leader, or the node stops
    kNoSpace,
    kPlugin,  // the plugin failed, or crashed
    kMeans,   // it could not be captured in this way
  };
  raft::SnapshotMark mark;
  Why why = Why::kBusy;
  std::string text;
};
SnapshotFailed failed_snapshot(raft::SnapshotMark mark, const plugin::CaptureFailure& failure);

namespace jobs {

// ---- for the worker
struct Load {
  raft::LoadRequest request;
};
// The log from `keep_from` on stays, or from a later index, at most `up_to`, as far as the entries
// before `up_to` have more than `trailing_bytes`.
struct Compact {
  Index keep_from;
  Index up_to = keep_from;
  uint64_t trailing_bytes = 0;
};
struct PrepareSegment {};
struct CheckSpace {};  // how much may still be written to the data directory
struct OpenSource {    // the newest snapshot, for a stream to `peer`
  NodeId peer;
};
struct ReadChunk {
  NodeId peer;
  std::shared_ptr<storage::SnapshotSource> source;
  uint64_t offset = 0;
  size_t length = 0;
};
struct TakeOffer {
  NodeId from;
  wire::SnapshotFile file;
};
struct ReceiveChunk {
  NodeId from;
  wire::SnapshotChunk chunk;
};
struct DropPartial {  // what came of a snapshot that is not needed any more
  Index covered;      // ... because everything up to here is on this node
};
struct Retire {  // a state whose place another one took
  std::shared_ptr<plugin::Instance> instance;
};
using WorkerTask = std::variant<Load, Compact, PrepareSegment, CheckSpace, OpenSource, ReadChunk,
                                TakeOffer, ReceiveChunk, DropPartial, Retire>;

// ---- from the worker
struct Compacted {
  Index first_index;
};
struct SegmentPrepared {
  bool ok = true;
  bool no_descriptors = false;  // that is why not
};
struct SpaceChecked {
  uint64_t free_bytes = 0;
};
struct SourceOpened {
  NodeId peer;
  std::shared_ptr<storage::SnapshotSource> source;  // null: there is none
  bool newest_is_damaged = false;
};
struct ChunkRead {
  NodeId peer;
  std::shared_ptr<storage::SnapshotSource> source;
  uint64_t offset = 0;
  Slice bytes;  // empty: it could not be read
};
struct OfferTaken {  // or refused; or, when all of it is here already, Worker::Restored follows
  NodeId from;
  wire::SnapshotAck ack;
};
struct ChunkReceived {
  NodeId from;
  std::optional<wire::SnapshotAck> ack;  // none: there is nothing to say
};

// ---- for the snapshotter: what was captured of the state behind an entry
struct WriteSnapshot {
  raft::SnapshotMark mark;
  std::string metadata;
  std::unique_ptr<plugin::Capture> capture;
};
struct HashState {
  Index index;
  std::unique_ptr<plugin::Capture> capture;
};
using SnapshotterTask = std::variant<WriteSnapshot, HashState>;

// ---- from the loop, for the threads; carried out in the order of the fields
struct Orders {
  std::vector<WorkerTask> tasks;
  // Finished captures, to be released on the apply thread. First: one capture at a time.
  std::vector<std::unique_ptr<plugin::Capture>> releases;
  // Capture the state, or write it on the apply thread.
  std::optional<SnapshotHow> take_snapshot;
  // Cancel the snapshot in progress.
  bool cancel_snapshot = false;
};

// ---- from the snapshotter; each gives the capture back, to be released on the apply thread
struct Written {
  raft::SnapshotMark mark;
  uint64_t file_bytes = 0;
  std::unique_ptr<plugin::Capture> capture;
};
struct NotWritten {
  SnapshotFailed failed;
  std::unique_ptr<plugin::Capture> capture;
};
struct Hashed {
  Index index;
  std::optional<uint64_t> hash;  // none: it failed, and the log says why
  std::unique_ptr<plugin::Capture> capture;
};

}  // namespace jobs
}  // namespace connectd::node
