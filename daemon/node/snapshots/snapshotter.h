// Writes a captured state to a snapshot file, compressed and checksummed, or hashes its bytes. It
// has a thread of its own, so that neither the apply thread nor the worker's transfers to followers
// wait for it. One capture at a time.
//
// A failed snapshot leaves no file, and the node continues: the log still has the entries. Only a
// write or sync that fails for a reason other than space stops the node: the log is on the same
// disk, which can no longer be trusted.
#pragma once

#include <cstdint>
#include <memory>
#include <variant>
#include <vector>

#include "base/clock.h"
#include "base/mutex.h"
#include "base/supervisor.h"
#include "base/work_channel.h"
#include "node/jobs.h"
#include "storage/snapshot_store.h"

namespace connectd::node {

class Snapshotter final {
 public:
  using Task = jobs::SnapshotterTask;
  using Item = std::variant<jobs::Written, jobs::NotWritten, jobs::Hashed>;

  Snapshotter(storage::SnapshotStore& snapshots, Supervisor& supervisor);

  // ---- loop thread
  void submit(Task task);
  // Drops the capture that is being written or is queued.
  void cancel();
  bool take_results(std::vector<Item>& out) { return channel_.take_results(out); }

  void run();    // snapshot thread, until close()
  void close();  // any thread; cancels
  // After close(): whether run() returns within `limit`. A hanging view cannot be interrupted.
  bool ends_within(Duration limit);
  bool poll_once();
  bool has_work() const { return channel_.has_work(); }

 private:
  void work(Task& task);
  void write(jobs::WriteSnapshot& task);
  void hash(jobs::HashState& task);
  void put(Item item);
  void forget_capture();

  storage::SnapshotStore& snapshots_;
  Supervisor& supervisor_;
  WorkChannel<Task, std::vector<Item>> channel_;

  Mutex mutex_;
  Condition ended_;
  bool has_ended_ GUARDED_BY(mutex_) = false;
  plugin::Capture* current_ GUARDED_BY(mutex_) = nullptr;  // submitted, not yet returned
};

}  // namespace connectd::node
