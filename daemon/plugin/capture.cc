#include "plugin/capture.h"

#include <fmt/format.h>

#include <utility>

namespace connectd::plugin {
namespace {

class ViewCapture final : public Capture {
 public:
  ViewCapture(std::shared_ptr<Instance> instance, SnapshotContext context, void* view)
      : instance_(std::move(instance)), context_(std::move(context)), view_(view) {}
  ~ViewCapture() override { instance_->end_view(view_); }

  tl::expected<void, CaptureFailure> write(const SnapshotSink& sink) override {
    if (is_cancelled()) return cancelled();
    std::optional<Error> output;
    auto written = instance_->save_view(view_, context_, [&](ByteView bytes) -> Result<void> {
      if (is_cancelled()) return failure(cancelled().value().error);
      auto taken = sink(bytes);
      if (!taken) output = taken.error();
      return taken;
    });
    if (written) return {};
    using Cause = CaptureFailure::Cause;
    Cause cause = output ? Cause::kOutput : is_cancelled() ? Cause::kCancelled : Cause::kPlugin;
    return tl::unexpected(CaptureFailure{cause, written.error()});
  }

 private:
  const std::shared_ptr<Instance> instance_;
  const SnapshotContext context_;
  void* const view_;
};

class ViewCapturer final : public Capturer {
 public:
  tl::expected<std::unique_ptr<Capture>, CaptureFailure> begin(
      const std::shared_ptr<Instance>& instance, const SnapshotContext& context) override {
    auto view = instance->begin_view(context);
    if (!view) {
      return tl::unexpected(CaptureFailure{CaptureFailure::Cause::kPlugin, view.error()});
    }
    return std::make_unique<ViewCapture>(instance, context, *view);
  }
};

}  // namespace

tl::unexpected<CaptureFailure> Capture::cancelled() {
  return tl::unexpected(
      CaptureFailure{CaptureFailure::Cause::kCancelled, Error{ErrorKind::kCancelled, "cancelled"}});
}

Result<CaptureMode> choose_capture(const Plugin& plugin, CaptureMode wanted) {
  const bool views = plugin.views() != nullptr;
  const bool forks = plugin.has_flag(CONNECTD_F_FORK_SNAPSHOT);
  switch (wanted) {
    case CaptureMode::kAuto:
      return views ? CaptureMode::kView : forks ? CaptureMode::kFork : CaptureMode::kInline;
    case CaptureMode::kView:
      if (views) return wanted;
      return failure(ErrorKind::kBadConfig,
                     fmt::format("snapshot.mode is 'view', but plugin '{} {}' has no view ({}): "
                                 "set snapshot.mode to {}",
                                 plugin.name(), plugin.version(), CONNECTD_EXT_SNAPSHOT_VIEW,
                                 forks ? "auto or fork" : "auto or inline"));
    case CaptureMode::kFork:
      if (forks) return wanted;
      return failure(
          ErrorKind::kBadConfig,
          fmt::format("snapshot.mode is 'fork', but plugin '{} {}' does not permit it "
                      "(CONNECTD_F_FORK_SNAPSHOT): set snapshot.mode to {}",
                      plugin.name(), plugin.version(), views ? "auto or view" : "auto or inline"));
    case CaptureMode::kInline:
      break;
  }
  return wanted;
}

std::unique_ptr<Capturer> make_view_capturer() { return std::make_unique<ViewCapturer>(); }

}  // namespace connectd::plugin
