// Writes what the applier has captured: a snapshot to its file, compressed and checksummed, or the
// state's bytes into a hash. A thread of its own, so that neither the apply thread waits for it,
// nor what the worker does for followers; one capture at a time.
//
// A snapshot that fails leaves nothing behind, and the node continues without it: the log keeps
// what it would have covered. What must stop a node is a disk that cannot be trusted any more: a
// write or sync that failed for another reason than space. It is the disk of the log.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <memory>
#include <mutex>
#include <variant>
#include <vector>

#include "base/clock.h"
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
  // The one that is being written, or waits to be, is not wanted any more.
  void cancel();
  bool take_results(std::vector<Item>& out) { return channel_.take_results(out); }

  void run();    // snapshot thread, until close()
  void close();  // any thread; cancels
  // After close(): whether run() returns within `limit`. A view that hangs cannot be ended.
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

  std::mutex mutex_;
  std::condition_variable ended_;
  bool has_ended_ = false;
  plugin::Capture* current_ = nullptr;  // submitted, and not given back
};

}  // namespace connectd::node
