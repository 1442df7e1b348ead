#include "node/node.h"

#include <algorithm>
#include <utility>

#include "base/log.h"
#include "base/overloaded.h"

namespace connectd::node {
namespace {

constexpr Duration kHousekeepingInterval = std::chrono::milliseconds(50);
// While a leader's disk stalls its followers go on committing; what its own disk has not taken is
// bounded by this.
constexpr size_t kMaxUnstableBytes = 256 << 20;
constexpr Duration kTickInterval = std::chrono::milliseconds(100);
// Between two compare entries that are wanted because one alone did not settle a difference.
constexpr Duration kCompareRetry = std::chrono::seconds(10);
// Rounds of one turn: a reply may let the next request of its stream start.
constexpr int kMaxRounds = 4;

}  // namespace

Node::Node(const NodeOptions& options, const Genesis& genesis, Host host)
    : options_(options),
      genesis_(genesis),
      host_(std::move(host)),
      random_(options.seed),
      feature_levels_(options.id, options.raft.feature_level_max) {}

Node::~Node() = default;

// ---- faces

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
            ChangeOutcome outcome{ChangeCode::kRefused, "the leader does not understand the change",
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
                         : ChangeOutcome{ChangeCode::kRefused, "the leader's answer makes no sense",
                                         Index()});
          },
          // Forming is over for a node that exists (node/membership/bootstrap.h takes these).
          [](wire::GenesisOffer&) {},
          [](wire::GenesisAccepted&) {},
      },
      message);
}

void Node::on_peer_reached(NodeId peer, const wire::Hello& hello) {
  seen_[peer] = {peer, hello.disk_id, hello.peer_address, hello.client_address, hello.http_address};
  feature_levels_.announced(peer, hello.disk_id, hello.feature_level_max);
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
  divergence_->advance({core_->role() == raft::Role::kLeader, core_->leader(), core_->term(),
                        &core_->conf(), core_->settings().election_timeout},
                       now_.time, comparison_);
  for (const std::string& error : comparison_.errors) LOG_ERROR("divergence", "{}", error);
  comparison_.errors.clear();
  if (comparison_.stop) host_.fatal(*std::exchange(comparison_.stop, std::nullopt));
  if (refused || divergence_->writes() == Divergence::Writes::kRefused) {
    holder_->refuse_writes(divergence_->reason());
  }
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

// ---- now and then

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

// ---- the end

void Node::shut_down() {
  if (stopping_) return;
  stopping_ = true;
  holder_->shut_down();
  step(raft::Retire{});
  if (core_->role() == raft::Role::kLeader) step(raft::TransferLeadership{});
}

}  // namespace connectd::node
