// Writes what the applier has captured: a snapshot to its file, compressed and checksummed, or the
// state's bytes into a hash. A thread of its own, so that neither the apply thread waits for it,
// nor what the worker does for followers; one capture at a time.
//
// A snapshot that fails leaves nothing behind, and the node goes on without it: the log keeps what
// it would have covered. What must stop a node is a disk that cannot be trusted any more: a write
// or sync that failed for another reason than space. It is the disk of the log.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "base/clock.h"
#include "base/supervisor.h"
#include "base/work_channel.h"
#include "plugin/capture.h"
#include "raft/types.h"
#include "storage/snapshot_store.h"

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

class Snapshotter final {
 public:
  // ---- tasks
  // The state behind the entry at `mark`.
  struct Write {
    raft::SnapshotMark mark;
    std::string metadata;
    std::unique_ptr<plugin::Capture> capture;
  };
  struct Hash {
    Index index;
    std::unique_ptr<plugin::Capture> capture;
  };
  using Task = std::variant<Write, Hash>;

  // ---- results; each gives the capture back, to be released on the apply thread
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
    std::optional<uint64_t> hash;  // none: it failed
    std::string failure;
    std::unique_ptr<plugin::Capture> capture;
  };
  using Item = std::variant<Written, NotWritten, Hashed>;

  Snapshotter(storage::SnapshotStore& snapshots, Supervisor& supervisor);

  // ---- loop thread
  void submit(Task task);
  // The one that is being written, or waits to be, is not wanted any more.
  void cancel();
  bool take_results(std::vector<Item>& out) { return channel_.take_results(out); }

  void run();    // snapshot thread, until close()
  void close();  // any thread; cancels
  // Behind close(): whether run() returns within `limit`. A view that hangs cannot be ended.
  bool ends_within(Duration limit);
  bool poll_once();
  bool has_work() const { return channel_.has_work(); }

 private:
  void work(Task& task);
  void write(Write& task);
  void hash(Hash& task);
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
