// Captures for the simulator: the state is copied at once and written later, so that virtual time
// passes in between, in which entries are applied, the process ends, or a snapshot from the leader
// overtakes the capture. Some captures fail, as views and forks do.
#pragma once

#include <cstdint>

#include "base/random.h"
#include "base/supervisor.h"
#include "plugin/capture.h"

namespace connectd::sim {

struct CaptureCounts {
  uint64_t written = 0;
  uint64_t failed = 0;
  uint64_t cancelled = 0;
  uint64_t cut = 0;  // the process ended before
};

class CopyCapturer final : public plugin::Capturer {
 public:
  // `counts` and `random` outlive the captures. `supervisor` is notified when the plugin fails in
  // snapshot(), which no simulated fault causes.
  CopyCapturer(Random& random, CaptureCounts& counts, Supervisor& supervisor)
      : random_(random), counts_(counts), supervisor_(supervisor) {}

  tl::expected<std::unique_ptr<plugin::Capture>, plugin::CaptureFailure> begin(
      const std::shared_ptr<plugin::Instance>& instance,
      const plugin::SnapshotContext& context) override;

 private:
  Random& random_;
  CaptureCounts& counts_;
  Supervisor& supervisor_;
};

}  // namespace connectd::sim
