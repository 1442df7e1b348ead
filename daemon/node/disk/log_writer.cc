#include "node/disk/log_writer.h"

#include "base/log.h"
#include "base/log_event.h"

namespace connectd::node {
namespace {
// The core bounds what it has not yet seen durable, so this many batches never wait.
constexpr size_t kMaxQueuedBatches = 1 << 20;
constexpr auto kIdleInterval = std::chrono::milliseconds(50);
// Each attempt fills the disk up and gives it back.
constexpr auto kSpaceRetryInterval = std::chrono::milliseconds(500);
}  // namespace

LogWriter::LogWriter(storage::Log& log, Supervisor& supervisor, std::shared_ptr<Metrics> metrics)
    : log_(log), supervisor_(supervisor), metrics_(std::move(metrics)), queue_(kMaxQueuedBatches) {}

void LogWriter::submit(raft::AppendBatch batch) {
  loop_.check();
  held_.push_back({batch.id, std::move(batch.after_durable)});
  CHECK(queue_.push(
      Batch{batch.id, batch.hard_state, batch.replaces_from, std::move(batch.entries)}));
}

std::optional<LogWriter::Durable> LogWriter::next_durable() {
  loop_.check();
  if (held_.empty() || held_.front().batch > durable_batch()) return std::nullopt;
  Durable durable = std::move(held_.front());
  held_.pop_front();
  return durable;
}

void LogWriter::reset(raft::SnapshotMark mark, raft::HardState hard_state) {
  loop_.check();
  CHECK(queue_.push(Reset{mark, hard_state}));
}

uint64_t LogWriter::durable_batch() const { return durable_.load(std::memory_order_acquire); }

void LogWriter::take(std::vector<Task>& fresh) {
  std::move(fresh.begin(), fresh.end(), std::back_inserter(tasks_));
  fresh.clear();
}

bool LogWriter::poll_once() {
  writer_.check();
  queue_.drain(fresh_);
  take(fresh_);
  if (tasks_.empty()) return false;
  work();
  return true;
}

void LogWriter::run() {
  writer_.hand_over();  // this thread is the writer now, not the one that polled or opened the log
  writer_.check();
  log_.become_writer();
  Time retry_at{};
  while (queue_.wait_and_drain_for(fresh_, kIdleInterval)) {
    take(fresh_);
    const Time now = read_clocks().time;
    if (tasks_.empty()) {
      idle(now);
    } else if (!waits_for_space() || now >= retry_at) {
      work();
      retry_at = now + kSpaceRetryInterval;
      supervisor_.wake();
    }
  }
  writer_.hand_over();
}

void LogWriter::close() { queue_.close(); }

void LogWriter::idle(Time now) {
  writer_.check();
  if (failed_ || !tasks_.empty() || !log_.wants_seal()) return;
  auto sealed = log_.seal_if_idle(now);
  if (!sealed) {
    failed_ = true;
    supervisor_.fail(sealed.error());
  }
}

// Whether to continue with the next task.
bool LogWriter::settle(const Result<void>& written) {
  if (written) {
    if (waits_for_space_.exchange(false, std::memory_order_acq_rel)) {
      log_event(LogEvent::kLogResumed, "log has space and descriptors again");
    }
    return true;
  }
  if (is_out_of_resources(written.error().kind)) {
    if (!waits_for_space_.exchange(true, std::memory_order_acq_rel)) {
      const bool is_full = written.error().kind == ErrorKind::kNoSpace;
      log_event(
          LogEvent::kLogWaits,
          "{} and the reserve is used up; this node does not vote or acknowledge, and "
          "resumes when there is {} ({})",
          is_full ? "log full: the disk is full" : "log waits for a file descriptor: none is left",
          is_full ? "space" : "one", written.error().text);
    }
    return false;
  }
  failed_ = true;
  supervisor_.fail(written.error());
  return false;
}

bool LogWriter::write_batches(size_t from, size_t to) {
  batches_.clear();
  size_t entries = 0;
  size_t bytes = 0;
  for (size_t i = from; i < to; ++i) {
    const Batch& batch = std::get<Batch>(tasks_[i]);
    batches_.push_back({batch.hard_state, batch.replaces_from, batch.entries});
    entries += batch.entries.size();
    for (const raft::Entry& entry : batch.entries) bytes += entry.payload.size();
  }
  const Time begin = read_clocks().time;
  if (!settle(log_.append(batches_))) return false;
  metrics_->writer.append_time.observe(read_clocks().time - begin);
  metrics_->writer.append_entries.observe(entries);
  metrics_->writer.bytes.add(bytes);
  durable_.store(std::get<Batch>(tasks_[to - 1]).id, std::memory_order_release);
  return true;
}

void LogWriter::work() {
  size_t done = 0;
  while (!failed_ && done < tasks_.size()) {
    if (const Reset* reset = std::get_if<Reset>(&tasks_[done])) {
      if (!settle(log_.reset(reset->mark, reset->hard_state))) break;
      ++done;
      continue;
    }
    size_t end = done;
    while (end < tasks_.size() && std::holds_alternative<Batch>(tasks_[end])) ++end;
    if (!write_batches(done, end)) break;
    done = end;
  }
  if (failed_) done = tasks_.size();
  tasks_.erase(tasks_.begin(), tasks_.begin() + static_cast<ptrdiff_t>(done));
}

}  // namespace connectd::node
