#include "node/apply/restored_state.h"

#include <fmt/format.h>

namespace connectd::node {

Result<RestoredState> restore_snapshot(storage::SnapshotReader& reader,
                                       const std::shared_ptr<const plugin::Plugin>& plugin) {
  auto state = ReplicatedState::decode(as_bytes(reader.metadata()));
  if (!state) return failure(state.error());
  const raft::SnapshotMark& mark = reader.info().mark;
  if (state->applied != mark.index || state->applied_term != mark.term) {
    return failure(ErrorKind::kCorrupt, "the snapshot's metadata and file have different indexes");
  }
  if (state->genesis.plugin_name != plugin->name()) {
    return failure(ErrorKind::kMismatch,
                   fmt::format("the snapshot at index {} is from plugin '{}', this node runs "
                               "plugin '{}': start it with the right plugin",
                               mark.index, state->genesis.plugin_name, plugin->name()));
  }
  auto instance = plugin::Instance::create(
      plugin, {state->genesis.plugin_options.begin(), state->genesis.plugin_options.end()});
  if (!instance) return failure(instance.error());
  plugin::SnapshotContext context;
  context.index = mark.index;
  context.term = mark.term;
  context.time_ns = state->stamp_ns;
  context.level = state->genesis.plugin_level;
  context.length = reader.stream_bytes();
  context.writer_version = state->plugin_version;
  auto restored = (*instance)->restore(
      context, [&](std::span<uint8_t> to) -> Result<size_t> { return reader.read(to); });
  if (!restored) return failure(restored.error());
  return RestoredState{std::move(*state), std::move(*instance)};
}

}  // namespace connectd::node
