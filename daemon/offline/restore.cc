#include "offline/restore.h"

#include <vector>

#include "storage/data_directory.h"
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

namespace {

// Until the marker is gone, all that is in the directory is of this restore, or of one before it
// that was interrupted.
Result<std::unique_ptr<storage::FileLock>> begin_restore(storage::FileSystem& files,
                                                         const std::string& data_dir) {
  if (auto made = files.make_directory(data_dir); !made) return failure(made.error());
  // Before the lock, which leaves its file, and again under it.
  if (auto is_free = storage::check_free_for_restore(files, data_dir); !is_free) {
    return failure(is_free.error());
  }
  auto lock = files.lock(data_dir + "/lock");
  if (!lock) return lock;
  if (auto is_free = storage::check_free_for_restore(files, data_dir); !is_free) {
    return failure(is_free.error());
  }
  auto marked = storage::replace_file(files, data_dir, storage::kRestoreMarker, {});
  if (!marked) return failure(marked.error());
  auto removed = storage::remove_unfinished_restore(files, data_dir);
  if (!removed) return failure(removed.error());
  return lock;
}

Result<void> end_restore(storage::FileSystem& files, const std::string& data_dir) {
  if (auto done = files.remove(data_dir + "/" + storage::kRestoreMarker); !done) return done;
  return files.sync_directory(data_dir);
}

Result<void> write_directory(storage::FileSystem& files, storage::SnapshotReader& reader,
                             raft::SnapshotMark mark, const ReplicatedState& state,
                             const std::string& data_dir, const RestoreOptions& options) {
  auto store = storage::SnapshotStore::open(files, data_dir + "/snapshots", {});
  if (!store) return failure(store.error());
  const std::string metadata = state.encode();
  auto writer = (*store)->begin(mark, as_bytes(metadata));
  if (!writer) return failure(writer.error());
  std::vector<uint8_t> block(storage::kSnapshotChunkBytes);
  while (true) {
    auto got = reader.read(block);
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
  identity.genesis = state.genesis.encode();
  return storage::save_identity(files, data_dir, identity);
}

}  // namespace

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
  auto lock = begin_restore(files, data_dir);
  if (!lock) return failure(lock.error());

  // Options and settings that affect results belong to the state, and do not change.
  state->genesis.cluster_id = options.cluster_id;
  if (!options.cluster_name.empty()) state->genesis.cluster_name = options.cluster_name;
  state->genesis.members = {options.founder};
  state->conf = state->genesis.conf();
  state->members = MemberList::of(state->genesis);
  state->sessions = SessionTable();
  state->skipped.clear();  // that log is not part of this cluster

  auto written = write_directory(files, **reader, mark, *state, data_dir, options);
  if (written) written = end_restore(files, data_dir);
  if (!written) {
    return failure(
        written.error().kind,
        fmt::format("{}. The restore into {} is unfinished: a node does not start there. "
                    "Repeat the command when the cause is gone",
                    written.error().text, data_dir));
  }
  return std::move(*state);
}

}  // namespace connectd::offline
