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
#include "base/thread_role.h"
#include "base/work_channel.h"
#include "node/apply/restored_state.h"
#include "node/jobs.h"
#include "plugin/plugin.h"
#include "raft/core.h"
#include "storage/file_system.h"
#include "storage/log.h"
#include "storage/snapshot_store.h"
#include "wire/peer_messages.h"

namespace connectd::node {

class Worker final {
 public:
  using Task = jobs::WorkerTask;
  struct Restored {  // the whole snapshot is here, loaded into a fresh instance, and durable
    NodeId from;
    wire::SnapshotFile file;
    RestoredState state;
  };
  using Item = std::variant<raft::Loaded, jobs::Compacted, jobs::SegmentPrepared,
                            jobs::SpaceChecked, jobs::SourceOpened, jobs::ChunkRead,
                            jobs::OfferTaken, jobs::ChunkReceived, Restored>;

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
  bool read_entries(const raft::LoadRequest& request) REQUIRES(worker_);
  void open_source(const jobs::OpenSource& task);
  void take_offer(const jobs::TakeOffer& task) REQUIRES(worker_);
  void receive(jobs::ReceiveChunk& task) REQUIRES(worker_);
  Index kept_from(const jobs::Compact& compact) const;
  bool install(NodeId from, wire::SnapshotAck& ack) REQUIRES(worker_);
  void warn_of_rejected(Index index, NodeId from, std::string_view why) REQUIRES(worker_);
  void put(Item item) { channel_.put(std::move(item)); }

  const Options options_;
  storage::Log& log_;
  storage::SnapshotStore& snapshots_;
  const std::shared_ptr<const plugin::Plugin> plugin_;
  Supervisor& supervisor_;
  WorkChannel<Task, std::vector<Item>> channel_;
  ThreadRole worker_{"worker"};
  std::unique_ptr<storage::SnapshotReceiver> receiver_ GUARDED_BY(worker_) PT_GUARDED_BY(worker_);
  std::vector<raft::LoadRequest> waiting_loads_ GUARDED_BY(worker_);  // for a descriptor
  bool preparing_failed_ GUARDED_BY(worker_) = false;  // the last time, and it was said
};

}  // namespace connectd::node
