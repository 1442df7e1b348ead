// Captures for these tests: a copy of the state, and failures in an order that the test gives.
#pragma once

#include <deque>
#include <memory>
#include <string>
#include <utility>

#include "plugin/capture.h"

namespace connectd::node {

class ScriptedCapturer final : public plugin::Capturer {
 public:
  using Cause = plugin::CaptureFailure::Cause;
  enum class Step : uint8_t { kWell, kNotBegun, kNotWritten };

  // The results of the next captures; all later ones succeed.
  void plan(Step step, Cause cause) { plan_.emplace_back(step, cause); }
  int begun() const { return begun_; }
  int alive() const { return alive_; }

  tl::expected<std::unique_ptr<plugin::Capture>, plugin::CaptureFailure> begin(
      const std::shared_ptr<plugin::Instance>& instance,
      const plugin::SnapshotContext& context) override {
    ++begun_;
    std::pair<Step, Cause> planned{Step::kWell, Cause::kPlugin};
    if (!plan_.empty()) {
      planned = plan_.front();
      plan_.pop_front();
    }
    if (planned.first == Step::kNotBegun) return failed(planned.second);
    auto copy = std::make_unique<Copy>(alive_);
    auto taken = instance->snapshot(context, [&](ByteView part) -> Result<void> {
      copy->bytes.append(as_text(part));
      return {};
    });
    if (!taken) return tl::unexpected(plugin::CaptureFailure{Cause::kPlugin, taken.error()});
    if (planned.first == Step::kNotWritten) copy->failure = planned.second;
    return copy;
  }

 private:
  static tl::unexpected<plugin::CaptureFailure> failed(Cause cause) {
    return tl::unexpected(
        plugin::CaptureFailure{cause, Error{ErrorKind::kPluginFailed, "as planned"}});
  }

  struct Copy final : plugin::Capture {
    explicit Copy(int& alive_now) : alive(alive_now) { ++alive; }
    ~Copy() override { --alive; }
    tl::expected<void, plugin::CaptureFailure> write(const plugin::SnapshotSink& sink) override {
      if (is_cancelled()) return cancelled();
      // Half of it is there when it fails.
      ByteView all = as_bytes(bytes);
      if (auto taken = sink(failure ? all.first(all.size() / 2) : all); !taken) {
        return tl::unexpected(plugin::CaptureFailure{Cause::kOutput, taken.error()});
      }
      if (failure) return failed(*failure);
      return {};
    }
    int& alive;
    std::string bytes;
    std::optional<Cause> failure;
  };

  std::deque<std::pair<Step, Cause>> plan_;
  int begun_ = 0;
  int alive_ = 0;
};

}  // namespace connectd::node
