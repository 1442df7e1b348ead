#include "sim/copy_capture.h"

#include <optional>
#include <string>
#include <utility>

namespace connectd::sim {
namespace {

using plugin::CaptureFailure;
using Cause = CaptureFailure::Cause;

// Percent of the captures.
constexpr uint64_t kFailAtOnce = 3;
constexpr uint64_t kFailInTheMiddle = 5;

class CopyCapture final : public plugin::Capture {
 public:
  CopyCapture(CaptureCounts& counts, std::string bytes, std::optional<Cause> failure)
      : counts_(counts), bytes_(std::move(bytes)), failure_(failure) {}
  ~CopyCapture() override {
    if (!was_written_) ++counts_.cut;
  }

  tl::expected<void, CaptureFailure> write(const plugin::SnapshotSink& sink) override {
    was_written_ = true;
    if (is_cancelled()) {
      ++counts_.cancelled;
      return cancelled();
    }
    ByteView bytes = as_bytes(bytes_);
    if (failure_) bytes = bytes.first(bytes.size() / 2);
    while (!bytes.empty()) {
      ByteView part = bytes.first(std::min<size_t>(bytes.size(), 1000));
      if (auto taken = sink(part); !taken) {
        return tl::unexpected(CaptureFailure{Cause::kOutput, taken.error()});
      }
      bytes = bytes.subspan(part.size());
    }
    if (failure_) {
      ++counts_.failed;
      return tl::unexpected(
          CaptureFailure{*failure_, Error{ErrorKind::kPluginFailed, "by chance"}});
    }
    ++counts_.written;
    return {};
  }

 private:
  CaptureCounts& counts_;
  const std::string bytes_;
  const std::optional<Cause> failure_;
  bool was_written_ = false;
};

}  // namespace

tl::expected<std::unique_ptr<plugin::Capture>, CaptureFailure> CopyCapturer::begin(
    const std::shared_ptr<plugin::Instance>& instance, const plugin::SnapshotContext& context) {
  const bool fails_at_once = random_.chance(kFailAtOnce);
  std::optional<Cause> failure;
  if (random_.chance(kFailInTheMiddle)) {
    failure = random_.chance(50) ? Cause::kMeans : Cause::kPlugin;
  }
  if (fails_at_once) {
    ++counts_.failed;
    return tl::unexpected(
        CaptureFailure{Cause::kMeans, Error{ErrorKind::kInternal, "not now, by chance"}});
  }
  std::string bytes;
  auto copied = instance->snapshot(context, [&](ByteView part) -> Result<void> {
    bytes.append(as_text(part));
    return {};
  });
  if (!copied) {
    supervisor_.fail(copied.error());
    return tl::unexpected(CaptureFailure{Cause::kPlugin, copied.error()});
  }
  return std::make_unique<CopyCapture>(counts_, std::move(bytes), failure);
}

}  // namespace connectd::sim
