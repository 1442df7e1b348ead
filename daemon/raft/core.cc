#include "raft/core.h"

#include <algorithm>
#include <tuple>
#include <utility>

#include "base/log.h"

namespace connectd::raft {

namespace {

// Limit on entries handed out and not yet applied, in multiples of Options::apply_bytes.
constexpr size_t kApplyWindow = 2;
// After the connection to the leader is lost, this many timeouts are drawn from a short range; they
// add up to about half an election timeout.
constexpr int kQuickTimeouts = 6;
}  // namespace

Core::Core(const Options& options, const Initial& initial, Now now)
    : options_(options),
      now_(now),
      // Nodes with the same seed draw different timeouts, too.
      random_(options.seed + options.id.value() * 0xd1342543de82ef95),
      term_(initial.hard_state.term),
      vote_(initial.hard_state.vote),
      log_(initial, options.cache_bytes),
      awaits_peers_(options.awaits_peers),
      batches_(initial.hard_state.term, initial.hard_state.vote),
      applies_(initial.applied),
      priority_(options.priority),
      // Requests must not repeat the numbers from before a restart; the clocks make them differ if
      // the seed is the same.
      asks_(Random(options.seed ^ static_cast<uint64_t>(now.wall_ns) ^
                   static_cast<uint64_t>(now.time.time_since_epoch().count()))
                .next()) {
  CHECK(options.id);
  CHECK(options.max_append_bytes <= options.max_payload_bytes) << "see send_entries()";
  if (term_ < initial.snapshot.term) {
    // A follower applies committed entries before they are on its own disk, and may take a snapshot
    // of them; so the snapshot's term may not have been durable. Nor was a vote in that term, so
    // none was sent.
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
  // Promises from before the restart are lost. Assume that the last one was made just now.
  if (!initial.is_fresh) promised_at_ = now.time;
  note_stamp(initial.last_stamp_ns);
  reset_election_timer();
  reported_ = {role(), leader(), term_};
  expected_by_ = next_deadline();
}

std::unique_ptr<Core> Core::clone() const { return std::unique_ptr<Core>(new Core(*this)); }

void Core::step(Event event, const Now& now) {
  // The process was stopped, or the loop was blocked, and what happened meanwhile is unknown. A
  // leader counts only answers to messages that it sends from now on, and a follower first listens
  // (thesis §6.4.1 on timing assumptions; late ticks are not replayed).
  bool gap = now.time > expected_by_ + options_.heartbeat_interval;
  watch_own_clock(now);
  now_ = now;
  if (gap) {
    if (Leader* leader = leading()) {
      leader->restart_quorum_period(now_.time);
      leader->void_lease();
    } else {
      election_deadline_ = std::max(election_deadline_, now_.time + options_.heartbeat_interval);
    }
  }
  contradiction_ = {};
  std::visit([this](auto& e) { on(e); }, event);
  expected_by_ = std::max(next_deadline(), now_.time);
}

Ready Core::take_ready() {
  forget_old_settings();
  if (leader_spoke_) promised_at_ = now_.time;
  leader_spoke_ = false;
  if (Leader* leader = leading()) {
    open_read_round(*leader);
    leave_joint(*leader);
    replicate(*leader);
    continue_transfer(*leader);
    if (has_unsendable()) become_follower(term_, NodeId());
  } else if (asks_.any_waiting()) {
    if (NodeId known = this->leader()) {
      send(known, ReadIndexRequest{asks_.ask(now_.time)});
    } else {
      for (uint64_t context : asks_.drop_all()) ready_.reads_dropped.push_back(context);
    }
  }
  release_held();
  if (batch_is_needed()) make_batch(ready_);
  hand_out_committed(ready_);
  ready_.messages = std::exchange(outbox_, {});
  auto soft_state = std::make_tuple(role(), leader(), term_);
  ready_.soft_state_changed = soft_state != reported_;
  reported_ = soft_state;
  expected_by_ = std::max(next_deadline(), now_.time);
  return std::exchange(ready_, {});
}

// ---- events

void Core::on(Received& event) {
  Envelope& m = event.envelope;
  if (!admit(m)) return;
  std::visit([&](auto& message) { on(m.from, m.term, message); }, m.message);
}

// Configurations and settings have their own events, with their own checks (thesis §4.3).
void Core::on(Propose& event) {
  auto may_propose = [&](EntryKind kind) {
    return may_be_proposed(kind) && settings_.back().settings.allow(row_of(kind).since_level);
  };
  auto fits = [&](const Proposal& proposal) {
    return proposal.payload.size() <= options_.max_payload_bytes;
  };
  Leader* leader = leading();
  if (leader == nullptr || leader->transfer || event.proposals.empty() ||
      !std::ranges::all_of(event.proposals, may_propose, &Proposal::kind) ||
      !std::ranges::all_of(event.proposals, fits)) {
    ++ready_.proposals_dropped;
    return;
  }
  for (Proposal& proposal : event.proposals) {
    const EntryKind kind = proposal.kind;
    append_own(*leader, kind, std::move(proposal));
  }
}

void Core::on(const ReadRequest& event) {
  if (Leader* leader = leading()) {
    if (event.lease && lease_until()) {
      ready_.reads.push_back({event.context, log_.commit_index()});
      return;
    }
    leader->reads.add({NodeId(), event.context});
  } else {
    asks_.add(event.context);
  }
}

void Core::on(const PeerLost& event) {
  if (!conf().is_member(event.peer)) priorities_.erase(event.peer);
  Follower* self = following();
  if (self == nullptr || !self->leader || event.peer != self->leader) return;
  // The leader's process may have ended. This node no longer counts it as heard and campaigns soon;
  // if only one link broke, the others still hear the leader and refuse the pre-vote.
  *self = Follower{};
  for (uint64_t context : asks_.drop_all()) ready_.reads_dropped.push_back(context);
  // The leader may still hold its lease, which depends on this node keeping its promise.
  if (keeps_promises()) return;
  quick_timeouts_ = kQuickTimeouts;
  reset_election_timer();
}

void Core::on(const PeerReached& event) {
  priorities_[event.peer] = event.priority;
  Leader* leader = leading();
  Progress* peer = leader == nullptr ? nullptr : leader->follower(event.peer);
  if (peer == nullptr) return;
  if (peer->state() != Progress::State::kSnapshot) peer->become_probe();
}

// The acknowledgement rule. A batch attests the log as of its submission, up to (last_index,
// last_term). This holds for the current log only if
//   - the term is still the same, and
//   - the log still has that position.
// The position alone is not enough: it can be overwritten in one term and return in a later one.
// Then three writes of it are in flight, of which only the last counts; the completion of the first
// would make an entry count as durable that a crash can still remove (ABA). By this rule alone, the
// log would stay unacknowledged after a change of term with nothing to write. Hence a change of
// term always submits a batch, and batches without entries attest the log, too.
void Core::on(const AppendDone& event) {
  batches_.complete(event.batch);
  while (const auto batch = batches_.take_completed()) {
    if (batch->term != term_) continue;
    if (log_.holds(batch->last_index, batch->last_term)) log_.durable_to(batch->last_index);
    Candidate* candidate = campaigning();
    // Paper §5.2: a candidate votes for itself. Like any vote, it counts when it is durable.
    if (candidate != nullptr && !candidate->is_pre && hard_state_is_durable()) {
      // The requests are sent now, and the voters have a full timeout to answer.
      if (!candidate->votes.contains(options_.id)) reset_election_timer();
      count_vote(options_.id, true);
    } else if (Leader* leader = leading()) {
      advance_commit(*leader);
    }
  }
}

void Core::on(const ApplyDone& event) {
  CHECK(event.index <= log_.handed_out()) << "applied what was not handed out";
  applies_.applied_to(event.index);
}

void Core::on(Loaded& event) {
  auto load = std::find(loads_.begin(), loads_.end(), event.from);
  if (load == loads_.end()) return;
  loads_.erase(load);
  bool compacted = event.entries.empty();
  // The log may have changed during the load: drop entries that are not in it any more.
  size_t good = 0;
  while (good < event.entries.size() && event.entries[good].index == event.from + good &&
         log_.holds(event.entries[good].index, event.entries[good].term)) {
    ++good;
  }
  event.entries.resize(good);

  if (Leader* leader = leading()) {
    for (auto& [id, peer] : leader->followers) {
      if (peer.loading != event.from) continue;
      peer.loading = Index();
      if (peer.next() != event.from || peer.state() != Progress::State::kReplicate) continue;
      if (compacted) {
        start_snapshot(id, peer, log_.first_index() - 1);
      } else {
        peer.loaded = event.entries;
      }
    }
  }
  if (log_.handed_out() + 1 != event.from) return;
  if (compacted) {
    // A snapshot is about to replace the log. Do not repeat the load until its event arrives.
    apply_load_not_before_ = now_.time + options_.heartbeat_interval;
  } else {
    loaded_for_apply_ = std::move(event.entries);
  }
}

void Core::on(const SnapshotInstalled& event) {
  // Paper figure 13: a snapshot older than what is applied changes nothing.
  if (event.mark.index <= applies_.applied()) return;
  if (log_.holds(event.mark.index, event.mark.term)) {
    // The log continues after the snapshot and stays. As the snapshot is durable, so is its prefix.
    log_.durable_to(event.mark.index);
    if (log_.commit_index() < event.mark.index) log_.commit_to(event.mark.index);
    if (log_.handed_out() < event.mark.index) log_.hand_out_to(event.mark.index);
    while (confs_.size() > 1 && confs_[1].index <= event.mark.index) confs_.pop_front();
    confs_.front() = {event.mark.index, event.conf, event.details};
  } else {
    CHECK(log_.commit_index() < event.mark.index) << "a snapshot contradicts the committed log";
    log_.reset(event.mark, event.last_stamp_ns);
    note_stamp(event.last_stamp_ns);
    confs_.clear();
    confs_.push_back({event.mark.index, event.conf, event.details});
    while (settings_.size() > 1 && settings_.back().index > event.mark.index) settings_.pop_back();
  }
  if (event.settings) {
    while (!settings_.empty() && settings_.front().index <= event.mark.index) settings_.pop_front();
    settings_.push_front({event.mark.index, *event.settings});
  }
  forget_old_settings();
  applies_.applied_to(event.mark.index);
  loaded_for_apply_.clear();
  conf_changed();
}

void Core::on(const Compacted& event) {
  log_.compact(event.first_index);
  while (confs_.size() > 1 && confs_[1].index < log_.first_index()) confs_.pop_front();
  forget_old_settings();
}

void Core::on(const SnapshotSent& event) {
  Leader* leader = leading();
  Progress* peer = leader == nullptr ? nullptr : leader->follower(event.peer);
  if (peer == nullptr) return;
  // A mark past the end of this log is of an earlier log of the node, and ignored.
  bool ok = event.ok && event.mark.index <= log_.last_index();
  peer->snapshot_ended(ok, event.mark.index);
  advance_commit(*leader);
}

// Thesis §4.1 and §4.3: one change at a time, and none before an entry of the leader's own term is
// committed (erratum of 2015: otherwise the majorities of two leaders' changes may not overlap).
ChangeRefusal Core::change_refusal() const {
  const Leader* leader = leading();
  if (leader == nullptr) return ChangeRefusal::kNotLeader;
  if (leader->transfer) return ChangeRefusal::kTransferring;
  if (!leader_is_ready()) return ChangeRefusal::kNotReady;
  return conf_is_settled() ? ChangeRefusal::kNone : ChangeRefusal::kUnderWay;
}

void Core::on(const ChangeConf& event) {
  CHECK(!event.conf.is_joint() && !event.conf.voters.empty()) << "no configuration to change to";
  if (change_refusal() != ChangeRefusal::kNone) return;
  ConfState next = event.conf;
  if (next.voters != conf().voters) next.voters_outgoing = conf().voters;
  append_conf(*leading(), next, event.details);
  leading()->forget_log_of(event.other_disk, log_.last_index() + 1, now_.time);
}

void Core::on(const Suffrage& event) {
  may_vote_ = event.may_vote;
  if (may_vote_ || following() != nullptr) return;
  become_follower(term_, NodeId());
}

void Core::append_conf(Leader& leader, const ConfState& conf, const Slice& details) {
  Proposal proposal;
  std::string payload = conf.encode();
  payload.append(details.text());
  proposal.payload = Slice::copy_of(payload);
  append_own(leader, EntryKind::kConfChange, std::move(proposal));
}

// Thesis §4.3: C_new alone counts once the joint configuration is committed. Any leader appends it,
// also one that found the joint configuration in its log.
void Core::leave_joint(Leader& leader) {
  if (!conf().is_joint() || !leader_is_ready() || confs_.back().index > log_.commit_index()) return;
  ConfState next = conf();
  next.voters_outgoing.clear();
  append_conf(leader, next, Slice(confs_.back().details));
}

// ---- the log and the configuration

void Core::append_own(Leader& leader, EntryKind kind, Proposal proposal) {
  Entry entry;
  entry.index = log_.last_index() + 1;
  entry.term = term_;
  entry.kind = kind;
  entry.session = proposal.session;
  entry.sequence = proposal.sequence;
  entry.acked_below = proposal.acked_below;
  entry.stamp_ns = leader.log_time.stamp(now_);
  entry.payload = std::move(proposal.payload);
  entry.checksum = entry_checksum(entry);
  append_to_log(std::move(entry));
}

void Core::note_stamp(int64_t stamp_ns) {
  log_time_offset_ = stamp_ns - now_.time.time_since_epoch().count();
}

void Core::append_to_log(Entry entry) {
  note_stamp(entry.stamp_ns);
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

void Core::truncate_log(Index from) {
  log_.truncate_from(from);
  // A leader also loads uncommitted entries, for its followers, and they may be next to apply.
  std::erase_if(loaded_for_apply_, [from](const Entry& entry) { return entry.index >= from; });
  bool changed = false;
  while (confs_.size() > 1 && confs_.back().index >= from) {
    confs_.pop_back();
    changed = true;
  }
  if (changed) conf_changed();
  while (settings_.size() > 1 && settings_.back().index >= from) settings_.pop_back();
}

void Core::conf_changed() {
  if (Leader* leader = leading()) {
    leader->set_members(conf(), log_.last_index() + 1, now_.time);
  } else if (campaigning() != nullptr && !may_campaign()) {
    // The snapshot that was installed during the campaign says that this node is no voter.
    leave_role();
  }
}

// ---- apply

void Core::hand_out_committed(Ready& ready) {
  Index next = log_.handed_out() + 1;
  if (next > log_.commit_index()) return;
  if (applies_.is_full(kApplyWindow * options_.apply_bytes)) return;

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
    applies_.handed_out(last, weight);
    log_.hand_out_to(last);
    next = last + 1;
  }
  // Load the next entries while these are applied.
  if (next <= log_.commit_index() && !log_.in_memory(next) && loaded_for_apply_.empty() &&
      now_.time >= apply_load_not_before_) {
    request_load(next, std::min(log_.memory_from(), log_.commit_index() + 1), options_.apply_bytes);
  }
}

void Core::request_load(Index from, Index to, size_t max_bytes) {
  if (std::find(loads_.begin(), loads_.end(), from) != loads_.end()) return;
  loads_.push_back(from);
  ready_.loads.push_back({from, to, max_bytes});
}

// ---- what is durable, and what may leave

bool Core::batch_is_needed() const {
  return log_.has_unwritten() || !batches_.is_submitted(term_, vote_) ||
         !with_next_batch_.empty() || (!held_.empty() && !batches_.any_in_flight());
}

void Core::make_batch(Ready& ready) {
  AppendBatch batch;
  batch.id = batches_.submit(term_, vote_, log_.last_index(), log_.last_term());
  batch.hard_state = {term_, vote_, log_.commit_index()};
  log_.take_unwritten(batch);
  batch.after_durable = std::exchange(with_next_batch_, {});
  // Batches become durable in order, so what held messages wait for is durable with this one.
  for (Held& held : held_) batch.after_durable.push_back(std::move(held.message));
  held_.clear();
  ready.append = std::move(batch);
}

Envelope Core::envelope(NodeId to, Message message) const {
  return {options_.id, to, term_, std::move(message)};
}

void Core::send_when_durable(Envelope message, Index needs) {
  if (hard_state_is_durable() && needs <= log_.durable_index()) {
    outbox_.push_back(std::move(message));
  } else {
    least_held_ = held_.empty() ? needs : std::min(least_held_, needs);
    held_.push_back({std::move(message), needs});
  }
}

// Held messages are sent with the turn's batch if there is one. If not, what they wait for is in a
// batch in flight (or, if its completion did not count, in the batch that is made for them).
void Core::release_held() {
  if (held_.empty() || least_held_ > log_.durable_index() || !hard_state_is_durable()) return;
  std::vector<Held> held = std::exchange(held_, {});
  for (Held& each : held) send_when_durable(std::move(each.message), each.needs);
}

Time Core::next_deadline() const {
  Time next;
  if (const Leader* leader = leading()) {
    next = leader->next_heartbeat;
    if (options_.check_quorum) {
      next = std::min(next, leader->quorum_period_began() + election_timeout());
    }
    if (leader->transfer) next = std::min(next, leader->transfer->deadline);
  } else {
    next = election_deadline_;
    if (asks_.oldest()) next = std::min(next, *asks_.oldest() + election_timeout());
  }
  if (apply_load_not_before_ > now_.time) next = std::min(next, apply_load_not_before_);
  return next;
}

// ---- what the host may ask

Role Core::role() const {
  if (leading() != nullptr) return Role::kLeader;
  if (following() != nullptr) return Role::kFollower;
  return std::get<Candidate>(role_).is_pre ? Role::kPreCandidate : Role::kCandidate;
}

NodeId Core::leader() const {
  if (leading() != nullptr) return options_.id;
  const Follower* self = following();
  return self == nullptr ? NodeId() : self->leader;
}

const Entry* Core::entry_in_memory(Index index) const {
  return log_.in_memory(index) ? &log_.at(index) : nullptr;
}

bool Core::leader_is_ready() const {
  const Leader* leader = leading();
  return leader != nullptr && log_.commit_index() >= leader->term_start;
}

std::optional<int64_t> Core::log_time() const {
  const Leader* leader = leading();
  if (leader == nullptr) return {};
  return leader->log_time.at(now_);
}

std::optional<LogTime::View> Core::log_time_view() const {
  const Leader* leader = leading();
  if (leader == nullptr) return {};
  return leader->log_time.view(now_);
}

bool Core::is_transferring() const {
  const Leader* leader = leading();
  return leader != nullptr && leader->transfer;
}

std::vector<PeerStatus> Core::peers() const {
  std::vector<PeerStatus> peers;
  const Leader* leader = leading();
  if (leader == nullptr) return peers;
  for (const auto& [id, progress] : leader->followers) {
    peers.push_back({id, progress.match(), progress.next(),
                     static_cast<PeerStatus::State>(progress.state()), progress.inflight_bytes(),
                     progress.active, progress.active || progress.was_active, priority_of(id)});
  }
  return peers;
}

bool Core::is_new_leader() const {
  const Leader* leader = leading();
  return leader != nullptr && now_.time - leader->elected_at < election_timeout();
}

}  // namespace connectd::raft
