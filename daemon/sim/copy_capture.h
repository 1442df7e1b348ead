// Captures for the simulator: the state is copied at once and given out later, so that virtual time
// passes between. Entries are applied meanwhile, the process ends in between, a snapshot from the
// leader overtakes it. Now and then a capture fails, as views and forks do.
#pragma once

#include <cstdint>
#include <functional>

#include "base/random.h"
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
  // `counts` and `random` live longer than what is captured. `fatal`: the plugin failed in
  // snapshot(), for which no fault of the simulator is the reason.
  CopyCapturer(Random& random, CaptureCounts& counts, std::function<void(Error)> fatal)
      : random_(random), counts_(counts), fatal_(std::move(fatal)) {}

  tl::expected<std::unique_ptr<plugin::Capture>, plugin::CaptureFailure> begin(
      const std::shared_ptr<plugin::Instance>& instance,
      const plugin::SnapshotContext& context) override;

 private:
  Random& random_;
  CaptureCounts& counts_;
  const std::function<void(Error)> fatal_;
};

}  // namespace connectd::sim
