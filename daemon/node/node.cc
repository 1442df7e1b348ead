#include "node/node.h"

#include <algorithm>
#include <utility>

#include "base/log_event.h"
#include "base/overloaded.h"

namespace connectd::node {
namespace {

constexpr Duration kHousekeepingInterval = std::chrono::milliseconds(50);
// While a leader's disk stalls its followers go on committing; what its own disk has not taken is
// bounded by this.
constexpr size_t kMaxUnstableBytes = 256 << 20;
// Rounds of one turn: a reply may let the next request of its stream start.
constexpr int kMaxRounds = 4;
// Of those that wait for their commit: more are not counted.
constexpr size_t kMaxAppendsCounted = 4096;

}  // namespace

// ---- the turn, and in it the life of a write
//
//   submit     the requests' holder numbers it and hands it to the leader, here or elsewhere
//   append     the leader's core appends it to its log
//   replicate  it goes to the followers             ∥  persist  it goes to this node's disk
//   commit     a quorum has it on disk
//   apply      the plugin applies it
//   reply      its client is answered, by the node that holds the connection
//
// A follower's append sends it to the leader; it comes back as a message, as writes of others do.
// The core counts this node's durable batches (commit) and the responses of others (on_message).

void Node::turn(const Now& now) {
  set_now(now);
  commit();
  take_worker_results();
  take_snapshotter_results();
  step(raft::TimePassed{});
  for (int round = 0; round < kMaxRounds; ++round) {
    if (!reply() && round > 0) break;
    Effects comparison;
    compare_replicas(comparison);
    react_to_disks();
    submit();
    carry_out(core_->take_ready());  // replicate, persist, apply
    carry_out(comparison);           // behind what Raft has to say
    read();
    host_.transport->flush();
    threads_->applier.advance();
  }
  // More than the rounds of one turn: the next one follows at once.
  if (threads_->applier.has_results()) host_.supervisor->wake();
  if (now.time >= next_housekeeping_) {
    next_housekeeping_ = now.time + kHousekeepingInterval;
    housekeeping();
  }
  threads_->applier.advance();
  holder_->end_replies();
  count_commits();
}

// Requests that may go are numbered and handed to the leader.
void Node::submit() {
  update_holder();
  Effects out;
  holder_->advance(now_.time, {core_->commit_index(), applied_}, out);
  carry_out(out);
}

// By this node's core, or by the leader that gets them (on_forwarded).
void Node::append(WritesToLeader& writes) {
  if (writes.leader == self_) {
    step(raft::Propose{std::move(writes.proposals)});
  } else {
    host_.transport->send(writes.leader,
                          wire::ForwardProposals{writes.term, std::move(writes.proposals)});
  }
}

// What the core has decided since the last turn.
void Node::carry_out(raft::Ready ready) {
  replicate(ready.messages);
  if (ready.append) persist(std::move(*ready.append));
  if (!ready.committed.empty()) apply(std::move(ready.committed));
  for (const raft::ReadState& read : ready.reads) holder_->read_index(read.context, read.index);
  for (uint64_t context : ready.reads_dropped) holder_->read_dropped(context);
  // Numbered writes may have been among them: only a new session settles that.
  if (ready.proposals_dropped > 0) holder_->forward_refused(core_->term());
  for (const raft::LoadRequest& load : ready.loads) threads_->worker.submit(jobs::Load{load});
  Effects out;
  for (const auto& need : ready.snapshots) snapshots_->begin_sending(need, snapshot_view(), out);
  membership_->follow(*core_, out);
  carry_out(out);
  if (ready.soft_state_changed) {
    log_event(LogEvent::kRaftRole, "{} term={} leader={} last={} commit={}",
              raft::role_name(core_->role()), core_->term(), core_->leader(), core_->last_index(),
              core_->commit_index());
  }
}

void Node::replicate(std::vector<raft::Envelope>& messages) {
  for (raft::Envelope& envelope : messages) {
    NodeId to = envelope.to;
    host_.transport->send(to, std::move(envelope));
  }
}

// The writer makes it durable, and keeps back what may leave only then.
void Node::persist(raft::AppendBatch batch) { threads_->writer.submit(std::move(batch)); }

// The counterpart of persist: acknowledgements leave; what this node's disk has may commit entries.
void Node::commit() {
  while (auto durable = threads_->writer.next_durable()) {
    replicate(durable->messages);
    step(raft::AppendDone{durable->batch});
  }
}

void Node::apply(std::vector<raft::Entry> committed) {
  CHECK_EQ(committed.front().index.value(), handed_.value() + 1);
  handed_ = committed.back().index;
  snapshots_->handed(committed);
  threads_->applier.apply(std::move(committed));
}

// What was applied and read since the last call is answered. False: nothing was.
bool Node::reply() {
  ApplyResults* results = threads_->applier.take_results();
  if (results == nullptr) return false;
  ByteView bytes = as_bytes(results->bytes);
  std::vector<std::pair<Index, uint64_t>> hashed;
  Effects out;
  for (ApplyResults::Item& item : results->items) {
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
            [&](ApplyResults::ReadsLeft& left) { holder_->reads_left(left.tasks); },
            [&](ApplyResults::SessionOpened& opened) {
              holder_->session_opened(opened.id, opened.incarnation);
            },
            [&](ApplyResults::SnapshotTaken& taken) {
              snapshots_->taken(taken.mark, taken.file_bytes, "apply waited", snapshot_view(), out);
            },
            [&](SnapshotFailed& failed) { snapshots_->failed(failed, now_.time); },
            [&](ApplyResults::Captured& captured) { on_captured(std::move(captured.task)); },
            [&](ApplyResults::Replaced& replaced) {
              out.retire(classifier_->replace(std::move(replaced.instance)));
              const auto* session = replaced.sessions.find(holder_->session());
              holder_->state_replaced(session == nullptr ? std::optional<Sequence>()
                                                         : session->last);
            },
            [&](ApplyResults::StateHashed& state) {
              hashed.emplace_back(state.index, state.hash);
              divergence_->compared(now_.time);
            },
        },
        item);
  }
  carry_out(out);
  digest_ = results->digest;
  ticks_.set_deadline(results->next_deadline_ns, results->stamp_ns);
  if (!results->applied) return true;
  applied_ = results->applied;
  divergence_->applied(applied_, results->digests, hashed);
  step(raft::ApplyDone{applied_});
  return true;
}

// Reads whose index is reached go to the plugin; reply() answers them.
void Node::read() {
  update_holder();
  std::vector<ReadTask> reads;
  holder_->take_reads(handed_, reads);
  threads_->applier.read(std::move(reads), holder_->take_ready_question(handed_));
}

// ---- what arrives

std::string Node::on_message(const wire::Hello& sender, wire::PeerMessage message) {
  loop_.check();
  const NodeId from = sender.node_id;
  const auto hearing = membership_->hearing(sender, message, *core_);
  if (hearing != Membership::Hearing::kCounts) return Membership::fault_of(hearing);
  Effects out;
  std::string fault;
  std::visit(
      Overloaded{
          [&](raft::Envelope& envelope) { fault = on_envelope(from, envelope); },
          [&](wire::ForwardProposals& forward) { fault = on_forwarded(from, forward); },
          [&](wire::ForwardRefused& refused) { holder_->forward_refused(refused.leader_term); },
          [&](wire::SnapshotOffer& offer) {
            if (!hear_of_file(from, offer.file.mark, offer.leader_term, fault)) return;
            snapshots_->on_offer(from, offer, snapshot_view(), out);
          },
          [&](wire::SnapshotChunk& chunk) {
            if (!hear_of_file(from, chunk.file.mark, chunk.leader_term, fault)) return;
            snapshots_->on_chunk(from, std::move(chunk), snapshot_view(), out);
          },
          [&](wire::SnapshotAck& ack) { snapshots_->on_ack(from, ack, now_.time, out); },
          [&](wire::DigestReport& report) { divergence_->on_message(from, report); },
          [&](wire::DigestQuery& query) { divergence_->on_message(from, query); },
          [&](wire::DivergenceVerdict& verdict) { divergence_->on_message(from, verdict); },
          [&](wire::DiskReport& report) { disks_->on_report(from, report, now_.time); },
          [&](wire::ChangeRequest& request) {
            auto decision = membership_->decide(request, *core_, disks_->problems(core_->conf()));
            out.send(from, wire::ChangeAnswer{request.number, carry_out(decision).encode()});
          },
          [&](wire::ChangeAnswer& answer) { membership_->on_answer(answer); },
          // Forming is over for a node that exists (node/membership/bootstrap.h takes these).
          [](wire::GenesisOffer&) {},
          [](wire::GenesisAccepted&) {},
      },
      message);
  carry_out(out);
  return fault;
}

std::string Node::on_envelope(NodeId from, raft::Envelope& envelope) {
  if (envelope.from != from || envelope.to != self_) return {};
  if (auto* append = std::get_if<raft::AppendRequest>(&envelope.message)) {
    if (auto fault = Membership::fault_of(*append); !fault.empty()) return fault;
    if (log_is_full() && !disks_->take_what_fits(*append, *core_, now_.time)) return {};
  }
  step(raft::Received{std::move(envelope)});
  return std::string(core_->contradiction());
}

// Submit, from another node: append here, if this node leads.
std::string Node::on_forwarded(NodeId from, wire::ForwardProposals& forward) {
  if (auto fault = Writes::fault_of(forward, from); !fault.empty()) return fault;
  if (core_->term() == forward.leader_term && takes_proposals() && !disks_->refuses(forward)) {
    step(raft::Propose{std::move(forward.proposals)});
  } else {
    host_.transport->send(
        from, wire::ForwardRefused{forward.leader_term, core_->term(), core_->leader()});
  }
  return {};
}

// An offer or chunk of a snapshot names a term as a heartbeat does (figure 13). False: a past term,
// one that is out of reach, or what cannot be true, which `fault` says.
bool Node::hear_of_file(NodeId from, raft::SnapshotMark mark, Term term, std::string& fault) {
  fault = fault_of(mark, from, term, *core_);
  if (fault.empty() && term > core_->term()) {
    step(raft::Received{raft::Envelope{from, self_, term, raft::Heartbeat{Index(), 0}}});
    fault = core_->contradiction();
  }
  return fault.empty() && core_->term() == term;
}

void Node::on_peer_reached(NodeId peer, const wire::Hello& hello) {
  membership_->peer_reached(peer, hello);
  step(raft::PeerReached{peer, hello.priority});
  divergence_->peer_changed(peer);
  disks_->peer_reached(peer);
}

void Node::on_peer_lost(NodeId peer) {
  membership_->peer_lost(peer);
  step(raft::PeerLost{peer});
  divergence_->peer_changed(peer);
  holder_->forward_lost(peer);
  Effects out;
  snapshots_->peer_lost(peer, now_.time, out);
  carry_out(out);
}

// ---- the parts

// An entry of the leader's own, without payload.
void Node::propose(raft::EntryKind kind) {
  std::vector<raft::Proposal> proposals(1);
  proposals.front().kind = kind;
  step(raft::Propose{std::move(proposals)});
  host_.supervisor->wake();
}

void Node::carry_out(Effects& effects) {
  for (const auto& [event, text] : effects.errors) log_event(event, "{}", text);
  if (effects.stop) host_.supervisor->fail(*std::move(effects.stop));
  for (WritesToLeader& writes : effects.writes) append(writes);
  for (raft::Event& event : effects.events) step(std::move(event));
  for (auto& [to, message] : effects.messages) host_.transport->send(to, std::move(message));
  threads_->carry_out(effects);
  if (effects.wake) host_.supervisor->wake();
  effects = Effects();
}

// Whoever leads a term has been elected by itself.
void Node::count_election() {
  const raft::Role role = core_->role();
  if (role != raft::Role::kCandidate && role != raft::Role::kLeader) return;
  counted_term_ = core_->term();
  host_.metrics->loop.elections.add();
}

// One sample for each append of this leader.
void Node::count_commits() {
  if (core_->role() != raft::Role::kLeader) return appended_.clear();
  for (; !appended_.empty() && appended_.front().last <= core_->commit_index();
       appended_.pop_front()) {
    host_.metrics->loop.commit_time.observe(now_.time - appended_.front().at);
  }
  const Index last = core_->last_index();
  const Index counted = appended_.empty() ? core_->commit_index() : appended_.back().last;
  if (last > counted && appended_.size() < kMaxAppendsCounted) {
    appended_.push_back({last, now_.time});
  }
}

void Node::update_holder() {
  const NodeId leader = core_->leader();
  if (leader && leader != counted_leader_) {
    counted_leader_ = leader;
    host_.metrics->loop.leader_changes.add();
  }
  holder_->leader_changed(leader, core_->term(),
                          leader == self_ ? takes_proposals() : leader != NodeId());
}

bool Node::takes_proposals() const {
  return core_->role() == raft::Role::kLeader && !core_->is_transferring() &&
         core_->unstable_bytes() < kMaxUnstableBytes && !log_is_full() &&
         divergence_->writes() == Divergence::Writes::kTaken;
}

// Carries out all but the messages.
void Node::compare_replicas(Effects& comparison) {
  const bool refused = divergence_->writes() == Divergence::Writes::kRefused;
  divergence_->advance({core_->role() == raft::Role::kLeader, core_->leader(), core_->term(),
                        &core_->conf(), core_->settings().election_timeout},
                       now_.time, comparison);
  auto messages = std::exchange(comparison.messages, {});
  carry_out(comparison);
  comparison.messages = std::move(messages);
  if (refused || divergence_->writes() == Divergence::Writes::kRefused) {
    holder_->refuse_writes(divergence_->reason());
  }
}

void Node::react_to_disks() {
  Effects out;
  disks_->react(*core_, threads_->log->has_reserve(), now_.time, out);
  carry_out(out);
  holder_->set_disk_full(disks_->refusal());
}

void Node::change_members(const MemberChange& change, std::function<void(ChangeOutcome)> done) {
  loop_.check();
  if (core_->role() == raft::Role::kLeader) {
    return done(carry_out(membership_->decide(change, *core_, disks_->problems(core_->conf()))));
  }
  Effects out;
  membership_->ask_leader(change, *core_, now_.time, std::move(done), out);
  carry_out(out);
}

ChangeOutcome Node::carry_out(const Membership::Decision& decision) {
  if (decision.event) {
    step(*decision.event);
    host_.supervisor->wake();
  }
  return membership_->concluded(decision, *core_);
}

// ---- snapshots

Snapshots::View Node::snapshot_view() const {
  return {now_.time, core_->term(),          core_->role() == raft::Role::kLeader,
          handed_,   core_->durable_index(), core_->first_index()};
}

void Node::on_captured(Snapshotter::Task task) {
  // A snapshot from the leader may have come while this one waited.
  const auto* write = std::get_if<jobs::WriteSnapshot>(&task);
  const bool overtaken = write != nullptr && !snapshots_->is_current(write->mark);
  if (const auto* hash = std::get_if<jobs::HashState>(&task))
    divergence_->state_hashing(hash->index);
  threads_->snapshotter.submit(std::move(task));
  if (overtaken) threads_->snapshotter.cancel();
}

void Node::take_snapshotter_results() {
  std::vector<Snapshotter::Item> items;
  if (!threads_->snapshotter.take_results(items)) return;
  Effects out;
  for (Snapshotter::Item& item : items) {
    std::visit(Overloaded{
                   [&](auto& snapshot) { snapshots_->on(snapshot, snapshot_view(), out); },
                   [&](jobs::Hashed& hashed) {
                     divergence_->state_hash_done(hashed.index, hashed.hash);
                     divergence_->compared(now_.time);
                     out.releases.push_back(std::move(hashed.capture));
                   },
               },
               item);
  }
  carry_out(out);
}

void Node::take_worker_results() {
  Effects out;
  snapshots_->follow_role(snapshot_view(), out);
  carry_out(out);
  std::vector<Worker::Item> items;
  if (!threads_->worker.take_results(items)) return;
  for (Worker::Item& item : items) {
    std::visit(
        Overloaded{
            [&](raft::Loaded& loaded) { step(std::move(loaded)); },
            [&](jobs::Compacted& compacted) { step(raft::Compacted{compacted.first_index}); },
            [&](jobs::SegmentPrepared& prepared) { disks_->segment_prepared(prepared, now_.time); },
            [&](jobs::SpaceChecked& space) { disks_->measured(space.free_bytes); },
            [&](auto& of_a_snapshot) { snapshots_->on(of_a_snapshot, snapshot_view(), out); },
            [&](Worker::Restored& restored) { on_restored(restored); },
        },
        item);
    carry_out(out);
  }
}

void Node::on_restored(Worker::Restored& restored) {
  Effects out;
  // First: these effects are of the old log.
  if (restored.file.mark.index > handed_) carry_out(core_->take_ready());
  // What was handed out just now may be past it.
  if (restored.file.mark.index > handed_) {
    install(restored, out);
    carry_out(out);
  }
  snapshots_->on_restored(restored.from, restored.file, snapshot_view(), out);
  out.retire(std::move(restored.state.instance));  // if it was not installed
  carry_out(out);
}

// The log restarts after the snapshot, unless it holds the snapshot's last entry; the core is told,
// and the apply thread swaps the instance.
void Node::install(Worker::Restored& restored, Effects& out) {
  const raft::SnapshotMark mark = restored.file.mark;
  log_event(LogEvent::kSnapshotInstalled, "installed index={} from={}", mark.index, restored.from);
  if (core_->term_at(mark.index) != mark.term) {
    raft::HardState hard_state = core_->hard_state();
    hard_state.commit = std::max(hard_state.commit, mark.index);
    threads_->writer.reset(mark, hard_state);
  }
  const ReplicatedState& state = restored.state.state;
  out.events.push_back(raft::SnapshotInstalled{
      mark, state.conf, state.stamp_ns, Slice::copy_of(state.members.encode()), state.settings});
  handed_ = mark.index;
  snapshots_->installed(restored.file, out);
  threads_->applier.replace(std::move(restored.state));
}

// ---- now and then

void Node::housekeeping() {
  Effects out;
  const auto bytes_from = [this](Index index) { return threads_->log->bytes_from(index); };
  Snapshots::Disk disk{threads_->store->partial(), disks_->watch().is_full(), {}, bytes_from};
  if (snapshots_->holds_log()) disk.peers = core_->peers();
  snapshots_->advance(disk, snapshot_view(), out);
  carry_out(out);
  if (stopping_ && core_->role() == raft::Role::kLeader && !core_->is_transferring()) {
    // The one before found nobody, or was given up.
    step(raft::TransferLeadership{});
    host_.supervisor->wake();
  }
  disks_->advance(*core_,
                  {threads_->log->has_reserve(), threads_->log->wants_next_segment(),
                   threads_->writer.is_behind(), threads_->writer.durable_batch()},
                  stopping_, now_.time, out);
  carry_out(out);
  holder_->set_disk_full(disks_->refusal());
  if (core_->is_transferring()) disks_->hand_over_began();
  membership_->advance(*core_, now_.time, out);
  carry_out(out);
  propose_own();
}

// Entries of the leader's own: log time for the plugin, and a comparison of the replicas.
void Node::propose_own() {
  if (!core_->leader_is_ready() || core_->is_transferring()) return;
  const bool has_space = !disks_->watch().writes_stopped();
  const bool writes = divergence_->writes() == Divergence::Writes::kTaken && has_space;
  if (writes && ticks_.take_due(*core_->log_time(), now_.time)) propose(raft::EntryKind::kTick);
  if (host_.plugin->has_flag(CONNECTD_F_CANONICAL_SNAPSHOT) &&
      divergence_->take_compare_due(applied_, has_space, now_.time)) {
    propose(raft::EntryKind::kCompare);
  }
}

// ---- opening

Node::Node(NodeId self, const Genesis& genesis, Host host, Now now, Parts parts)
    : self_(self),
      genesis_(genesis),
      host_(std::move(host)),
      warnings_(std::move(parts.warnings)),
      skips_(std::move(parts.skips)),
      now_(now),
      core_(std::move(parts.core)),
      classifier_(std::move(parts.classifier)),
      holder_(std::move(parts.holder)),
      snapshots_(std::move(parts.snapshots)),
      membership_(std::move(parts.membership)),
      disks_(std::move(parts.disks)),
      divergence_(std::move(parts.divergence)),
      threads_(std::move(parts.threads)),
      handed_(parts.applied),
      applied_(parts.applied),
      digest_(parts.digest) {
  Effects out;
  membership_->follow(*core_, out);
  carry_out(out);
}

}  // namespace connectd::node
