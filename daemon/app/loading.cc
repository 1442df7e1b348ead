#include "app/loading.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/thread.h"
#include "plugin/crash.h"

namespace connectd::app {
namespace {

using storage::WatchedPart;

// 0 for a file that cannot be looked at: opening it says why.
uint64_t size_of(storage::FileSystem& files, const std::string& path) {
  auto file = files.open(path, storage::OpenMode::kRead);
  if (!file) return 0;
  auto size = (*file)->size();
  return size ? *size : 0;
}

uint64_t percent(uint64_t part, uint64_t whole) {
  return static_cast<uint64_t>(
      100.0 * std::min(1.0, static_cast<double>(part) / static_cast<double>(whole)));
}

}  // namespace

bool ProgressWatch::update(uint64_t done, Time now) {
  if (done == done_) return false;
  done_ = done;
  since_ = now;
  return true;
}

std::string loading_text(uint64_t snapshot_read, uint64_t snapshot_bytes, uint64_t log_read,
                         uint64_t log_bytes) {
  if (log_read == 0 && snapshot_bytes > 0) {
    return fmt::format("starting: {} % of the snapshot read",
                       percent(snapshot_read, snapshot_bytes));
  }
  if (log_bytes == 0) return "starting: reading the log";
  return fmt::format("starting: {} % of the log read", percent(log_read, log_bytes));
}

Loading::~Loading() {
  if (thread_.joinable()) thread_.join();
}

Result<void> Loading::start(std::function<Opened()> open) {
  auto thread = start_thread("loading", [this, open = std::move(open)] {
    plugin::install_crash_stack();
    measure();
    opened_ = open();
    done_ = true;
    supervisor_.wake();
  });
  if (!thread) return failure(thread.error());
  thread_ = std::move(*thread);
  return {};
}

void Loading::measure() {
  uint64_t log = 0;
  if (auto names = files_.list(data_dir_ + "/log")) {
    for (const std::string& name : *names) {
      if (name.ends_with(".wal")) log += size_of(files_, data_dir_ + "/log/" + name);
    }
  }
  log_bytes_ = log;
  // Their names begin with the index: the last one is the newest.
  auto names = files_.list(data_dir_ + "/snapshots");
  if (!names) return;
  auto newest = std::find_if(names->rbegin(), names->rend(),
                             [](const std::string& name) { return name.ends_with(".snapshot"); });
  if (newest != names->rend())
    snapshot_bytes_ = size_of(files_, data_dir_ + "/snapshots/" + *newest);
}

Loading::Opened Loading::take() {
  thread_.join();
  return std::move(opened_);
}

std::string Loading::text() const {
  return loading_text(files_.bytes_read(WatchedPart::kSnapshots), snapshot_bytes_,
                      files_.bytes_read(WatchedPart::kLog), log_bytes_);
}

uint64_t Loading::progress() const {
  return files_.bytes_read(WatchedPart::kSnapshots) + files_.bytes_read(WatchedPart::kLog);
}

}  // namespace connectd::app
