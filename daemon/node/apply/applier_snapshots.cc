// The applier's snapshots and state hashes: captured, or written here.
#include "base/checksum.h"
#include "base/log_event.h"
#include "node/apply/applier.h"

namespace connectd::node {

plugin::SnapshotContext Applier::snapshot_context() const {
  plugin::SnapshotContext context;
  context.index = state_.applied;
  context.term = state_.applied_term;
  context.time_ns = state_.stamp_ns;
  context.level = state_.genesis.plugin_level;
  return context;
}

// The hash is not part of the digest chain: builds of the plugin may write different bytes for the
// same state, and incomparable hashes must not look like a divergence.
Result<void> Applier::hash_state() {
  if (!instance_->plugin().has_flag(CONNECTD_F_CANONICAL_SNAPSHOT)) return {};
  if (options_.capturer != nullptr) {
    // While another capture is in progress, this member skips the comparison at this index.
    if (capturing_) return {};
    auto capture = options_.capturer->begin(instance_, snapshot_context());
    if (!capture) {
      log_event(LogEvent::kDivergenceNotCompared, "state comparison skipped index={}: {}",
                state_.applied, capture.error().error.text);
      return {};
    }
    capturing_ = true;
    fresh_.items.emplace_back(
        ApplyResults::Captured{jobs::HashState{state_.applied, std::move(*capture)}});
    return {};
  }
  Checksum64 checksum;
  auto written = instance_->snapshot(snapshot_context(), [&](ByteView bytes) -> Result<void> {
    checksum.add(bytes);
    return {};
  });
  if (!written) return failure(written.error());
  fresh_.items.emplace_back(ApplyResults::StateHashed{state_.applied, checksum.value()});
  return {};
}

// Mark, metadata and the plugin's bytes are consistent: they are taken between two entries, on this
// thread.
void Applier::snapshot(How how) {
  const raft::SnapshotMark mark{state_.applied, state_.applied_term};
  state_.plugin_version = instance_->plugin().version();
  if (capturing_) {
    fresh_.items.emplace_back(SnapshotFailed{mark, SnapshotFailed::Why::kBusy, {}});
    return;
  }
  if (how == How::kCapture && options_.capturer != nullptr) {
    auto capture = options_.capturer->begin(instance_, snapshot_context());
    if (!capture) {
      fresh_.items.emplace_back(failed_snapshot(mark, capture.error()));
      return;
    }
    capturing_ = true;
    fresh_.items.emplace_back(
        ApplyResults::Captured{jobs::WriteSnapshot{mark, state_.encode(), std::move(*capture)}});
    return;
  }
  auto taken = write_snapshot();
  if (taken) {
    fresh_.items.emplace_back(ApplyResults::SnapshotTaken{mark, *taken});
  } else if (is_out_of_resources(taken.error().kind)) {
    fresh_.items.emplace_back(
        SnapshotFailed{mark, SnapshotFailed::Why::kNoSpace, taken.error().text});
  } else {
    fail(taken.error());
  }
}

Result<uint64_t> Applier::write_snapshot() {
  auto writer = snapshots_.begin({state_.applied, state_.applied_term}, as_bytes(state_.encode()));
  if (!writer) return failure(writer.error());
  auto written = instance_->snapshot(snapshot_context(),
                                     [&](ByteView bytes) { return (*writer)->write(bytes); });
  if (!written) return failure(written.error());
  auto info = (*writer)->finish();
  if (!info) return failure(info.error());
  return info->file_bytes;
}

}  // namespace connectd::node
