// Captures for the simulator: the state is copied at once and given out later, so that virtual time
// passes between. Entries are applied meanwhile, the process ends in between, a snapshot from the
// leader overtakes it. Now and then a capture fails, as views and forks do.
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
  // `counts` and `random` live longer than what is captured. `supervisor` is told when
  // the plugin failed in snapshot(), for which no fault of the simulator is the reason.
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
