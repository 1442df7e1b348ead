// Capturing the state of an instance at one moment, so that its bytes can be written while apply
// continues. An interface: production captures by the plugin's view or by a forked child, the
// simulator by a copy (sim/copy_capture.h).
//
//   apply thread      begin(): the state as it is between two entries. Quick.
//   snapshot thread   write(): all of its bytes, once
//   any thread        cancel(): write() ends soon
//   apply thread      the destructor
//
// Nothing that a capture does or fails to do stops a node: a failed one is no snapshot, and is
// tried again.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>
#include <tl/expected.hpp>

#include "base/clock.h"
#include "base/error.h"
#include "plugin/instance.h"

namespace connectd::plugin {

struct CaptureFailure {
  enum class Cause : uint8_t {
    kCancelled,
    kOutput,  // the sink's error, as it is
    kPlugin,  // the plugin failed, or crashed: it would by any other way
    kMeans,   // this way of capturing is not to be had now: another one may do
  };
  Cause cause = Cause::kPlugin;
  Error error;
};

class Capture {
 public:
  // On the apply thread, or when nothing calls the instance any more.
  virtual ~Capture() = default;
  Capture(const Capture&) = delete;
  Capture& operator=(const Capture&) = delete;

  // Snapshot thread, once. The sink is called on that thread.
  virtual tl::expected<void, CaptureFailure> write(const SnapshotSink& sink) = 0;
  // Any thread, any number of times.
  void cancel() { cancelled_.store(true, std::memory_order_relaxed); }
  // What it cost, for people; after write(). May be empty.
  virtual std::string cost() const { return {}; }

 protected:
  Capture() = default;
  bool is_cancelled() const { return cancelled_.load(std::memory_order_relaxed); }
  static tl::unexpected<CaptureFailure> cancelled();

 private:
  std::atomic<bool> cancelled_{false};
};

class Capturer {
 public:
  virtual ~Capturer() = default;
  // Apply thread; at most one capture of an instance at a time. The capture keeps the instance
  // alive.
  virtual tl::expected<std::unique_ptr<Capture>, CaptureFailure> begin(
      const std::shared_ptr<Instance>& instance, const SnapshotContext& context) = 0;
};

// How snapshots are captured; snapshot.mode of the configuration.
enum class CaptureMode : uint8_t {
  kAuto,    // the first of the following that the plugin can do
  kView,    // CONNECTD_EXT_SNAPSHOT_VIEW
  kFork,    // CONNECTD_F_FORK_SNAPSHOT
  kInline,  // not captured: written on the apply thread, where all else waits
};

// What kAuto means for this plugin; the others as they are. kBadConfig: the plugin cannot do it.
Result<CaptureMode> choose_capture(const Plugin& plugin, CaptureMode wanted);

// ---- by the plugin's view
std::unique_ptr<Capturer> make_view_capturer();

// ---- by a forked child
struct ForkOptions {
  // A child that writes nothing for this long is killed.
  Duration stall_timeout = std::chrono::seconds(30);
  // Of memory, copied because parent or child wrote to it. A child that costs more is killed.
  uint64_t growth_bytes_max = uint64_t{1} << 30;
  // How often that is looked at. The kernel walks the child's page tables for it.
  Duration measure_interval = std::chrono::seconds(1);
};
std::unique_ptr<Capturer> make_fork_capturer(const ForkOptions& options);

}  // namespace connectd::plugin
