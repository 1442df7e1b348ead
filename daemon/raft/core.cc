#include "raft/core.h"

#include <algorithm>
#include <tuple>
#include <utility>

#include "base/log.h"
#include "raft/core_impl.h"

namespace connectd::raft {

namespace {
// Of Ready::committed, handed out and not yet applied: this many times Options::apply_bytes.
constexpr size_t kApplyWindow = 2;
}  // namespace

Core::Impl::Impl(const Options& options, const Initial& initial, Now now)
    : options_(options),
      now_(now),
      // Also nodes that were given the same seed draw different timeouts.
      random_(options.seed + options.id.value() * 0xd1342543de82ef95),
      term_(initial.hard_state.term),
      vote_(initial.hard_state.vote),
      log_(initial, options.cache_bytes),
      written_term_(initial.hard_state.term),
      written_vote_(initial.hard_state.vote),
      applied_(initial.applied),
      priority_(options.priority),
      // A new life's questions must not repeat an old life's numbers; the clocks make them differ
      // where the seed does not.
      asks_(Random(options.seed ^ static_cast<uint64_t>(now.wall_ns) ^
                   static_cast<uint64_t>(now.time.time_since_epoch().count()))
                .next()) {
  CHECK(options.id);
  if (term_ < initial.snapshot.term) {
    // A follower applies what is committed before its own disk has it, and may take a snapshot of
    // that: then the term was not durable yet. No vote in it was either, so none has left.
    term_ = initial.snapshot.term;
    vote_ = NodeId();
  }
  CHECK(term_ >= log_.last_term()) << "the hard state is older than the log";
  confs_.assign(initial.conf_history.begin(), initial.conf_history.end());
  if (confs_.empty()) confs_.push_back({Index(), initial.conf, {}});
  CHECK(confs_.back().conf == initial.conf);
  settings_.assign(initial.settings_history.begin(), initial.settings_history.end());
  if (settings_.empty()) {
    Settings settings;
    settings.election_timeout = options.election_timeout;
    settings_.push_back({Index(), settings});
  }
  forget_old_settings();
  // What an earlier life has promised is forgotten; it ended just now, for all that is known.
  if (!initial.is_fresh) promised_at_ = now.time;
  reset_election_timer();
  told_ = {role_, leader_, term_};
  promised_ = next_deadline();
}

void Core::Impl::step(Event event, const Now& now) {
  // The process was stopped, or the loop was blocked: what happened meanwhile is unknown. A leader
  // judges its quorum only by answers to what it sends from now on, and a follower first listens
  // (thesis §6.4.1 on timing assumptions; late ticks are not replayed).
  bool gap = now.time > promised_ + options_.heartbeat_interval;
  watch_own_clock(now);
  now_ = now;
  if (gap) {
    if (role_ == Role::kLeader) {
      restart_quorum_period();
      void_lease();
    } else {
      election_deadline_ = std::max(election_deadline_, now_.time + options_.heartbeat_interval);
    }
  }
  std::visit([this](auto& e) { on(e); }, event);
  promised_ = std::max(next_deadline(), now_.time);
}

Ready Core::Impl::take_ready() {
  forget_old_settings();
  if (leader_spoke_) promised_at_ = now_.time;
  leader_spoke_ = false;
  if (role_ == Role::kLeader) {
    open_read_round();
    leave_joint();
    replicate();
    continue_transfer();
  } else if (asks_.any_waiting()) {
    if (leader_) {
      send(leader_, ReadIndexRequest{asks_.ask(now_.time)});
    } else {
      for (uint64_t context : asks_.drop_all()) ready_.reads_dropped.push_back(context);
    }
  }
  release_held();
  if (batch_is_needed()) make_batch(ready_);
  hand_out_committed(ready_);
  ready_.messages = std::exchange(outbox_, {});
  auto soft_state = std::make_tuple(role_, leader_, term_);
  ready_.soft_state_changed = soft_state != told_;
  told_ = soft_state;
  promised_ = std::max(next_deadline(), now_.time);
  return std::exchange(ready_, {});
}

// ---- events

void Core::Impl::on(const TimePassed&) { check_timers(); }

void Core::Impl::on(Received& event) {
  Envelope& m = event.envelope;
  if (!admit(m)) return;
  std::visit([&](auto& message) { on(m.from, m.term, message); }, m.message);
}

void Core::Impl::on(Propose& event) {
  // Configurations and settings have events of their own, with checks of their own (thesis §4.3).
  const bool refused = role_ != Role::kLeader || transferee_ || event.proposals.empty() ||
                       !std::ranges::all_of(event.proposals, may_be_proposed, &Proposal::kind);
  if (refused) {
    ++ready_.proposals_dropped;
    return;
  }
  for (Proposal& proposal : event.proposals) append_own(proposal.kind, std::move(proposal));
}

void Core::Impl::on(const ReadRequest& event) {
  if (role_ == Role::kLeader) {
    if (event.lease && lease_until()) {
      ready_.reads.push_back({event.context, log_.commit_index()});
      return;
    }
    rounds_.add({NodeId(), event.context});
  } else {
    asks_.add(event.context);
  }
}

void Core::Impl::on(const PeerLost& event) {
  if (role_ == Role::kLeader || event.peer != leader_ || !leader_) return;
  // The leader's process may be gone. This node does not count it as heard any more and campaigns
  // soon; if only one link broke, the others still hear the leader and refuse the pre-vote.
  leader_ = NodeId();
  leader_heard_at_.reset();
  for (uint64_t context : asks_.drop_all()) ready_.reads_dropped.push_back(context);
  // The leader may go on by its lease, which counts on this node to wait as it has promised.
  if (keeps_promises()) return;
  quick_timeouts_ = kQuickTimeouts;
  reset_election_timer();
}

void Core::Impl::on(const PeerReached& event) {
  priorities_[event.peer] = event.priority;
  auto peer = peers_.find(event.peer);
  if (role_ != Role::kLeader || peer == peers_.end()) return;
  if (peer->second.state() != Progress::State::kSnapshot) peer->second.become_probe();
}

// The acknowledgement rule. A batch vouches for the log as it stood when the batch was submitted:
// up to (last_index, last_term). That says something about the log of now only if
//   - the term is still the same, and
//   - the log still holds that position.
// The position alone is not enough: it can be overwritten in one term and come back in a later one,
// and then three writes of it are under way, of which only the last one counts; the first one's
// completion would make an entry count as durable that a crash can still take away (ABA). The rule
// would leave the log unacknowledged after a change of term with nothing to write, hence a change
// of term always submits a batch, and batches without entries vouch, too.
void Core::Impl::on(const AppendDone& event) {
  CHECK(event.batch <= last_batch_) << "a batch is done that was never given out";
  if (event.batch <= done_batch_) return;
  done_batch_ = event.batch;
  while (!batches_.empty() && batches_.front().id <= done_batch_) {
    const Batch batch = batches_.front();
    batches_.pop_front();
    if (batch.term != term_) continue;
    if (log_.holds(batch.last_index, batch.last_term)) log_.durable_to(batch.last_index);
    // Paper §5.2: a candidate votes for itself, which counts when it is durable like any vote.
    if (role_ == Role::kCandidate && hard_state_is_durable()) {
      // The requests leave now, and the voters have a whole timeout to answer.
      if (votes_.find(options_.id) == votes_.end()) reset_election_timer();
      count_vote(options_.id, true);
    } else if (role_ == Role::kLeader) {
      advance_commit();
    }
  }
}

void Core::Impl::on(const ApplyDone& event) {
  CHECK(event.index <= log_.handed_out()) << "applied what was not handed out";
  applied_ = std::max(applied_, event.index);
  while (!applying_.empty() && applying_.front().first <= applied_) {
    applying_bytes_ -= applying_.front().second;
    applying_.pop_front();
  }
}

void Core::Impl::on(Loaded& event) {
  auto load = std::find(loads_.begin(), loads_.end(), event.from);
  if (load == loads_.end()) return;
  loads_.erase(load);
  bool compacted = event.entries.empty();
  // The log may have changed while the disk was read: what is not in it any more is left out.
  size_t good = 0;
  while (good < event.entries.size() && event.entries[good].index == event.from + good &&
         log_.holds(event.entries[good].index, event.entries[good].term)) {
    ++good;
  }
  event.entries.resize(good);

  for (auto& [id, peer] : peers_) {
    if (peer.loading != event.from) continue;
    peer.loading = Index();
    if (peer.next() != event.from || peer.state() != Progress::State::kReplicate) continue;
    if (compacted) {
      start_snapshot(id, peer);
    } else {
      peer.loaded = event.entries;
    }
  }
  if (log_.handed_out() + 1 != event.from) return;
  if (compacted) {
    // A snapshot is about to replace the log; until its event comes, do not ask in a circle.
    apply_load_not_before_ = now_.time + options_.heartbeat_interval;
  } else {
    loaded_for_apply_ = std::move(event.entries);
  }
}

void Core::Impl::on(const SnapshotInstalled& event) {
  // Paper figure 13: a snapshot older than what is applied changes nothing.
  if (event.mark.index <= applied_) return;
  if (log_.holds(event.mark.index, event.mark.term)) {
    // The log goes on behind the snapshot, and stays. The snapshot is durable, so its prefix is.
    log_.durable_to(event.mark.index);
    if (log_.commit_index() < event.mark.index) log_.commit_to(event.mark.index);
    if (log_.handed_out() < event.mark.index) log_.hand_out_to(event.mark.index);
    while (confs_.size() > 1 && confs_[1].index <= event.mark.index) confs_.pop_front();
    confs_.front() = {event.mark.index, event.conf, event.details};
  } else {
    CHECK(log_.commit_index() < event.mark.index) << "a snapshot contradicts the committed log";
    log_.reset(event.mark, event.last_stamp_ns);
    confs_.clear();
    confs_.push_back({event.mark.index, event.conf, event.details});
    while (settings_.size() > 1 && settings_.back().index > event.mark.index) settings_.pop_back();
  }
  if (event.settings) {
    while (!settings_.empty() && settings_.front().index <= event.mark.index) settings_.pop_front();
    settings_.push_front({event.mark.index, *event.settings});
  }
  forget_old_settings();
  applied_ = event.mark.index;
  while (!applying_.empty() && applying_.front().first <= applied_) {
    applying_bytes_ -= applying_.front().second;
    applying_.pop_front();
  }
  loaded_for_apply_.clear();
  conf_changed();
}

void Core::Impl::on(const Compacted& event) {
  log_.compact(event.first_index);
  while (confs_.size() > 1 && confs_[1].index < log_.first_index()) confs_.pop_front();
  forget_old_settings();
}

void Core::Impl::on(const SnapshotSent& event) {
  auto peer = peers_.find(event.peer);
  if (role_ != Role::kLeader || peer == peers_.end()) return;
  // A mark that this log does not reach is of another life of the log: nothing to learn from it.
  bool ok = event.ok && event.mark.index <= log_.last_index();
  peer->second.snapshot_ended(ok, event.mark.index);
  advance_commit();
}

// Thesis §4.1 and §4.3: one change at a time, and none before an entry of the own term is committed
// (the erratum of 2015: else two leaders' changes may have majorities that do not meet).
ChangeRefusal Core::Impl::change_refusal() const {
  if (role_ != Role::kLeader) return ChangeRefusal::kNotLeader;
  if (transferee_) return ChangeRefusal::kTransferring;
  if (!leader_is_ready()) return ChangeRefusal::kNotReady;
  return conf_is_settled() ? ChangeRefusal::kNone : ChangeRefusal::kUnderWay;
}

void Core::Impl::on(const ChangeConf& event) {
  CHECK(!event.conf.is_joint() && !event.conf.voters.empty()) << "no configuration to change to";
  if (change_refusal() != ChangeRefusal::kNone) return;
  ConfState next = event.conf;
  if (next.voters != conf().voters) next.voters_outgoing = conf().voters;
  append_conf(next, event.details);
}

void Core::Impl::on(const Suffrage& event) {
  may_vote_ = event.may_vote;
  if (may_vote_ || role_ == Role::kFollower) return;
  become_follower(term_, NodeId());
}

void Core::Impl::append_conf(const ConfState& conf, const Slice& details) {
  Proposal proposal;
  std::string payload = conf.encode();
  payload.append(details.text());
  proposal.payload = Slice::copy_of(payload);
  append_own(EntryKind::kConfChange, std::move(proposal));
}

// Thesis §4.3: C_new alone counts once the joint configuration is committed. Any leader does it,
// also one that has found the joint configuration in its log.
void Core::Impl::leave_joint() {
  if (!conf().is_joint() || !leader_is_ready() || confs_.back().index > log_.commit_index()) return;
  ConfState next = conf();
  next.voters_outgoing.clear();
  append_conf(next, Slice(confs_.back().details));
}

// ---- the log and the configuration

void Core::Impl::append_own(EntryKind kind, Proposal proposal) {
  Entry entry;
  entry.index = log_.last_index() + 1;
  entry.term = term_;
  entry.kind = kind;
  entry.session = proposal.session;
  entry.sequence = proposal.sequence;
  entry.acked_below = proposal.acked_below;
  entry.stamp_ns = log_time_.stamp(now_);
  entry.payload = std::move(proposal.payload);
  entry.checksum = entry_checksum(entry);
  append_to_log(std::move(entry));
}

void Core::Impl::append_to_log(Entry entry) {
  if (brings_conf(entry.kind)) {
    // Thesis §4.1: a server uses the latest configuration in its log, committed or not.
    ConfAtIndex change{entry.index, {}, {}};
    ByteReader in(entry.payload.view());
    CHECK(ConfState::decode(in, change.conf)) << "a configuration that does not decode";
    change.details = entry.payload.part(entry.payload.size() - in.left(), in.left());
    log_.append(std::move(entry));
    confs_.push_back(std::move(change));
    conf_changed();
  } else if (brings_settings(entry.kind)) {
    SettingsAtIndex change{entry.index, {}};
    ByteReader in(entry.payload.view());
    CHECK(Settings::decode(in, change.settings)) << "settings that do not decode";
    log_.append(std::move(entry));
    settings_.push_back(change);
  } else {
    log_.append(std::move(entry));
  }
}

void Core::Impl::truncate_log(Index from) {
  log_.truncate_from(from);
  // A leader loads for its followers what nobody may have committed yet, and it may be next to
  // apply.
  std::erase_if(loaded_for_apply_, [from](const Entry& entry) { return entry.index >= from; });
  bool changed = false;
  while (confs_.size() > 1 && confs_.back().index >= from) {
    confs_.pop_back();
    changed = true;
  }
  if (changed) conf_changed();
  while (settings_.size() > 1 && settings_.back().index >= from) settings_.pop_back();
}

void Core::Impl::conf_changed() {
  if (role_ != Role::kLeader) return;
  std::erase_if(peers_, [&](const auto& peer) { return !conf().is_member(peer.first); });
  for (NodeId id : conf().members()) {
    if (id != options_.id) peers_.try_emplace(id, log_.last_index() + 1, now_.time);
  }
}

// ---- apply

void Core::Impl::hand_out_committed(Ready& ready) {
  Index next = log_.handed_out() + 1;
  if (next > log_.commit_index()) return;
  if (!applying_.empty() && applying_bytes_ >= kApplyWindow * options_.apply_bytes) return;

  size_t weight = 0;
  if (log_.in_memory(next)) {
    weight = log_.copy(next, log_.commit_index(), options_.apply_bytes, SIZE_MAX, ready.committed);
  } else if (!loaded_for_apply_.empty() && loaded_for_apply_.front().index == next) {
    size_t count = 0;
    for (; count < loaded_for_apply_.size(); ++count) {
      const Entry& entry = loaded_for_apply_[count];
      if (entry.index > log_.commit_index()) break;
      if (count > 0 && weight + entry.weight() > options_.apply_bytes) break;
      weight += entry.weight();
    }
    auto end = loaded_for_apply_.begin() + static_cast<std::ptrdiff_t>(count);
    ready.committed.assign(std::make_move_iterator(loaded_for_apply_.begin()),
                           std::make_move_iterator(end));
    loaded_for_apply_.erase(loaded_for_apply_.begin(), end);
  } else {
    loaded_for_apply_.clear();
  }
  if (!ready.committed.empty()) {
    Index last = ready.committed.back().index;
    applying_.emplace_back(last, weight);
    applying_bytes_ += weight;
    log_.hand_out_to(last);
    next = last + 1;
  }
  // What comes next is loaded while this is applied.
  if (next <= log_.commit_index() && !log_.in_memory(next) && loaded_for_apply_.empty() &&
      now_.time >= apply_load_not_before_) {
    request_load(next, std::min(log_.memory_from(), log_.commit_index() + 1), options_.apply_bytes);
  }
}

void Core::Impl::request_load(Index from, Index to, size_t max_bytes) {
  if (std::find(loads_.begin(), loads_.end(), from) != loads_.end()) return;
  loads_.push_back(from);
  ready_.loads.push_back({from, to, max_bytes});
}

// ---- what is durable, and what may leave

bool Core::Impl::hard_state_is_durable() const {
  return written_term_ == term_ && written_vote_ == vote_ && done_batch_ >= hard_state_batch_;
}

bool Core::Impl::batch_is_needed() const {
  return log_.has_unwritten() || written_term_ != term_ || written_vote_ != vote_ ||
         !with_next_batch_.empty() || (!held_.empty() && batches_.empty());
}

void Core::Impl::make_batch(Ready& ready) {
  AppendBatch batch;
  batch.id = ++last_batch_;
  batch.hard_state = {term_, vote_, log_.commit_index()};
  log_.take_unwritten(batch);
  if (written_term_ != term_ || written_vote_ != vote_) {
    written_term_ = term_;
    written_vote_ = vote_;
    hard_state_batch_ = batch.id;
  }
  batch.after_durable = std::exchange(with_next_batch_, {});
  // Batches become durable in order: whatever is held is durable when this one is.
  for (Held& held : held_) batch.after_durable.push_back(std::move(held.message));
  held_.clear();
  batches_.push_back({batch.id, term_, log_.last_index(), log_.last_term()});
  ready.append = std::move(batch);
}

Envelope Core::Impl::envelope(NodeId to, Message message) const {
  return {options_.id, to, term_, std::move(message)};
}

void Core::Impl::send_when_durable(Envelope message, Index needs) {
  if (hard_state_is_durable() && needs <= log_.durable_index()) {
    outbox_.push_back(std::move(message));
  } else {
    least_held_ = held_.empty() ? needs : std::min(least_held_, needs);
    held_.push_back({std::move(message), needs});
  }
}

// Held messages leave with the turn's batch if there is one. Without one, what they wait for is in
// a batch under way (or, if its completion did not count, in the one that is made for them).
void Core::Impl::release_held() {
  if (held_.empty() || least_held_ > log_.durable_index() || !hard_state_is_durable()) return;
  std::vector<Held> held = std::exchange(held_, {});
  for (Held& each : held) send_when_durable(std::move(each.message), each.needs);
}

Time Core::Impl::next_deadline() const {
  Time next;
  if (role_ == Role::kLeader) {
    next = next_heartbeat_;
    if (options_.check_quorum) next = std::min(next, quorum_since_ + election_timeout());
    if (transferee_) next = std::min(next, transfer_deadline_);
  } else {
    next = election_deadline_;
    if (asks_.oldest()) next = std::min(next, *asks_.oldest() + election_timeout());
  }
  if (apply_load_not_before_ > now_.time) next = std::min(next, apply_load_not_before_);
  return next;
}

// ---- the door

Core::Core(const Options& options, const Initial& initial, Now now)
    : impl_(std::make_unique<Impl>(options, initial, now)) {}
Core::Core(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Core::~Core() = default;
std::unique_ptr<Core> Core::clone() const {
  return std::unique_ptr<Core>(new Core(std::make_unique<Impl>(*impl_)));
}
void Core::step(Event event, const Now& now) { impl_->step(std::move(event), now); }
Ready Core::take_ready() { return impl_->take_ready(); }
Time Core::next_deadline() const { return impl_->next_deadline(); }
NodeId Core::id() const { return impl_->options_.id; }
Role Core::role() const { return impl_->role_; }
Term Core::term() const { return impl_->term_; }
NodeId Core::leader() const { return impl_->leader_; }
Index Core::last_index() const { return impl_->log_.last_index(); }
Index Core::commit_index() const { return impl_->log_.commit_index(); }
Index Core::applied_index() const { return impl_->applied_; }
Index Core::durable_index() const { return impl_->log_.durable_index(); }
Index Core::first_index() const { return impl_->log_.first_index(); }
Term Core::term_at(Index index) const { return impl_->log_.term_at(index); }
const Entry* Core::entry_in_memory(Index index) const {
  return impl_->log_.in_memory(index) ? &impl_->log_.at(index) : nullptr;
}
const ConfState& Core::conf() const { return impl_->conf(); }
Index Core::conf_index() const { return impl_->confs_.back().index; }
const Slice& Core::conf_details() const { return impl_->confs_.back().details; }
bool Core::conf_is_settled() const { return impl_->conf_is_settled(); }
ChangeRefusal Core::change_refusal() const { return impl_->change_refusal(); }
const Settings& Core::settings() const { return impl_->settings_.back().settings; }
Index Core::settings_index() const { return impl_->settings_.back().index; }
uint8_t Core::priority_of(NodeId id) const { return impl_->priority_of(id); }
std::optional<Time> Core::lease_until() const { return impl_->lease_until(); }
HardState Core::hard_state() const {
  return {impl_->term_, impl_->vote_, impl_->log_.commit_index()};
}
bool Core::leader_is_ready() const { return impl_->leader_is_ready(); }
bool Core::is_transferring() const { return static_cast<bool>(impl_->transferee_); }
size_t Core::unstable_bytes() const { return impl_->log_.unstable_bytes(); }

std::vector<PeerStatus> Core::peers() const {
  std::vector<PeerStatus> peers;
  for (const auto& [id, progress] : impl_->peers_) {
    peers.push_back({id, progress.match(), progress.next(),
                     static_cast<PeerStatus::State>(progress.state()), progress.inflight_bytes(),
                     progress.active, progress.active || progress.was_active,
                     impl_->priority_of(id)});
  }
  return peers;
}

}  // namespace connectd::raft
