#include "node/node.h"

#include <algorithm>
#include <utility>

#include "base/checksum.h"
#include "base/log.h"
#include "base/overloaded.h"
#include "node/settings.h"
#include "storage/recovery.h"

namespace connectd::node {
namespace {

constexpr Duration kHousekeepingInterval = std::chrono::milliseconds(50);
constexpr int kStallElectionTimeouts = 2;  // NodeOptions::stall_timeout, where it is not given
// While a leader's disk stalls its followers go on committing; what its own disk has not taken is
// bounded by this.
constexpr size_t kMaxUnstableBytes = 256 << 20;
constexpr Duration kSpaceCheckInterval = std::chrono::seconds(1);
constexpr Duration kHandOverInterval = std::chrono::seconds(2);
constexpr const char* kNoQuorumHasSpace =
    "no quorum of the nodes has storage.min_free_disk of free space: the cluster takes no writes "
    "until there is, reads go on; whose disk is full: connectctl status";
constexpr const char* kLogIsFull =
    "this node's disk is full and its log has no room: it cannot follow the cluster until there is "
    "space; ask another node";
constexpr Duration kTickInterval = std::chrono::milliseconds(100);
// Between two compare entries that are wanted because one alone did not settle a difference.
constexpr Duration kCompareRetry = std::chrono::seconds(10);
// Offers and chunks of a snapshot that the worker has and has not answered.
constexpr size_t kMaxIncomingTasks = 64;
// A snapshot that failed is tried again after this long, then twice as long, up to the last.
constexpr Duration kSnapshotRetry = std::chrono::seconds(1);
constexpr Duration kSnapshotRetryMax = std::chrono::minutes(1);
// So many failures in a row of the way of capturing (no fork, no progress, too much memory), and
// the next snapshot is written on the apply thread.
constexpr int kCaptureAttempts = 2;
// One that takes longer than this is spoken of, again and again.
constexpr Duration kSnapshotNotice = std::chrono::minutes(1);
// Rounds of one turn: a reply may let the next request of its stream start.
constexpr int kMaxRounds = 4;

}  // namespace

Node::Node(const NodeOptions& options, const Genesis& genesis, Host host)
    : options_(options), genesis_(genesis), host_(std::move(host)), random_(options.seed) {}

Node::~Node() = default;

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
    if (entry.kind == raft::EntryKind::kSettings) {
      raft::SettingsAtIndex change{entry.index, {}};
      if (!raft::Settings::decode(in, change.settings)) {
        return failure(ExitCode::kData,
                       fmt::format("{}: the settings at index {} do not make sense", seams.data_dir,
                                   entry.index));
      }
      initial.settings_history.push_back(change);
    }
    if (!raft::brings_conf(entry.kind)) continue;
    if (!raft::ConfState::decode(in, initial.conf) ||
        !MemberList::decode(entry.payload.view().last(in.left()))) {
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
  divergence.patience = node->core_->settings().election_timeout;
  divergence.plugin = fmt::format("{} {}", seams.plugin->name(), seams.plugin->version());
  divergence.build = checksum64(as_bytes(seams.plugin->version()));
  node->divergence_ =
      std::make_unique<Divergence>(divergence, start.state.applied, start.state.digest);
  DiskWatch::Options disks;
  disks.self = options.id;
  disks.min_free_bytes = options.min_free_bytes;
  disks.stall_timeout = options.stall_timeout > Duration::zero()
                            ? options.stall_timeout
                            : kStallElectionTimeouts * node->core_->settings().election_timeout;
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

// ---- faces
// -----------------------------------------------------------------------------------------

std::unique_ptr<RequestStream> Node::open_stream(ReplyHandler& handler) {
  return holder_->open_stream(handler);
}

Framing Node::framing() const {
  switch (host_.plugin->framing()) {
    case CONNECTD_FRAMING_RESP:
      return Framing::kResp;
    case CONNECTD_FRAMING_LENGTH:
      return Framing::kLength;
    default:
      return Framing::kLine;
  }
}

Classified Node::classify(ByteView request) {
  Classified classified;
  auto kind = instance_->classify(request, classified.reply);
  if (kind) {
    classified.kind = *kind;
  } else {
    classified.plugin_failed = true;
    classified.reply = kind.error().text;
  }
  return classified;
}

void Node::on_message(NodeId from, wire::PeerMessage message) {
  std::visit(
      Overloaded{
          [&](raft::Envelope& envelope) {
            if (envelope.from != from || envelope.to != options_.id) return;
            auto* append = std::get_if<raft::AppendRequest>(&envelope.message);
            if (append != nullptr && log_is_full() && !take_what_fits(*append)) return;
            step(raft::Received{std::move(envelope)});
          },
          [&](wire::ForwardProposals& forward) {
            if (core_->term() == forward.leader_term && takes_proposals() && !refuses(forward)) {
              step(raft::Propose{std::move(forward.proposals)});
            } else {
              host_.transport->send(
                  from, wire::ForwardRefused{forward.leader_term, core_->term(), core_->leader()});
            }
          },
          [&](wire::ForwardRefused& refused) { holder_->forward_refused(refused.leader_term); },
          [&](wire::SnapshotChunk& chunk) { on_snapshot_chunk(from, std::move(chunk)); },
          [&](wire::SnapshotOffer& offer) { on_snapshot_offer(from, offer); },
          [&](wire::SnapshotAck& ack) { sender_->on_ack(from, ack, now_.time); },
          [&](wire::DigestReport& report) { divergence_->on_message(from, report); },
          [&](wire::DigestQuery& query) { divergence_->on_message(from, query); },
          [&](wire::DivergenceVerdict& verdict) { divergence_->on_message(from, verdict); },
          [&](wire::DiskReport& report) {
            disks_->on_message(from, report, now_.time);
            disks_changed_ = true;
          },
          [&](wire::ChangeRequest& request) {
            auto change = MemberChange::decode(as_bytes(request.change));
            ChangeOutcome outcome{false, "REFUSED", "the leader does not understand the change",
                                  Index()};
            if (change) outcome = try_change(*change);
            host_.transport->send(from, wire::ChangeAnswer{request.number, outcome.encode()});
          },
          [&](wire::ChangeAnswer& answer) {
            auto asked = asked_changes_.find(answer.number);
            if (asked == asked_changes_.end()) return;
            auto outcome = ChangeOutcome::decode(as_bytes(answer.outcome));
            auto done = std::move(asked->second.done);
            asked_changes_.erase(asked);
            done(outcome ? *outcome
                         : ChangeOutcome{false, "REFUSED", "the leader's answer makes no sense",
                                         Index()});
          },
          // Forming is over for a node that exists (node/bootstrap.h takes these).
          [](wire::GenesisOffer&) {},
          [](wire::GenesisAccepted&) {},
      },
      message);
}

void Node::on_peer_reached(NodeId peer, const wire::Hello& hello) {
  seen_[peer] = {peer, hello.disk_id, hello.peer_address, hello.client_address, hello.http_address};
  step(raft::PeerReached{peer, hello.priority});
  divergence_->peer_changed(peer);
  disks_->peer_reached(peer);
  disks_changed_ = true;
}

void Node::on_peer_lost(NodeId peer) {
  seen_.erase(peer);
  step(raft::PeerLost{peer});
  divergence_->peer_changed(peer);
  holder_->forward_lost(peer);
  sender_->peer_lost(peer, now_.time);
}

// ---- the turn
// --------------------------------------------------------------------------------------

void Node::step(raft::Event event) { core_->step(std::move(event), now_); }

void Node::set_now(const Now& now) {
  now_ = now;
  holder_->set_now(now.time);
}

void Node::turn(const Now& now) {
  set_now(now);
  take_log_progress();
  take_worker_results();
  take_snapshotter_results();
  step(raft::TimePassed{});
  for (int round = 0; round < kMaxRounds; ++round) {
    bool progress = take_apply_results();
    if (round > 0 && !progress) break;
    compare_replicas();
    if (std::exchange(disks_changed_, false)) judge_disks();
    tell_holder();
    holder_->advance(now.time);
    do_ready();
    follow_members();
    // Behind what Raft has to say.
    for (auto& [to, message] : comparison_.messages) {
      host_.transport->send(to, std::move(message));
    }
    comparison_.messages.clear();
    tell_holder();
    reads_.clear();
    holder_->take_reads(handed_, reads_);
    if (!reads_.empty()) applier_->read(std::move(reads_));
    host_.transport->flush();
    applier_->advance();
  }
  // More than the rounds of one turn: the next one follows at once.
  if (applier_->has_results()) host_.wake();
  if (now.time >= next_housekeeping_) {
    next_housekeeping_ = now.time + kHousekeepingInterval;
    housekeeping();
  }
  applier_->advance();
  holder_->end_replies();
}

Time Node::next_deadline() const {
  Time deadline = std::min(core_->next_deadline(), holder_->next_deadline());
  return std::min({deadline, next_housekeeping_, sender_->next_deadline()});
}

void Node::take_log_progress() {
  uint64_t durable = writer_->durable_batch();
  if (durable == durable_batch_) return;
  durable_batch_ = durable;
  while (!held_messages_.empty() && held_messages_.front().batch <= durable) {
    uint64_t batch = held_messages_.front().batch;
    send(held_messages_.front().messages);
    held_messages_.pop_front();
    step(raft::AppendDone{batch});
  }
}

void Node::tell_holder() {
  LeaderView view{core_->leader(), core_->term(), core_->leader() != NodeId()};
  if (view.leader == options_.id) view.takes_proposals = takes_proposals();
  if (view == leader_view_) return;
  leader_view_ = view;
  holder_->leader_changed(view.leader, view.term, view.takes_proposals);
}

bool Node::takes_proposals() const {
  return core_->role() == raft::Role::kLeader && !core_->is_transferring() &&
         core_->unstable_bytes() < kMaxUnstableBytes && !log_is_full() &&
         divergence_->writes() == Divergence::Writes::kTaken;
}

void Node::compare_replicas() {
  bool refused = divergence_->writes() == Divergence::Writes::kRefused;
  divergence_->advance(
      {core_->role() == raft::Role::kLeader, core_->leader(), core_->term(), &core_->conf()},
      now_.time, comparison_);
  for (const std::string& error : comparison_.errors) LOG_ERROR("divergence", "{}", error);
  comparison_.errors.clear();
  if (comparison_.stop) host_.fatal(*std::exchange(comparison_.stop, std::nullopt));
  if (refused || divergence_->writes() == Divergence::Writes::kRefused) {
    holder_->refuse_writes(divergence_->reason());
  }
}

// ---- full and stalled disks (node/disk_watch.h)
// ---------------------------------------------------------------------------------

DiskWatch::View Node::disk_view() const {
  DiskWatch::View view{core_->role() == raft::Role::kLeader, core_->leader(), core_->term(),
                       &core_->conf()};
  for (const raft::PeerStatus& peer : core_->peers()) {
    if (peer.is_near) view.near.insert(peer.id);
  }
  return view;
}

void Node::judge_disks() {
  const bool log_full = log_is_full();
  disks_->log_has_room(!log_full);
  disks_->advance(disk_view(), now_.time, reports_);
  for (auto& [to, message] : reports_) host_.transport->send(to, std::move(message));
  reports_.clear();
  std::vector<NodeId> unfit = disks_->unfit(core_->conf());
  if (unfit != unfit_) {
    unfit_ = std::move(unfit);
    step(raft::Unfit{unfit_});
  }
  if (std::exchange(disk_was_stalled_, disks_->is_stalled()) != disks_->is_stalled()) {
    step(raft::Candidacy{!disks_->is_stalled()});
    if (disks_->is_stalled()) {
      LOG_WARNING("storage",
                  "the log's disk has completed nothing for {} ms: this node neither votes nor "
                  "acknowledges until it does, and does not lead",
                  disks_->stalled_for(now_.time) / std::chrono::milliseconds(1));
    } else {
      LOG_INFO("storage", "the log's disk works again");
    }
  }
  const bool stopped = disks_->writes_stopped();
  if (std::exchange(writes_were_stopped_, stopped) != stopped) {
    if (stopped) {
      LOG_WARNING("storage",
                  "no quorum of the nodes has storage.min_free_disk of free space: the cluster "
                  "takes no writes until there is (DISKFULL); reads go on");
    } else {
      LOG_INFO("storage", "the cluster takes writes again");
    }
  }
  if (std::exchange(log_was_full_, log_full) != log_full) {
    if (log_full) {
      LOG_WARNING("storage",
                  "the disk is full and the log has no reserve: this node takes no entries until "
                  "there is space; it votes, and goes on by itself");
    } else {
      LOG_INFO("storage", "the log has its reserve: this node takes entries again");
    }
  }
  holder_->set_disk_full(log_full ? kLogIsFull : stopped ? kNoQuorumHasSpace : "");
}

// A leader hands over what its disk is no good for, to one whose disk is; no more than once in a
// while, so that what helps nobody is not done again and again.
void Node::watch_disk() {
  disks_->progressed(!held_messages_.empty(), durable_batch_, now_.time);
  judge_disks();
  if (core_->role() != raft::Role::kLeader || core_->is_transferring() || stopping_) return;
  const DiskWatch::View view = disk_view();
  const bool because_stalled = disks_->is_stalled() && disks_->others_suffice(view);
  if (because_stalled && stalled_hand_over_ == core_->term()) {
    // What the others lack may be on this very disk only, and then nobody can be brought far enough
    // to take over; they do better without.
    LOG_WARNING("raft", "the log's disk has stalled, and nobody took over: stepping down");
    step(raft::StepDown{});
    host_.wake();
    return;
  }
  if (now_.time < next_hand_over_) return;
  const bool because_full =
      !because_stalled && disks_->is_full() && disks_->others_have_space(view);
  if (!because_stalled && !because_full) return;
  LOG_WARNING("raft", "handing over leadership: {}",
              because_stalled ? "the log's disk has stalled"
                              : "the disk is full, and another voter has space");
  step(raft::TransferLeadership{});
  if (because_stalled && core_->is_transferring()) stalled_hand_over_ = core_->term();
  next_hand_over_ = now_.time + kHandOverInterval;
  host_.wake();
}

// The log's reserve is used up. What keeps elections and changes of members going is small and is
// taken; all else waits at the leader, as if it were lost, until there is space. False: nothing of
// it is taken, and it is not answered either, lest the leader send the next at once.
bool Node::take_what_fits(raft::AppendRequest& append) {
  // What follows entries that were not taken does not fit; each refusal would make the leader send
  // its window again. A new leader needs one to find where the logs match.
  if (append.prev_index > core_->last_index()) {
    if (now_.time < next_gap_answer_) return false;
    next_gap_answer_ = now_.time + core_->settings().election_timeout;
    return true;
  }
  auto is_taken = [&](const raft::Entry& entry) {
    const bool is_here =
        entry.index <= core_->commit_index() || core_->term_at(entry.index) == entry.term;
    return is_here || entry.kind == raft::EntryKind::kNoop || raft::brings_conf(entry.kind);
  };
  auto end = std::ranges::find_if_not(append.entries, is_taken);
  if (end == append.entries.end()) return true;
  append.entries.erase(end, append.entries.end());
  return !append.entries.empty();
}

// Opening a session stays possible: that is how a node learns what became of what it had numbered.
bool Node::refuses(const wire::ForwardProposals& forward) const {
  return disks_->writes_stopped() &&
         std::ranges::any_of(forward.proposals, [](const raft::Proposal& proposal) {
           return proposal.kind != raft::EntryKind::kSessionOpen;
         });
}

void Node::send(std::vector<raft::Envelope>& messages) {
  for (raft::Envelope& envelope : messages) {
    NodeId to = envelope.to;
    host_.transport->send(to, std::move(envelope));
  }
}

void Node::do_ready() {
  raft::Ready ready = core_->take_ready();
  send(ready.messages);
  if (ready.append) {
    raft::AppendBatch& batch = *ready.append;
    held_messages_.push_back({batch.id, std::move(batch.after_durable)});
    writer_->submit(batch.id, batch.hard_state, batch.replaces_from, std::move(batch.entries));
  }
  if (!ready.committed.empty()) {
    CHECK_EQ(ready.committed.front().index.value(), handed_.value() + 1);
    handed_ = ready.committed.back().index;
    for (const raft::Entry& entry : ready.committed) log_bytes_ += entry.weight();
    applier_->apply(std::move(ready.committed));
  }
  for (const raft::ReadState& read : ready.reads) holder_->read_index(read.context, read.index);
  for (uint64_t context : ready.reads_dropped) holder_->read_dropped(context);
  // Numbered writes may have been among them: only a new session settles that.
  if (ready.proposals_dropped > 0) holder_->forward_refused(core_->term());
  for (const raft::LoadRequest& load : ready.loads) worker_->submit(Worker::Load{load});
  for (NodeId peer : ready.snapshots) {
    sender_->begin(peer, core_->term(), core_->first_index(), now_.time);
  }
  if (ready.soft_state_changed) {
    LOG_INFO("raft", "{} term={} leader={} last={} commit={}", raft::role_name(core_->role()),
             core_->term(), core_->leader(), core_->last_index(), core_->commit_index());
  }
}

bool Node::take_apply_results() {
  if (!applier_->take_results(results_)) return false;
  ByteView bytes = as_bytes(results_.bytes);
  for (ApplyResults::Item& item : results_.items) {
    std::visit(
        Overloaded{
            [&](ApplyResults::CommandApplied& command) {
              holder_->applied(command.session, command.sequence, command.index, command.status,
                               bytes.subspan(command.reply_offset, command.reply_size));
            },
            [&](ApplyResults::ReadDone& read) {
              holder_->read_done(read.ref,
                                 Reply{read.code, bytes.subspan(read.reply_offset, read.reply_size),
                                       false, read.status, read.index});
            },
            [&](ApplyResults::SessionOpened& opened) {
              holder_->session_opened(opened.id, opened.incarnation);
            },
            [&](ApplyResults::SnapshotTaken& taken) {
              snapshot_taken(taken.mark, taken.file_bytes, "apply waited");
            },
            [&](SnapshotFailed& failed) { snapshot_failed(failed); },
            [&](ApplyResults::Captured& captured) { on_captured(std::move(captured.task)); },
            [&](ApplyResults::Replaced& replaced) {
              instance_ = std::move(replaced.instance);
              holder_->state_replaced(replaced.sessions);
            },
            [&](ApplyResults::StateHashed& hashed) {
              hashed_.push_back(hashed);
              last_compare_ = now_.time;
            },
        },
        item);
  }
  digest_ = results_.digest;
  plugin_deadline_ns_ = results_.next_deadline_ns;
  if (results_.applied) {
    applied_ = results_.applied;
    Index index = applied_ - results_.digests.size();
    for (uint64_t digest : results_.digests) divergence_->applied(++index, digest);
    for (const auto& hashed : hashed_) {
      // Not of a state that was replaced since.
      if (hashed.index + results_.digests.size() > applied_) {
        divergence_->state_hashed(hashed.index, hashed.hash);
      }
    }
    hashed_.clear();
    step(raft::ApplyDone{applied_});
  }
  return true;
}

void Node::take_worker_results() {
  sender_->lead(core_->role() == raft::Role::kLeader, core_->term(), now_.time);
  if (now_.time >= sender_->next_deadline()) sender_->advance(now_.time);
  if (!worker_->take_results(worker_items_)) return;
  for (Worker::Item& item : worker_items_) {
    std::visit(
        Overloaded{
            [&](raft::Loaded& loaded) { step(std::move(loaded)); },
            [&](Worker::Compacted& compacted) { step(raft::Compacted{compacted.first_index}); },
            [&](Worker::SegmentPrepared& prepared) {
              preparing_segment_ = false;
              if (!prepared.ok) next_preparation_ = now_.time + kSpaceCheckInterval;
            },
            [&](Worker::SpaceChecked& space) {
              disks_->measured(space.free_bytes);
              disks_changed_ = true;
              if (std::exchange(disk_was_full_, disks_->is_full()) == disks_->is_full()) return;
              if (disks_->is_full()) {
                LOG_WARNING("storage",
                            "{} bytes are free, storage.min_free_disk is {}: this disk is full",
                            space.free_bytes, options_.min_free_bytes);
              } else {
                LOG_INFO("storage", "{} bytes are free again", space.free_bytes);
              }
            },
            [&](Worker::SourceOpened& opened) {
              if (opened.newest_is_damaged) replace_snapshot();
              sender_->source_opened(opened, now_.time);
            },
            [&](Worker::ChunkRead& chunk) { sender_->chunk_read(chunk, now_.time); },
            [&](Worker::OfferTaken& taken) {
              --incoming_tasks_;
              if (taken.ack.state == wire::SnapshotAck::State::kRefused &&
                  taken.ack.file == incoming_) {
                incoming_ = wire::SnapshotFile();
              }
              host_.transport->send(taken.from, taken.ack);
            },
            [&](Worker::ChunkReceived& received) {
              --incoming_tasks_;
              if (!received.ack) return;
              if (received.ack->state == wire::SnapshotAck::State::kRefused &&
                  received.ack->file == incoming_) {
                incoming_ = wire::SnapshotFile();
              }
              host_.transport->send(received.from, *received.ack);
            },
            [&](Worker::Restored& restored) {
              --incoming_tasks_;
              install(restored);
            },
        },
        item);
  }
  worker_items_.clear();
}

// ---- snapshots
// -------------------------------------------------------------------------------------

bool Node::wants_snapshot() const {
  if (taking_snapshot_) return false;
  if (snapshot_wanted_) return true;
  if (now_.time < next_snapshot_) return false;
  double wanted = std::max(static_cast<double>(options_.snapshot.log_min_bytes),
                           options_.snapshot.log_ratio * static_cast<double>(snapshot_bytes_));
  return static_cast<double>(log_bytes_) > wanted * snapshot_spread_;
}

Index Node::begin_snapshot() {
  if (taking_snapshot_) {
    snapshot_asked_ = applied_;
  } else if (applied_ > snapshot_.index) {
    start_snapshot();
    host_.wake();
  }
  return applied_;
}

// The newest snapshot cannot be read, and the state is here: a new one takes its place.
void Node::replace_snapshot() {
  if (!taking_snapshot_) start_snapshot();
}

void Node::start_snapshot() {
  taking_snapshot_ = true;
  snapshot_wanted_ = false;
  snapshot_since_ = now_.time;
  next_snapshot_notice_ = now_.time + kSnapshotNotice;
  snapshot_log_bytes_ = std::exchange(log_bytes_, 0);
  bool falls_back = options_.snapshot.falls_back && capture_attempts_ >= kCaptureAttempts;
  if (falls_back) {
    LOG_WARNING("snapshot",
                "the state could not be captured {} times: this snapshot is written on the apply "
                "thread, and nothing is applied or read here until it is done",
                capture_attempts_);
  }
  applier_->take_snapshot(falls_back ? Applier::How::kInline : Applier::How::kCapture);
}

// A view that hangs cannot be ended, as a forked child can; the operator should know.
void Node::watch_snapshot() {
  if (now_.time < next_snapshot_notice_) return;
  next_snapshot_notice_ = now_.time + kSnapshotNotice;
  LOG_WARNING("snapshot",
              "a snapshot has been under way for {} s; no other is taken before it ends, and the "
              "log behind it stays. The plugin may hang in it, or its disk be slow",
              (now_.time - snapshot_since_) / std::chrono::seconds(1));
}

void Node::on_captured(Snapshotter::Task task) {
  // A snapshot from the leader may have come while this one waited.
  auto* write = std::get_if<Snapshotter::Write>(&task);
  bool overtaken = write != nullptr && write->mark.index < snapshot_.index;
  if (const auto* hash = std::get_if<Snapshotter::Hash>(&task)) {
    divergence_->state_hashing(hash->index);
  }
  snapshotter_->submit(std::move(task));
  if (overtaken) snapshotter_->cancel();
}

void Node::take_snapshotter_results() {
  if (!snapshotter_->take_results(snapshotter_items_)) return;
  for (Snapshotter::Item& item : snapshotter_items_) {
    std::visit(Overloaded{
                   [&](Snapshotter::Written& written) {
                     snapshot_taken(written.mark, written.file_bytes, written.capture->cost());
                     applier_->release(std::move(written.capture));
                   },
                   [&](Snapshotter::NotWritten& not_written) {
                     snapshot_failed(not_written.failed);
                     applier_->release(std::move(not_written.capture));
                   },
                   [&](Snapshotter::Hashed& hashed) {
                     if (!hashed.hash) {
                       LOG_WARNING("divergence", "the state at index {} is not compared: {}",
                                   hashed.index, hashed.failure);
                     }
                     divergence_->state_hash_done(hashed.index, hashed.hash);
                     last_compare_ = now_.time;
                     applier_->release(std::move(hashed.capture));
                   },
               },
               item);
  }
  snapshotter_items_.clear();
}

void Node::snapshot_taken(raft::SnapshotMark mark, uint64_t file_bytes, const std::string& cost) {
  taking_snapshot_ = false;
  snapshot_failure_.clear();
  snapshot_attempts_ = capture_attempts_ = 0;
  if (mark.index > snapshot_.index) {
    older_snapshot_ = std::exchange(snapshot_, mark);
  } else if (mark.index < snapshot_.index && mark.index > older_snapshot_.index) {
    // One from the leader was installed while this one was written.
    older_snapshot_ = mark;
  }
  snapshot_bytes_ = file_bytes;
  LOG_INFO("snapshot", "took index={} bytes={} ms={}{}{}", mark.index, file_bytes,
           (now_.time - snapshot_since_) / std::chrono::milliseconds(1), cost.empty() ? "" : ": ",
           cost);
  step(raft::SnapshotTaken{mark});
  compact();
  if (snapshot_asked_ > snapshot_.index) start_snapshot();
  snapshot_asked_ = Index();
}

void Node::snapshot_failed(const SnapshotFailed& failed) {
  using Why = SnapshotFailed::Why;
  taking_snapshot_ = false;
  log_bytes_ += snapshot_log_bytes_;
  snapshot_wanted_ = failed.why == Why::kBusy;
  if (failed.why == Why::kBusy || failed.why == Why::kOvertaken) return;
  ++snapshots_failed_;
  snapshot_failure_ = failed.text;
  snapshot_asked_ = Index();
  Duration wait =
      std::min(kSnapshotRetryMax, kSnapshotRetry * (1 << std::min(snapshot_attempts_, 6)));
  ++snapshot_attempts_;
  if (failed.why == Why::kMeans) ++capture_attempts_;
  next_snapshot_ = now_.time + wait;
  LOG_WARNING("snapshot",
              "none was taken at index {}: {}. It is tried again in {} s{}; until then the log "
              "stays as it is ({} failed in a row)",
              failed.mark.index, failed.text, wait / std::chrono::seconds(1),
              options_.snapshot.falls_back && capture_attempts_ >= kCaptureAttempts
                  ? ", on the apply thread"
                  : "",
              snapshot_attempts_);
}

// ---- members
// ---------------------------------------------------------------------------------------

namespace {
// The leader answers at once; what takes longer is lost.
constexpr Duration kChangeTimeout = std::chrono::seconds(3);
constexpr size_t kMaxAskedChanges = 64;
}  // namespace

// The list changes with the configuration: when its entry is appended, and when it is truncated.
void Node::follow_members() {
  const Slice& details = core_->conf_details();
  if (details.data() == members_bytes_.data() && details.size() == members_bytes_.size()) return;
  auto members = MemberList::decode(details.view());
  CHECK(members.has_value()) << "a list of members that the log took: " << members.error().text;
  members_bytes_ = details;
  // A disk that was given up may be the one that was seen last.
  for (const GenesisMember& member : members->members) {
    const GenesisMember* before = members_.find(member.id);
    auto seen = seen_.find(member.id);
    if (!member.disk_id && before != nullptr && seen != seen_.end() &&
        seen->second.disk_id == before->disk_id) {
      seen_.erase(seen);
    }
  }
  members_ = std::move(*members);
  const GenesisMember* self = members_.find(options_.id);
  // Until the log has the record of the recovery, its members are those of the cluster that is
  // gone: with them, this node could elect a leader that knows nothing of the recovery.
  const bool list_counts = members_.cluster_id(genesis_) == cluster_id();
  step(raft::Suffrage{list_counts && (self == nullptr || self->disk_id == options_.disk_id)});
}

ClusterId Node::cluster_id() const {
  return options_.cluster_id ? options_.cluster_id : genesis_.cluster_id;
}

std::optional<wire::Refusal> Node::check_peer(const wire::Hello& hello) const {
  return check_member(members_, core_->conf_index(), core_->conf_is_settled(),
                      genesis_.cluster_name, hello);
}

// What the list wants and the configuration is not yet: each step is a change of its own, and any
// leader goes on with it.
void Node::advance_members() {
  if (core_->change_refusal() != raft::ChangeRefusal::kNone) return;
  const raft::ConfState& conf = core_->conf();
  for (const GenesisMember& member : members_.members) {
    if (members_.is_removed(member.id)) continue;
    if (!conf.is_member(member.id)) {
      append_change(add_learner(member.id, conf, members_), true);
      return;
    }
    auto seen = seen_.find(member.id);
    if (!member.disk_id && seen != seen_.end() && seen->second.disk_id) {
      LOG_INFO("members", "node {} comes with disk {}", member.id,
               seen->second.disk_id.to_string());
      append_change(bind_disk(member.id, seen->second.disk_id, conf, members_), true);
      return;
    }
    // Addresses are hints: the connection stands, and its other end says where it wants to be
    // found.
    const GenesisMember* found = seen == seen_.end() ? nullptr : &seen->second;
    const GenesisMember self{options_.id, options_.disk_id, options_.peer_address,
                             options_.client_address, options_.http_address};
    if (member.id == options_.id) found = &self;
    if (found == nullptr || found->peer_address.empty()) continue;
    PlannedChange plan = move_member(*found, conf, members_);
    if (*plan.list.find(member.id) == member) continue;
    LOG_INFO("members", "node {} is found at {} now, and not at {}", member.id, found->peer_address,
             member.peer_address);
    append_change(plan, true);
    return;
  }
  for (const raft::PeerStatus& peer : core_->peers()) {
    const GenesisMember* member = members_.find(peer.id);
    if (!members_.will_promote(peer.id) || conf.is_voter(peer.id) || !member->disk_id) continue;
    const bool caught_up = peer.is_near && peer.state == raft::PeerStatus::State::kReplicate &&
                           has_caught_up(peer.match, core_->last_index(),
                                         std::max(core_->conf_index(), core_->settings_index()));
    if (!caught_up) continue;
    LOG_INFO("members", "node {} has caught up and becomes a voter", peer.id);
    append_change(promote_now(peer.id, conf, members_), true);
    return;
  }
}

void Node::change_members(const MemberChange& change, std::function<void(ChangeOutcome)> done) {
  if (core_->role() == raft::Role::kLeader) return done(try_change(change));
  if (!core_->leader()) {
    return done({false, "NOLEADER", "no leader is known; try again in a moment", Index()});
  }
  if (asked_changes_.size() >= kMaxAskedChanges) {
    return done({false, "BUSY", "too many changes are being asked for", Index()});
  }
  const uint64_t number = next_change_++;
  asked_changes_[number] = {std::move(done), now_.time + kChangeTimeout};
  host_.transport->send(core_->leader(), wire::ChangeRequest{number, change.encode()});
}

void Node::expire_changes() {
  while (!asked_changes_.empty() && asked_changes_.begin()->second.until <= now_.time) {
    auto done = std::move(asked_changes_.begin()->second.done);
    asked_changes_.erase(asked_changes_.begin());
    done({false, "TIMEOUT",
          "the leader did not answer; whether it took the change shows: connectctl member list",
          Index()});
  }
}

ChangeOutcome Node::try_change(const MemberChange& change) {
  // Settings do not wait for a change of members.
  if (change.kind == MemberChange::Kind::kSetting &&
      core_->change_refusal() == raft::ChangeRefusal::kUnderWay) {
    return change_setting(change);
  }
  switch (core_->change_refusal()) {
    case raft::ChangeRefusal::kNone:
      break;
    case raft::ChangeRefusal::kNotLeader:
      return {false, "NOLEADER", "this node leads no more; try again in a moment", Index()};
    case raft::ChangeRefusal::kNotReady:
      return {false, "BUSY", "the leader has just been elected; try again in a moment", Index()};
    case raft::ChangeRefusal::kUnderWay:
      return {false, "BUSY",
              fmt::format("another change, at index {}, is under way; try again when it is over",
                          core_->conf_index()),
              core_->conf_index()};
    case raft::ChangeRefusal::kTransferring:
      return {false, "BUSY", "leadership is being handed over; try again in a moment", Index()};
  }
  if (change.kind == MemberChange::Kind::kSetting) return change_setting(change);
  if (change.kind == MemberChange::Kind::kTransfer) {
    const NodeId to = change.member.id;
    if (to && !core_->conf().is_voter(to)) {
      return {false, "REFUSED", fmt::format("node {} is no voter", to), Index()};
    }
    if (to == options_.id) return {true, "", fmt::format("node {} leads already", to), Index()};
    if (to && core_->priority_of(to) == 0) {
      return {false, "REFUSED",
              fmt::format("node {} never leads: its raft.priority is 0. Give it another in its "
                          "configuration and start it anew, or name another node",
                          to),
              Index()};
    }
    step(raft::TransferLeadership{to});
    if (!core_->is_transferring()) {
      return {false, "REFUSED",
              "there is no other voter that answers and may lead (raft.priority 0: never)",
              Index()};
    }
    host_.wake();
    return {true, "", "handing over", Index()};
  }
  if (change.expected && change.expected != core_->conf_index()) {
    return {false, "CONFLICT",
            fmt::format("the members are those of index {}, not {}: look again, then decide",
                        core_->conf_index(), change.expected),
            core_->conf_index()};
  }
  if (change.kind == MemberChange::Kind::kReplace && !change.force) {
    const GenesisMember* listed = members_.find(change.member.id);
    auto seen = seen_.find(change.member.id);
    if (listed != nullptr && seen != seen_.end() && seen->second.disk_id == listed->disk_id) {
      return {false, "REFUSED",
              fmt::format("node {} is up, with the disk that it always had; stop it first",
                          change.member.id),
              Index()};
    }
    if (change.member.id == options_.id) {
      return {false, "REFUSED", "this node leads, with the disk that it always had", Index()};
    }
  }
  auto plan = plan_change(change, core_->conf(), members_);
  if (!plan) return {false, "REFUSED", plan.error().text, Index()};
  return append_change(*plan, change.force);
}

ChangeOutcome Node::change_setting(const MemberChange& change) {
  auto settings =
      with_setting(core_->settings(), change.key, change.value, options_.raft.heartbeat_interval);
  if (!settings) return {false, "REFUSED", settings.error().text, Index()};
  if (settings->changed_to(*settings) == core_->settings()) {
    return {true, "", "it is so already", core_->settings_index()};
  }
  step(raft::ChangeSettings{*settings});
  LOG_INFO("settings", "{} is {} from index {} on", change.key, change.value,
           core_->settings_index());
  host_.wake();
  return {true, "", "appended", core_->settings_index()};
}

ChangeOutcome Node::append_change(const PlannedChange& plan, bool force) {
  size_t reached = 0;
  std::string missing;
  std::vector<raft::PeerStatus> peers = core_->peers();
  for (NodeId id : plan.conf.voters) {
    auto peer = std::ranges::find(peers, id, &raft::PeerStatus::id);
    if (id == options_.id || (peer != peers.end() && peer->is_near && seen_.contains(id))) {
      ++reached;
    } else {
      missing += fmt::format("{}{}", missing.empty() ? "" : ", ", id);
    }
  }
  const size_t majority = plan.conf.voters.size() / 2 + 1;
  if (reached < majority && !force) {
    return {false, "QUORUM",
            fmt::format("{} of the {} voters that there would be can be reached (not: {}), and {} "
                        "are needed: the cluster would stand still. --force does it all the same",
                        reached, plan.conf.voters.size(), missing, majority),
            Index()};
  }
  step(raft::ChangeConf{plan.conf, Slice::copy_of(plan.list.encode())});
  host_.wake();
  return {true, "", "appended", core_->conf_index()};
}

// ---- now and then
// ----------------------------------------------------------------------------------

void Node::housekeeping() {
  if (wants_snapshot()) start_snapshot();
  if (taking_snapshot_) watch_snapshot();
  if (log_->wants_next_segment() && !preparing_segment_ && now_.time >= next_preparation_) {
    preparing_segment_ = true;
    worker_->submit(Worker::PrepareSegment{});
  }
  follow_snapshots();
  if (now_.time >= next_space_check_) {
    next_space_check_ = now_.time + kSpaceCheckInterval;
    worker_->submit(Worker::CheckSpace{});
  }
  if (stopping_ && core_->role() == raft::Role::kLeader && !core_->is_transferring()) {
    // The one before found nobody, or was given up.
    step(raft::TransferLeadership{});
    host_.wake();
  }
  watch_disk();
  advance_members();
  expire_changes();
  propose_tick();
  propose_compare();
}

// The plugin's deadline is in log time, which follows the clocks of a quorum; the leader's own
// clock tells when to look. A tick that comes early does nothing and is repeated.
void Node::propose_tick() {
  if (core_->role() != raft::Role::kLeader || !core_->leader_is_ready() ||
      core_->is_transferring()) {
    return;
  }
  if (plugin_deadline_ns_ > now_.wall_ns || now_.time - last_tick_ < kTickInterval) return;
  if (divergence_->writes() != Divergence::Writes::kTaken || disks_->writes_stopped()) return;
  last_tick_ = now_.time;
  propose(raft::EntryKind::kTick);
}

void Node::propose_compare() {
  if (core_->role() != raft::Role::kLeader || !core_->leader_is_ready() ||
      core_->is_transferring() || !host_.plugin->has_flag(CONNECTD_F_CANONICAL_SNAPSHOT)) {
    return;
  }
  Duration since = now_.time - last_compare_;
  bool wanted = divergence_->wants_compare() && since >= kCompareRetry;
  // An idle cluster writes nothing.
  bool due = options_.compare_interval > Duration::zero() && since >= options_.compare_interval &&
             applied_ > divergence_->last_hashed() &&
             divergence_->writes() == Divergence::Writes::kTaken && !disks_->writes_stopped();
  if (!wanted && !due) return;
  last_compare_ = now_.time;
  propose(raft::EntryKind::kCompare);
}

void Node::propose(raft::EntryKind kind) {
  std::vector<raft::Proposal> proposals(1);
  proposals.front().kind = kind;
  step(raft::Propose{std::move(proposals)});
  host_.wake();
}

void Node::compact() {
  if (!older_snapshot_.index) return;
  uint64_t trailing = std::min(options_.snapshot.trailing_entries, older_snapshot_.index.value());
  // What was applied may be ahead of what is durable here; compaction never passes that.
  Index keep_from = std::min(older_snapshot_.index + 1 - trailing, core_->durable_index() + 1);
  // Nor what a follower needs behind the snapshot that it is sent.
  keep_from = std::min(keep_from, sender_->keep_from().value_or(keep_from));
  if (keep_from > core_->first_index()) worker_->submit(Worker::Compact{keep_from});
}

// ---- snapshots between nodes
// -------------------------------------------------------------------------

void Node::set_snapshot_rate(uint64_t bytes_per_second) {
  sender_->set_rate(bytes_per_second, now_.time);
  host_.wake();
}

void Node::follow_snapshots() {
  sender_->advance(now_.time);
  if (sender_->holds_log()) {
    const double due = options_.snapshot.log_ratio * static_cast<double>(snapshot_bytes_);
    const auto held_max =
        std::max(options_.snapshot.held_log_bytes, static_cast<uint64_t>(2 * due));
    if (sender_->release({core_->peers(), snapshot_.index, held_max, disks_->is_full(),
                          [this](Index index) { return log_->bytes_from(index); }},
                         now_.time)) {
      compact();
    }
  }
  // What came of a snapshot before the log did, or another one.
  auto part = snapshots_->partial();
  if (part && part->mark.index <= handed_ && incoming_tasks_ == 0 && !(*part == dropped_)) {
    dropped_ = *part;
    worker_->submit(Worker::DropPartial{handed_});
  }
}

// What every offer and chunk is asked first; false: it was answered.
bool Node::takes_snapshot(NodeId from, Term leader_term, const wire::SnapshotFile& file) {
  if (leader_term < core_->term()) return false;  // of a former leader
  if (leader_term > core_->term()) {
    // The first that is heard of a new term, by one that may still lead the old one. A chunk says
    // what a heartbeat says (paper, figure 13): whose term it is.
    step(raft::Received{
        raft::Envelope{from, options_.id, leader_term, raft::Heartbeat{Index(), 0}}});
  }
  if (file.mark.index > handed_) return true;
  // Everything it covers is here already. But the leader takes "installed" for "durable"; what is
  // applied and not yet on the disk could be lost, and must not be vouched for: it asks again.
  bool durable = core_->durable_index() >= file.mark.index;
  host_.transport->send(from, wire::SnapshotAck{file, durable ? file.bytes : 0,
                                                durable ? wire::SnapshotAck::State::kInstalled
                                                        : wire::SnapshotAck::State::kWorking});
  return false;
}

void Node::on_snapshot_offer(NodeId from, const wire::SnapshotOffer& offer) {
  if (!takes_snapshot(from, offer.leader_term, offer.file)) return;
  if (offer.file == incoming_ && incoming_tasks_ > 0) {
    // The worker is at it: it writes, or reads what is there, or restores, which takes long.
    host_.transport->send(from,
                          wire::SnapshotAck{offer.file, 0, wire::SnapshotAck::State::kWorking});
    return;
  }
  if (incoming_tasks_ >= kMaxIncomingTasks) return;
  incoming_ = offer.file;
  ++incoming_tasks_;
  worker_->submit(Worker::TakeOffer{from, offer.file});
}

void Node::on_snapshot_chunk(NodeId from, wire::SnapshotChunk chunk) {
  if (!takes_snapshot(from, chunk.leader_term, chunk.file)) return;
  if (!(chunk.file == incoming_)) {
    // Of a stream that a former life of this node began: it is to be offered anew.
    host_.transport->send(from,
                          wire::SnapshotAck{chunk.file, 0, wire::SnapshotAck::State::kRefused});
    return;
  }
  if (incoming_tasks_ >= kMaxIncomingTasks) return;
  ++incoming_tasks_;
  worker_->submit(Worker::ReceiveChunk{from, std::move(chunk)});
}

// It is durable, and of this cluster.
void Node::install(Worker::Restored& restored) {
  const raft::SnapshotMark mark = restored.file.mark;
  // The core's present effects come first: they speak of the old log.
  if (mark.index > handed_) do_ready();
  if (mark.index > handed_) {
    ++snapshots_installed_;
    LOG_INFO("snapshot", "installed index={} from node {}", mark.index, restored.from);
    if (core_->term_at(mark.index) != mark.term) {
      raft::HardState hard_state = core_->hard_state();
      hard_state.commit = std::max(hard_state.commit, mark.index);
      writer_->reset(mark, hard_state);
    }
    raft::SnapshotInstalled installed{
        mark, restored.state.state.conf, restored.state.state.stamp_ns,
        Slice::copy_of(restored.state.state.members.encode()), restored.state.state.settings};
    handed_ = mark.index;
    older_snapshot_ = snapshot_;
    snapshot_ = mark;
    snapshot_bytes_ = restored.file.bytes;
    // One that is being written is older.
    if (taking_snapshot_) snapshotter_->cancel();
    applier_->replace(std::move(restored.state));
    step(std::move(installed));
  }
  wire::SnapshotAck ack{restored.file, restored.file.bytes, wire::SnapshotAck::State::kInstalled};
  // Overtaken by appends that are not on the disk yet: it is asked for again.
  if (core_->durable_index() < mark.index) ack.state = wire::SnapshotAck::State::kWorking;
  host_.transport->send(restored.from, ack);
}

// ---- the end
// ---------------------------------------------------------------------------------------

void Node::shut_down() {
  if (stopping_) return;
  stopping_ = true;
  holder_->shut_down();
  step(raft::Retire{});
  if (core_->role() == raft::Role::kLeader) step(raft::TransferLeadership{});
}

bool Node::drained() const { return holder_->held() == 0 && core_->role() != raft::Role::kLeader; }

}  // namespace connectd::node
