// Everything that reads or writes a disk and is not the tail of the log: cold log reads,
// compaction, filling the next segment, sending and receiving snapshots. One thread, tasks in
// order.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "base/supervisor.h"
#include "base/work_channel.h"
#include "node/apply/restored_state.h"
#include "plugin/plugin.h"
#include "raft/core.h"
#include "storage/file_system.h"
#include "storage/log.h"
#include "storage/snapshot_store.h"
#include "wire/peer_messages.h"

namespace connectd::node {

class Worker final {
 public:
  // ---- tasks
  struct Load {
    raft::LoadRequest request;
  };
  struct Compact {
    Index keep_from;
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
  using Task = std::variant<Load, Compact, PrepareSegment, CheckSpace, OpenSource, ReadChunk,
                            TakeOffer, ReceiveChunk, DropPartial>;

  // ---- results
  struct Compacted {
    Index first_index;
  };
  struct SegmentPrepared {
    bool ok = true;
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
  struct OfferTaken {  // or refused; or, when all of it is here already, Restored follows
    NodeId from;
    wire::SnapshotAck ack;
  };
  struct ChunkReceived {
    NodeId from;
    std::optional<wire::SnapshotAck> ack;  // none: there is nothing to say
  };
  struct Restored {  // the whole snapshot is here, loaded into a fresh instance, and durable
    NodeId from;
    wire::SnapshotFile file;
    RestoredState state;
  };
  using Item = std::variant<raft::Loaded, Compacted, SegmentPrepared, SpaceChecked, SourceOpened,
                            ChunkRead, OfferTaken, ChunkReceived, Restored>;

  struct Options {
    storage::FileSystem* files = nullptr;
    std::string data_dir;
    Genesis genesis;  // snapshots of other clusters are not taken
    // Nor are those that are without other entries than these (offline/recover.h).
    std::vector<raft::EntryId> skips{};
  };
  Worker(const Options& options, storage::Log& log, storage::SnapshotStore& snapshots,
         std::shared_ptr<const plugin::Plugin> plugin, Supervisor& supervisor);

  // ---- loop thread
  void submit(Task task);
  bool take_results(std::vector<Item>& out) { return channel_.take_results(out); }

  void run();                         // worker thread, until close()
  void close() { channel_.close(); }  // any thread
  bool poll_once();
  bool has_work() const { return channel_.has_work(); }

 private:
  void work(Task& task);
  void take_offer(const TakeOffer& task);
  void receive(ReceiveChunk& task);
  bool install(NodeId from, wire::SnapshotAck& ack);
  void put(Item item) { channel_.put(std::move(item)); }

  const Options options_;
  storage::Log& log_;
  storage::SnapshotStore& snapshots_;
  const std::shared_ptr<const plugin::Plugin> plugin_;
  Supervisor& supervisor_;
  WorkChannel<Task, std::vector<Item>> channel_;
  std::unique_ptr<storage::SnapshotReceiver> receiver_;
  bool preparing_failed_ = false;  // the last time, and it was said
};

}  // namespace connectd::node
