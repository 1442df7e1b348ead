// Writes the core's batches to the log: makes all queued batches durable with one sync, and holds
// back the messages that may be sent only then. When there is no space for a new segment, it waits,
// and all later batches wait too; the rest of the node sees a stalled disk that recovers by itself.
// The writer thread owns the batches in flight, the loop thread the held messages.
#pragma once

#include <atomic>
#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <variant>
#include <vector>

#include "base/clock.h"
#include "base/error.h"
#include "base/queue.h"
#include "base/supervisor.h"
#include "base/thread_role.h"
#include "node/metrics.h"
#include "raft/core.h"
#include "storage/log.h"

namespace connectd::node {

class LogWriter final {
 public:
  // `supervisor` is woken when a batch is durable, and notified when the disk failed.
  LogWriter(storage::Log& log, Supervisor& supervisor, std::shared_ptr<Metrics> metrics);

  // ---- loop thread
  void submit(raft::AppendBatch batch);
  // Begins an empty log after an installed snapshot. Executed in order with the batches.
  void reset(raft::SnapshotMark mark, raft::HardState hard_state);
  // The next durable batch, in order: send its messages, then notify the core. None: no further
  // batch is durable.
  struct Durable {
    uint64_t batch = 0;
    std::vector<raft::Envelope> messages;
  };
  std::optional<Durable> next_durable();
  // A submitted batch was not yet returned by next_durable().
  bool is_behind() const {
    loop_.check();
    return !held_.empty();
  }
  // The last durable batch; 0: none yet. All earlier ones are durable too. Any thread.
  uint64_t durable_batch() const;

  // ---- writer thread
  void run();    // until close()
  void close();  // any thread; submitted batches are still written
  // Writes the queued batches; false: there were none. (Simulator, tests.)
  bool poll_once();
  void idle(Time now);  // nothing is queued: seals the log after a while
  bool has_work() const { return !queue_.empty() || waits_for_space(); }
  // Any thread.
  bool waits_for_space() const { return waits_for_space_.load(std::memory_order_acquire); }

 private:
  struct Batch {
    uint64_t id = 0;
    raft::HardState hard_state;
    std::optional<Index> replaces_from;
    std::vector<raft::Entry> entries;
  };
  struct Reset {
    raft::SnapshotMark mark;
    raft::HardState hard_state;
  };
  using Task = std::variant<Batch, Reset>;
  void take(std::vector<Task>& fresh) REQUIRES(writer_);
  void work() REQUIRES(writer_);
  bool write_batches(size_t from, size_t to) REQUIRES(writer_);
  bool settle(const Result<void>& written) REQUIRES(writer_);

  storage::Log& log_;
  Supervisor& supervisor_;
  const std::shared_ptr<Metrics> metrics_;
  ThreadRole loop_{"loop"};
  ThreadRole writer_{"writer"};
  std::deque<Durable> held_ GUARDED_BY(loop_);  // submitted, in order
  BoundedQueue<Task> queue_;
  bool failed_ GUARDED_BY(writer_) = false;
  std::vector<Task> fresh_ GUARDED_BY(writer_);
  std::vector<Task> tasks_ GUARDED_BY(writer_);  // not written yet; kept while there is no space
  std::vector<storage::LogBatch> batches_ GUARDED_BY(writer_);
  std::atomic<bool> waits_for_space_{false};
  std::atomic<uint64_t> durable_{0};
};

}  // namespace connectd::node
