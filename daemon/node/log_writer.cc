#include "node/log_writer.h"

#include "base/log.h"

namespace connectd::node {
namespace {
// The core bounds what it has not yet seen durable, so this many batches never wait.
constexpr size_t kMaxQueuedBatches = 1 << 20;
constexpr auto kIdleInterval = std::chrono::milliseconds(50);
}  // namespace

LogWriter::LogWriter(storage::Log& log, std::function<void()> wake,
                     std::function<void(Error)> fatal)
    : log_(log), wake_(std::move(wake)), fatal_(std::move(fatal)), queue_(kMaxQueuedBatches) {}

void LogWriter::submit(uint64_t id, raft::HardState hard_state, std::optional<Index> replaces_from,
                       std::vector<raft::Entry> entries) {
  CHECK(queue_.push(Batch{id, hard_state, replaces_from, std::move(entries)}));
}

void LogWriter::reset(raft::SnapshotMark mark, raft::HardState hard_state) {
  CHECK(queue_.push(Reset{mark, hard_state}));
}

uint64_t LogWriter::durable_batch() const { return durable_.load(std::memory_order_acquire); }

bool LogWriter::poll_once() {
  if (!queue_.drain(tasks_)) return false;
  work(tasks_);
  return true;
}

void LogWriter::run() {
  while (queue_.wait_and_drain_for(tasks_, kIdleInterval)) {
    if (tasks_.empty()) {
      idle(read_clocks().time);
    } else {
      work(tasks_);
      wake_();
    }
  }
}

void LogWriter::close() { queue_.close(); }

void LogWriter::idle(Time now) {
  if (failed_ || !log_.wants_seal()) return;
  auto sealed = log_.seal_if_idle(now);
  if (!sealed) {
    failed_ = true;
    fatal_(sealed.error());
  }
}

bool LogWriter::flush(std::vector<storage::LogBatch>& batches, uint64_t last_id) {
  if (batches.empty()) return true;
  auto written = log_.append(batches);
  batches.clear();
  if (!written) {
    failed_ = true;
    fatal_(written.error());
    return false;
  }
  durable_.store(last_id, std::memory_order_release);
  return true;
}

void LogWriter::work(std::vector<Task>& tasks) {
  if (failed_) {
    tasks.clear();
    return;
  }
  uint64_t last_id = 0;
  for (Task& task : tasks) {
    if (auto* batch = std::get_if<Batch>(&task)) {
      batches_.push_back({batch->hard_state, batch->replaces_from, batch->entries});
      last_id = batch->id;
    } else {
      if (!flush(batches_, last_id)) return;
      const Reset& reset = std::get<Reset>(task);
      auto done = log_.reset(reset.mark, reset.hard_state);
      if (!done) {
        failed_ = true;
        fatal_(done.error());
        return;
      }
    }
  }
  flush(batches_, last_id);
  tasks.clear();
}

}  // namespace connectd::node
