// The tail of the log: takes the core's batches, makes all that wait durable with one sync, and
// keeps back the messages that may leave only then.
// When there is no space for a new segment it waits for it, and everything behind waits with it: to
// the rest of the node that looks like a disk that stalls, and ends by itself. Owner of the batches
// in flight: the writer thread; of the messages kept back: the loop thread.
#pragma once

#include <atomic>
#include <cstdint>
#include <deque>
#include <optional>
#include <variant>
#include <vector>

#include "base/clock.h"
#include "base/error.h"
#include "base/queue.h"
#include "base/supervisor.h"
#include "raft/core.h"
#include "storage/log.h"

namespace connectd::node {

class LogWriter final {
 public:
  // `supervisor` is woken when something is durable, and told when the disk failed.
  LogWriter(storage::Log& log, Supervisor& supervisor);

  // ---- loop thread
  void submit(raft::AppendBatch batch);
  // Begins an empty log after an installed snapshot, in order with the batches.
  void reset(raft::SnapshotMark mark, raft::HardState hard_state);
  // The next batch that has become durable, in order: its messages may leave now, then the core
  // learns of it. None: nothing new is durable.
  struct Durable {
    uint64_t batch = 0;
    std::vector<raft::Envelope> messages;
  };
  std::optional<Durable> next_durable();
  // Something was submitted that next_durable() has not given yet.
  bool is_behind() const { return !held_.empty(); }
  // The last batch that is durable; 0: none yet. All before it are, too. Any thread.
  uint64_t durable_batch() const;

  // ---- writer thread
  void run();    // until close()
  void close();  // any thread; what was submitted is still written
  // Writes what waits; false when there was nothing. (Simulator, tests.)
  bool poll_once();
  void idle(Time now);  // seals
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
  void take(std::vector<Task>& fresh);
  void work();
  bool write_batches(size_t from, size_t to);
  bool settle(const Result<void>& written);

  storage::Log& log_;
  Supervisor& supervisor_;
  std::deque<Durable> held_;  // loop thread: submitted, in order
  BoundedQueue<Task> queue_;
  bool failed_ = false;
  std::vector<Task> fresh_;
  std::vector<Task> tasks_;  // not done: while there is no space they stay
  std::vector<storage::LogBatch> batches_;
  std::atomic<bool> waits_for_space_{false};
  std::atomic<uint64_t> durable_{0};
};

}  // namespace connectd::node
