// How a node opens: what recovery finds, what the threads are given.
// Before any of those threads runs.

#include <algorithm>
#include <utility>

#include "base/checksum.h"
#include "node/node.h"
#include "storage/recovery.h"

namespace connectd::node {
namespace {}  // namespace

Result<std::unique_ptr<Node>> Node::open(const NodeOptions& options, const Genesis& genesis,
                                         Host host, Now now) {
  std::unique_ptr<Node> node(new Node(options, genesis, std::move(host)));
  Host& seams = node->host_;
  node->now_ = now;

  auto snapshots = storage::SnapshotStore::open(
      *seams.files, seams.data_dir + "/snapshots",
      {options.snapshot.keep, options.snapshot.compression_level, options.snapshot.block_bytes});
  if (!snapshots) return failure(snapshots.error());
  node->snapshots_ = std::move(*snapshots);
  auto reader = node->snapshots_->open_newest(node->warnings_);
  if (!reader) return failure(reader.error());

  RestoredState start;
  if (*reader) {
    auto restored = restore_snapshot(**reader, seams.plugin);
    if (!restored) return failure(restored.error());
    start = std::move(*restored);
    node->snapshot_ = (*reader)->info().mark;
    node->snapshot_bytes_ = (*reader)->info().file_bytes;
    if (start.state.genesis != genesis) {
      return failure(
          ExitCode::kData,
          fmt::format("{}: the snapshot belongs to another cluster than the identity file "
                      "says; put the right directory in place",
                      seams.data_dir));
    }
  } else {
    auto instance = plugin::Instance::create(
        seams.plugin, {genesis.plugin_options.begin(), genesis.plugin_options.end()});
    if (!instance) return failure(instance.error());
    start = RestoredState{ReplicatedState::at_genesis(genesis), std::move(*instance)};
  }
  for (const storage::SnapshotInfo& info : node->snapshots_->list()) {
    if (info.mark.index < node->snapshot_.index) {
      node->older_snapshot_ = info.mark;
      break;
    }
  }

  storage::Recovered recovered;
  auto log = storage::Log::open(*seams.files, seams.data_dir + "/log", options.log, node->snapshot_,
                                recovered);
  if (!log) return failure(log.error());
  node->log_ = std::move(*log);
  std::ranges::move(recovered.warnings, std::back_inserter(node->warnings_));

  // A damaged snapshot is skipped for an older one only if the log has all that it covered: this
  // node told others that it has it.
  for (const storage::SnapshotInfo& info : node->snapshots_->list()) {
    if (info.mark.index <= node->snapshot_.index) break;
    if (info.mark.index <= recovered.last_index &&
        storage::term_in(recovered.terms, info.mark.index) == info.mark.term) {
      continue;
    }
    return failure(
        ExitCode::kData,
        fmt::format("{}/snapshots/{} is damaged, and the log ends at index {}: other "
                    "nodes may count on what the snapshot covered, so this node must "
                    "not go on without it. To look at it: connectctl inspect snapshot "
                    "{}. To go on: let the node join anew with an empty directory: "
                    "connectctl member replace {}",
                    seams.data_dir, info.name, recovered.last_index, seams.data_dir, options.id));
  }

  raft::Initial initial;
  initial.hard_state = recovered.hard_state;
  initial.conf = start.state.conf;
  initial.snapshot = node->snapshot_;
  initial.first_index = recovered.first_index;
  initial.before_first_term = recovered.before_first_term;
  initial.terms = recovered.terms;
  initial.last_index = recovered.last_index;
  initial.applied = node->snapshot_.index;
  initial.last_stamp_ns = std::max(recovered.last_stamp_ns, start.state.stamp_ns);
  if (!node->snapshot_.index && recovered.last_index < kGenesisIndex) {
    if (!options.may_begin_log) {
      return failure(
          ExitCode::kData,
          fmt::format("{}: the log is empty, though this node has run before: its entries and "
                      "votes are lost, and it must not vote again. Look at it with: connectctl "
                      "inspect wal {}",
                      seams.data_dir, seams.data_dir));
    }
    // The cluster's first entry, the same on every founder, committed from the start.
    raft::Entry entry = genesis.entry();
    storage::LogBatch batch;
    batch.hard_state = raft::HardState{kGenesisTerm, NodeId(), kGenesisIndex};
    batch.entries = std::span(&entry, 1);
    auto written = node->log_->append(std::span(&batch, 1));
    if (!written) return failure(written.error());
    initial.hard_state = batch.hard_state;
    initial.first_index = kGenesisIndex;
    initial.terms = {{kGenesisIndex, kGenesisTerm}};
    initial.last_index = kGenesisIndex;
    initial.last_stamp_ns = entry.stamp_ns;
    initial.is_fresh = true;
  }
  initial.conf_history.push_back(
      {node->snapshot_.index, initial.conf, Slice::copy_of(start.state.members.encode())});
  auto supported = check_supported(start.state.settings, node->snapshot_.index,
                                   options.raft.feature_level_max, seams.data_dir);
  if (!supported) return failure(supported.error());
  initial.settings_history.push_back({node->snapshot_.index, start.state.settings});
  for (const storage::RecoveredEntry& entry : recovered.special_entries) {
    if (entry.kind == raft::EntryKind::kGenesis && entry.payload.text() != genesis.encode()) {
      return failure(
          ExitCode::kData,
          fmt::format("{}: the log belongs to another cluster than the identity file says; "
                      "put the right directory in place",
                      seams.data_dir));
    }
    if (entry.index <= node->snapshot_.index) continue;
    ByteReader in(entry.payload.view());
    if (raft::brings_settings(entry.kind)) {
      auto settings = read_settings(entry.payload.view(), entry.index,
                                    options.raft.feature_level_max, seams.data_dir + "/log");
      if (!settings) return failure(settings.error());
      initial.settings_history.push_back({entry.index, *settings});
    }
    if (!raft::brings_conf(entry.kind)) continue;
    const bool has_conf = raft::ConfState::decode(in, initial.conf);
    auto list = MemberList::decode(entry.payload.view().last(in.left()));
    if (has_conf && !list && list.error().code == ExitCode::kMismatch) {
      return failure(list.error());
    }
    if (!has_conf || !list) {
      return failure(ExitCode::kData,
                     fmt::format("{}: the membership entry at index {} does not make "
                                 "sense",
                                 seams.data_dir, entry.index));
    }
    initial.conf_history.push_back(
        {entry.index, initial.conf,
         entry.payload.part(entry.payload.size() - in.left(), in.left())});
  }

  const Slice& newest = initial.conf_history.back().details;
  auto listed = MemberList::decode(newest.view());
  if (!listed) return failure(listed.error());
  const ClusterId logged = listed->cluster_id(genesis);
  if (logged != node->cluster_id() &&
      std::ranges::find(options.former_cluster_ids, logged) == options.former_cluster_ids.end()) {
    return failure(
        ExitCode::kData,
        fmt::format(
            "{}: the log says that the cluster was recovered as id {}, the identity file does "
            "not: `connectctl recover` was interrupted. Run it again; it tells how",
            seams.data_dir, logged.to_string()));
  }
  node->skips_ = options.skips;
  for (const raft::EntryId& skip : start.state.skipped) {
    auto place = std::ranges::lower_bound(node->skips_, skip);
    if (place == node->skips_.end() || *place != skip) node->skips_.insert(place, skip);
  }

  raft::Options core_options = options.raft;
  core_options.id = options.id;
  core_options.seed = node->random_.next();
  node->core_ = std::make_unique<raft::Core>(core_options, initial, now);
  node->follow_members();

  node->handed_ = node->applied_ = start.state.applied;
  node->digest_ = start.state.digest;
  node->snapshot_spread_ = 1.0 + static_cast<double>(node->random_.below(1000)) / 3000.0;
  node->instance_ = start.instance;

  HolderLimits limits = options.holder;
  limits.max_request = genesis.max_request;
  Node* self = node.get();
  node->holder_ = std::make_unique<Holder>(
      options.id, options.incarnation, limits,
      Holder::Host{
          [self](ByteView request) { return self->classify(request); },
          [self](raft::Propose propose) { self->step(std::move(propose)); },
          [self](NodeId leader, Term term, std::vector<raft::Proposal> proposals) {
            self->host_.transport->send(leader, wire::ForwardProposals{term, std::move(proposals)});
          },
          [self](uint64_t context, bool lease) {
            self->step(raft::ReadRequest{context, lease});
          },
      });
  node->holder_->set_now(now.time);
  Divergence::Options divergence;
  divergence.self = options.id;
  divergence.incarnation = options.incarnation;
  divergence.interval = options.raft.heartbeat_interval;
  divergence.plugin = fmt::format("{} {}", seams.plugin->name(), seams.plugin->version());
  divergence.build = checksum64(as_bytes(seams.plugin->version()));
  node->divergence_ =
      std::make_unique<Divergence>(divergence, start.state.applied, start.state.digest);
  DiskWatch::Options disks;
  disks.self = options.id;
  disks.min_free_bytes = options.min_free_bytes;
  disks.stall_timeout = options.stall_timeout;
  disks.interval = kSpaceCheckInterval;
  node->disks_ = std::make_unique<DiskWatch>(disks);
  node->last_compare_ = now.time;
  node->writer_ = std::make_unique<LogWriter>(*node->log_, seams.wake, seams.fatal);
  node->applier_ = std::make_unique<Applier>(
      Applier::Options{options.id, options.incarnation, options.apply_inline,
                       options.apply_inline_ns_max, options.wall_clock, options.apply_observer,
                       node->skips_, seams.capturer},
      std::move(start), *node->snapshots_, seams.wake, seams.fatal);
  node->worker_ = std::make_unique<Worker>(
      Worker::Options{seams.files, seams.data_dir, genesis, node->skips_}, *node->log_,
      *node->snapshots_, seams.plugin, seams.wake, seams.fatal);
  node->sender_ = std::make_unique<SnapshotSender>(
      options.chunk_bytes,
      SnapshotSender::Host{
          [self](Worker::Task task) { self->worker_->submit(std::move(task)); },
          [self](NodeId to, wire::PeerMessage message) {
            self->host_.transport->send(to, std::move(message));
          },
          [self](const raft::SnapshotSent& sent) { self->step(sent); },
      });
  node->sender_->set_rate(options.snapshot_rate, now.time);
  node->snapshotter_ =
      std::make_unique<Snapshotter>(*node->snapshots_, seams.rest, seams.wake, seams.fatal);
  return node;
}

}  // namespace connectd::node
