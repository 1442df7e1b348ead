// Opening a data directory on a thread of its own: the log and the newest snapshot are read, which
// may take long, and the plugin restores its state, which may hang. Meanwhile the loop answers
// probes and signals, and says how far it has come. What was read belongs to the loop when take()
// has returned it.
//
// Loop thread.
#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <string>
#include <thread>

#include "base/clock.h"
#include "base/error.h"
#include "base/supervisor.h"
#include "node/opening.h"
#include "storage/watched_file_system.h"

namespace connectd::app {

// Whether something that should go on does: from counters that grow.
class ProgressWatch final {
 public:
  explicit ProgressWatch(Time now) : since_(now) {}
  // True when `done` has changed.
  bool update(uint64_t done, Time now);
  // How long it has not.
  Duration still_for(Time now) const { return now - since_; }

 private:
  uint64_t done_ = 0;
  Time since_;
};

// "starting: 41 % of the log read". Of totals of 0 nothing is to be read.
std::string loading_text(uint64_t snapshot_read, uint64_t snapshot_bytes, uint64_t log_read,
                         uint64_t log_bytes);

class Loading final {
 public:
  using Opened = Result<node::Opened>;
  // `supervisor` is woken at the end. Both must live as long as the thread runs.
  Loading(storage::WatchedFileSystem& files, std::string data_dir, Supervisor& supervisor)
      : files_(files), data_dir_(std::move(data_dir)), supervisor_(supervisor) {}
  ~Loading();
  Loading(const Loading&) = delete;
  Loading& operator=(const Loading&) = delete;

  // `open` runs on the thread. Once.
  Result<void> start(std::function<Opened()> open);
  bool is_done() const { return done_; }
  // Once, when it is done: joins the thread.
  Opened take();

  std::string text() const;
  // Bytes that were read so far.
  uint64_t progress() const;
  // The reads that follow fail, so that it is done soon, unless the plugin hangs.
  void cancel() { files_.cancel_reads(); }

 private:
  void measure();  // its thread: how much there is to read

  storage::WatchedFileSystem& files_;
  const std::string data_dir_;
  Supervisor& supervisor_;
  std::thread thread_;
  std::atomic<uint64_t> snapshot_bytes_{0};
  std::atomic<uint64_t> log_bytes_{0};
  std::atomic<bool> done_{false};
  Opened opened_;  // its thread's until done_
};

}  // namespace connectd::app
