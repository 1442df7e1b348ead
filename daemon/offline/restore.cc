#include "offline/restore.h"

#include <vector>

#include "storage/identity.h"
#include "storage/log.h"

namespace connectd::offline {
using node::MemberList;
using node::ReplicatedState;
using node::SessionTable;

Result<SnapshotDescription> describe_snapshot(storage::FileSystem& files, const std::string& path) {
  std::string metadata;
  auto content = storage::inspect_snapshot(files, path, &metadata);
  if (!content) return failure(content.error());
  auto state = ReplicatedState::decode(as_bytes(metadata));
  if (!state) return failure(state.error().kind, path + ": " + state.error().text);
  if (state->applied != content->info.mark.index ||
      state->applied_term != content->info.mark.term) {
    return failure(ErrorKind::kCorrupt,
                   fmt::format("{}: its metadata has index {}, its header {}", path, state->applied,
                               content->info.mark.index));
  }
  return SnapshotDescription{std::move(*content), std::move(*state)};
}

Result<ReplicatedState> restore_into_new_cluster(storage::FileSystem& files,
                                                 const std::string& snapshot,
                                                 const std::string& data_dir,
                                                 const RestoreOptions& options) {
  auto reader = storage::open_snapshot_file(files, snapshot);
  if (!reader) return failure(reader.error());
  auto state = ReplicatedState::decode(as_bytes((*reader)->metadata()));
  if (!state) return failure(state.error().kind, snapshot + ": " + state.error().text);
  const raft::SnapshotMark mark = (*reader)->info().mark;
  if (state->applied != mark.index || state->applied_term != mark.term) {
    return failure(ErrorKind::kCorrupt, fmt::format("{}: its metadata has index {}, its header {}",
                                                    snapshot, state->applied, mark.index));
  }

  if (auto made = files.make_directory(data_dir); !made) return failure(made.error());
  auto names = files.list(data_dir);
  if (!names) return failure(names.error());
  if (!names->empty()) {
    return failure(ErrorKind::kExists,
                   fmt::format("{} is not empty (it has '{}'): a restore requires a new directory "
                               "and overwrites nothing. Use another one, or move this one away",
                               data_dir, names->front()));
  }
  auto lock = files.lock(data_dir + "/lock");
  if (!lock) return failure(lock.error());

  // Options and settings that affect results belong to the state, and do not change.
  state->genesis.cluster_id = options.cluster_id;
  if (!options.cluster_name.empty()) state->genesis.cluster_name = options.cluster_name;
  state->genesis.members = {options.founder};
  state->conf = state->genesis.conf();
  state->members = MemberList::of(state->genesis);
  state->sessions = SessionTable();
  state->skipped.clear();  // that log is not part of this cluster

  auto store = storage::SnapshotStore::open(files, data_dir + "/snapshots", {});
  if (!store) return failure(store.error());
  const std::string metadata = state->encode();
  auto writer = (*store)->begin(mark, as_bytes(metadata));
  if (!writer) return failure(writer.error());
  std::vector<uint8_t> block(storage::kSnapshotChunkBytes);
  while (true) {
    auto got = (*reader)->read(block);
    if (!got) return failure(got.error());
    if (*got == 0) break;
    auto written = (*writer)->write(ByteView(block).first(*got));
    if (!written) return failure(written.error());
  }
  auto published = (*writer)->finish();
  if (!published) return failure(published.error());

  // A log that begins after the snapshot. In the new cluster nobody has voted yet.
  storage::Recovered nothing;
  auto log = storage::Log::open(files, data_dir + "/log", {}, raft::SnapshotMark(), nothing);
  if (!log) return failure(log.error());
  auto begun = (*log)->reset(mark, raft::HardState{mark.term, NodeId(), mark.index});
  if (!begun) return failure(begun.error());

  storage::Identity identity;
  identity.node_id = options.founder.id;
  identity.disk_id = options.founder.disk_id;
  identity.cluster_id = options.cluster_id;
  identity.log_begun = true;
  identity.genesis = state->genesis.encode();
  auto saved = storage::save_identity(files, data_dir, identity);
  if (!saved) return failure(saved.error());
  return std::move(*state);
}

}  // namespace connectd::offline
