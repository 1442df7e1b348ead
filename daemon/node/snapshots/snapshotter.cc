#include "node/snapshots/snapshotter.h"

#include <chrono>
#include <utility>

#include "base/checksum.h"
#include "base/log.h"
#include "base/log_event.h"
#include "base/overloaded.h"

namespace connectd::node {
namespace {
// The applier begins a capture only when the previous one was returned.
constexpr size_t kMaxQueuedSnapshots = 1;
// Written between two pauses: as much as is synced at a time.
constexpr uint64_t kRestEveryBytes = 256 << 10;
}  // namespace

Snapshotter::Snapshotter(storage::SnapshotStore& snapshots, Supervisor& supervisor)
    : snapshots_(snapshots), supervisor_(supervisor), channel_(kMaxQueuedSnapshots, supervisor) {}

void Snapshotter::submit(Task task) {
  {
    MutexLock lock(mutex_);
    CHECK(current_ == nullptr) << "two captures of the state at a time";
    current_ = std::visit([](auto& any) { return any.capture.get(); }, task);
  }
  // Closed: the node is stopping, and drops the capture.
  if (!channel_.submit(std::move(task))) forget_capture();
}

void Snapshotter::cancel() {
  MutexLock lock(mutex_);
  if (current_ != nullptr) current_->cancel();
}

void Snapshotter::forget_capture() {
  MutexLock lock(mutex_);
  current_ = nullptr;
}

// The loop may submit the next capture, or destroy this one, as soon as it has the result.
void Snapshotter::put(Item item) {
  forget_capture();
  channel_.put(std::move(item));
}

void Snapshotter::run() {
  channel_.run([this](Task& task) { work(task); });
  MutexLock lock(mutex_);
  has_ended_ = true;
  ended_.notify_all();
}

bool Snapshotter::ends_within(Duration limit) {
  const auto deadline = std::chrono::steady_clock::now() + limit;
  MutexLock lock(mutex_);
  while (!has_ended_) {
    if (!ended_.wait_until(lock, deadline)) return has_ended_;
  }
  return true;
}

void Snapshotter::close() {
  channel_.close();
  cancel();
}

bool Snapshotter::poll_once() {
  return channel_.poll([this](Task& task) { work(task); });
}

void Snapshotter::work(Task& task) {
  std::visit(Overloaded{
                 [&](jobs::WriteSnapshot& snapshot) { write(snapshot); },
                 [&](jobs::HashState& state) { hash(state); },
             },
             task);
}

void Snapshotter::write(jobs::WriteSnapshot& task) {
  // A capture that ends before finish() leaves no file (SnapshotWriter).
  auto attempt = [&]() -> tl::expected<uint64_t, plugin::CaptureFailure> {
    using Cause = plugin::CaptureFailure::Cause;
    auto output_failure = [](const Error& error) {
      return tl::unexpected(plugin::CaptureFailure{Cause::kOutput, error});
    };
    auto writer = snapshots_.begin(task.mark, as_bytes(task.metadata));
    if (!writer) return output_failure(writer.error());
    uint64_t unrested_bytes = 0;
    Duration unrested{};
    auto captured = task.capture->write([&](ByteView bytes) -> Result<void> {
      Time before = read_clocks().time;
      auto done = (*writer)->write(bytes);
      unrested += read_clocks().time - before;
      unrested_bytes += bytes.size();
      if (done && unrested_bytes >= kRestEveryBytes) {
        supervisor_.rest(unrested);
        unrested_bytes = 0;
        unrested = Duration();
      }
      return done;
    });
    if (!captured) return tl::unexpected(captured.error());
    auto info = (*writer)->finish();
    if (!info) return output_failure(info.error());
    return info->file_bytes;
  };
  auto written = attempt();
  if (written) return put(jobs::Written{task.mark, *written, std::move(task.capture)});
  const plugin::CaptureFailure& failure = written.error();
  if (failure.cause == plugin::CaptureFailure::Cause::kOutput &&
      !is_out_of_resources(failure.error.kind)) {
    supervisor_.fail(failure.error);
    forget_capture();
    return;
  }
  put(jobs::NotWritten{failed_snapshot(task.mark, failure), std::move(task.capture)});
}

void Snapshotter::hash(jobs::HashState& task) {
  Checksum64 checksum;
  auto captured = task.capture->write([&](ByteView bytes) -> Result<void> {
    checksum.add(bytes);
    return {};
  });
  jobs::Hashed hashed{task.index, std::nullopt, std::move(task.capture)};
  if (captured) {
    hashed.hash = checksum.value();
  } else {
    log_event(LogEvent::kDivergenceNotCompared, "state comparison skipped index={}: {}", task.index,
              captured.error().error.text);
  }
  put(std::move(hashed));
}

}  // namespace connectd::node
