#include "app/node_threads.h"

#include <fmt/format.h>
#include <sys/resource.h>

#include "base/thread.h"
#include "plugin/crash.h"

namespace connectd::app {
namespace {
constexpr int kSnapshotNice = 10;
// How long the end of the process waits for a snapshot that was given up.
constexpr Duration kSnapshotEnd = std::chrono::seconds(5);

template <class Body>
Result<std::thread> start_node_thread(std::string_view name, Body body) {
  return start_thread(name, [body] {
    plugin::install_crash_stack();
    body();
  });
}
}  // namespace

Result<void> NodeThreads::start(node::Node& node) {
  Result<std::thread> started[] = {
      start_node_thread("log writer", [&node] { node.writer().run(); }),
      start_node_thread("apply", [&node] { node.applier().run(); }),
      start_node_thread("worker", [&node] { node.worker().run(); })};
  Result<void> all;
  for (Result<std::thread>& thread : started) {
    if (thread) {
      threads_.push_back(std::move(*thread));
    } else {
      all = failure(thread.error());
    }
  }
  if (!all) return all;
  auto snapshot = start_node_thread("snapshot", [&node] {
    // It compresses for seconds; whoever serves requests goes first. In Linux the priority is the
    // calling thread's. The hardened unit refuses it, and that is no matter.
    ::setpriority(PRIO_PROCESS, 0, kSnapshotNice);
    node.snapshotter().run();
  });
  if (!snapshot) return failure(snapshot.error());
  snapshot_ = std::move(*snapshot);
  return {};
}

Result<void> NodeThreads::stop(node::Node& node) {
  node.snapshotter().close();
  node.worker().close();
  node.applier().close();
  node.writer().close();
  for (std::thread& thread : threads_) thread.join();
  threads_.clear();
  if (!snapshot_.joinable()) return {};
  if (!node.snapshotter().ends_within(kSnapshotEnd)) {
    return failure(ErrorKind::kPluginFailed,
                   fmt::format("plugin {} {} hangs in its view's save, and the process cannot wait "
                               "for it: save must return when its sink fails",
                               node.plugin().name(), node.plugin().version()));
  }
  snapshot_.join();
  return {};
}

}  // namespace connectd::app
