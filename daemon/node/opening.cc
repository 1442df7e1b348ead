#include "node/opening.h"

#include <algorithm>
#include <utility>

#include "storage/data_directory.h"

namespace connectd::node {
namespace {

class Opening final {
 public:
  Opening(const NodeOptions& options, const Genesis& genesis, storage::FileSystem& files,
          const std::string& data_dir, const std::shared_ptr<const plugin::Plugin>& plugin)
      : options_(options), genesis_(genesis), files_(files), dir_(data_dir), plugin_(plugin) {}

  Result<Opened> run() {
    auto opened = open();
    if (opened || opened.error().kind != ErrorKind::kCorrupt) return opened;
    return failure(ErrorKind::kCorrupt, fmt::format("{}. {}", opened.error().text,
                                                    storage::next_command(dir_, options_.id)));
  }

 private:
  Result<Opened> open() {
    if (auto done = restore_newest_snapshot(); !done) return failure(done.error());
    if (auto done = recover_log(); !done) return failure(done.error());
    if (auto done = check_stored(); !done) return failure(done.error());
    fill_initial();
    if (auto done = begin_log_if_new(); !done) return failure(done.error());
    if (auto done = check_cluster(); !done) return failure(done.error());
    collect_skips();
    return std::move(out_);
  }

  template <typename... Args>
  auto refused(fmt::format_string<Args...> text, Args&&... args) const {
    return failure(ErrorKind::kCorrupt, dir_ + fmt::format(text, std::forward<Args>(args)...));
  }
  Index newest() const { return out_.initial.snapshot.index; }

  Result<void> restore_newest_snapshot();
  Result<void> recover_log();
  Result<void> check_stored();
  void fill_initial();
  Result<void> begin_log_if_new();
  Result<void> check_cluster() const;
  void collect_skips();

  const NodeOptions& options_;
  const Genesis& genesis_;
  storage::FileSystem& files_;
  const std::string& dir_;
  const std::shared_ptr<const plugin::Plugin>& plugin_;
  storage::Recovered recovered_;
  Opened out_;
};

Result<void> Opening::restore_newest_snapshot() {
  auto snapshots = storage::SnapshotStore::open(
      files_, dir_ + "/snapshots",
      {options_.snapshot.keep, options_.snapshot.compression_level, options_.snapshot.block_bytes});
  if (!snapshots) return failure(snapshots.error());
  out_.snapshots = std::move(*snapshots);
  auto reader = out_.snapshots->open_newest(out_.warnings);
  if (!reader) return failure(reader.error());
  if (!*reader) {
    auto instance = plugin::Instance::create(
        plugin_, {genesis_.plugin_options.begin(), genesis_.plugin_options.end()});
    if (!instance) return failure(instance.error());
    out_.start = RestoredState{ReplicatedState::at_genesis(genesis_), std::move(*instance)};
    return {};
  }
  auto restored = restore_snapshot(**reader, plugin_);
  if (!restored) return failure(restored.error());
  out_.start = std::move(*restored);
  out_.initial.snapshot = (*reader)->info().mark;
  out_.newest_bytes = (*reader)->info().file_bytes;
  if (auto fits = check_snapshot(out_.start.state, genesis_, dir_); !fits) return fits;
  for (const storage::SnapshotInfo& info : out_.snapshots->list()) {
    if (info.mark.index >= newest()) continue;
    out_.older = info.mark;
    break;
  }
  return {};
}

Result<void> Opening::recover_log() {
  auto log =
      storage::Log::open(files_, dir_ + "/log", options_.log, out_.initial.snapshot, recovered_);
  if (!log) return failure(log.error());
  out_.log = std::move(*log);
  std::ranges::move(recovered_.warnings, std::back_inserter(out_.warnings));
  return {};
}

void Opening::fill_initial() {
  raft::Initial& initial = out_.initial;
  initial.hard_state = recovered_.hard_state;
  initial.first_index = recovered_.first_index;
  initial.before_first_term = recovered_.before_first_term;
  initial.terms = recovered_.terms;
  initial.last_index = recovered_.last_index;
  initial.applied = newest();
  initial.last_stamp_ns = std::max(recovered_.last_stamp_ns, out_.start.state.stamp_ns);
}

// The cluster's first entry, the same on every founder, committed from the start.
Result<void> Opening::begin_log_if_new() {
  if (newest() || recovered_.last_index >= kGenesisIndex) return {};
  if (!options_.may_begin_log) {
    return refused(
        ": the log is empty, though this node has run before: its entries and votes are lost, and "
        "it must not vote again. To inspect: connectctl inspect wal {}",
        dir_);
  }
  raft::Entry entry = genesis_.entry();
  storage::LogBatch batch;
  batch.hard_state = raft::HardState{kGenesisTerm, NodeId(), kGenesisIndex};
  batch.entries = std::span(&entry, 1);
  auto written = out_.log->append(std::span(&batch, 1));
  if (!written) return failure(written.error());
  raft::Initial& initial = out_.initial;
  initial.hard_state = batch.hard_state;
  initial.first_index = kGenesisIndex;
  initial.terms = {{kGenesisIndex, kGenesisTerm}};
  initial.last_index = kGenesisIndex;
  initial.last_stamp_ns = entry.stamp_ns;
  initial.is_fresh = true;
  return {};
}

Result<void> Opening::check_stored() {
  auto read =
      read_histories({dir_, genesis_, *out_.snapshots, newest(), out_.start.state, recovered_},
                     options_.raft.feature_level_max);
  if (!read) return failure(read.error());
  out_.initial.conf_history = std::move(read->confs);
  out_.initial.settings_history = std::move(read->settings);
  out_.initial.conf = out_.initial.conf_history.back().conf;
  return {};
}

Result<void> Opening::check_cluster() const {
  auto listed = MemberList::decode(out_.initial.conf_history.back().details.view());
  if (!listed) return failure(listed.error());
  const ClusterId logged = listed->cluster_id(genesis_);
  const ClusterId own = options_.cluster_id ? options_.cluster_id : genesis_.cluster_id;
  const std::vector<ClusterId>& former = options_.former_cluster_ids;
  if (logged == own || std::ranges::find(former, logged) != former.end()) return {};
  if (listed->recoveries.empty()) {
    return refused(": the log and the identity file belong to different clusters");
  }
  return failure(
      ErrorKind::kWrongData,
      fmt::format("{}: the log has the recovery to cluster id {}, the identity file does not: "
                  "`connectctl recover` was interrupted. Complete it: {}",
                  dir_, logged.to_string(), recover_command(dir_, listed->recoveries.back())));
}

void Opening::collect_skips() {
  out_.skips = options_.skips;
  for (const raft::EntryId& skip : out_.start.state.skipped) {
    auto place = std::ranges::lower_bound(out_.skips, skip);
    if (place == out_.skips.end() || *place != skip) out_.skips.insert(place, skip);
  }
}

}  // namespace

namespace {

template <typename... Args>
auto corrupt(const StoredData& stored, fmt::format_string<Args...> text, Args&&... args) {
  return failure(ErrorKind::kCorrupt, stored.dir + fmt::format(text, std::forward<Args>(args)...));
}

// A damaged snapshot is skipped for an older one only if the log has all that it covered: this
// node told others that it has it.
Result<void> check_damaged_snapshots(const StoredData& stored) {
  for (const storage::SnapshotInfo& info : stored.snapshots.list()) {
    if (info.mark.index <= stored.newest) break;
    if (info.mark.index <= stored.log.last_index &&
        storage::term_in(stored.log.terms, info.mark.index) == info.mark.term) {
      continue;
    }
    return corrupt(
        stored,
        "/snapshots/{} is damaged, and the log ends at index {}: the node acknowledged entries "
        "that it no longer has, so it must not start. To inspect: connectctl inspect snapshot {}",
        info.name, stored.log.last_index, stored.dir);
  }
  return {};
}

Result<void> add_conf(const StoredData& stored, const storage::RecoveredEntry& entry,
                      std::vector<raft::ConfAtIndex>& confs) {
  ByteReader in(entry.payload.view());
  raft::ConfState conf;
  const bool has_conf = raft::ConfState::decode(in, conf);
  Slice details = entry.payload.part(entry.payload.size() - in.left(), in.left());
  auto list = MemberList::decode(details.view());
  if (has_conf && !list && list.error().kind == ErrorKind::kNewerVersion) {
    return failure(list.error());
  }
  if (!has_conf || !list)
    return corrupt(stored, ": invalid membership entry at index {}", entry.index);
  confs.push_back({entry.index, std::move(conf), std::move(details)});
  return {};
}

}  // namespace

Result<void> check_snapshot(const ReplicatedState& state, const Genesis& genesis,
                            const std::string& dir) {
  if (state.genesis == genesis) return {};
  return failure(
      ErrorKind::kCorrupt,
      fmt::format("{}: the snapshot and the identity file belong to different clusters", dir));
}

Result<Histories> read_histories(const StoredData& stored, uint32_t highest) {
  const ReplicatedState& state = stored.state;
  if (auto whole = check_damaged_snapshots(stored); !whole) return failure(whole.error());
  auto supported = raft::check_supported(state.settings, stored.newest, highest, stored.dir);
  if (!supported) return failure(supported.error());
  Histories read;
  read.confs.push_back({stored.newest, state.conf, Slice::copy_of(state.members.encode())});
  read.settings.push_back({stored.newest, state.settings});
  for (const storage::RecoveredEntry& entry : stored.log.special_entries) {
    if (entry.kind == raft::EntryKind::kGenesis &&
        entry.payload.text() != stored.genesis.encode()) {
      return corrupt(stored, ": the log and the identity file belong to different clusters");
    }
    if (entry.index <= stored.newest) continue;
    if (raft::brings_settings(entry.kind)) {
      auto settings =
          raft::read_settings(entry.payload.view(), entry.index, highest, stored.dir + "/log");
      if (!settings) return failure(settings.error());
      read.settings.push_back({entry.index, *settings});
    }
    if (!raft::brings_conf(entry.kind)) continue;
    if (auto added = add_conf(stored, entry, read.confs); !added) return failure(added.error());
  }
  return read;
}

Result<Opened> open_directory(const NodeOptions& options, const Genesis& genesis,
                              storage::FileSystem& files, const std::string& data_dir,
                              const std::shared_ptr<const plugin::Plugin>& plugin) {
  return Opening(options, genesis, files, data_dir, plugin).run();
}

}  // namespace connectd::node
