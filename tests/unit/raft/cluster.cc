#include "tests/unit/raft/cluster.h"

#include <fmt/format.h>

#include <algorithm>
#include <functional>

#include "base/log.h"

namespace connectd::raft {

void Cluster::Disk::write(const AppendBatch& batch) {
  hard_state = batch.hard_state;
  if (batch.replaces_from && *batch.replaces_from <= last()) {
    log.resize(*batch.replaces_from - first);
  }
  for (const Entry& entry : batch.entries) {
    if (entry.index < first) continue;  // written late, after a snapshot
    log.push_back(entry);
  }
}

Cluster::Cluster(const ConfState& conf, uint64_t seed, const Options& model,
                 const std::vector<NodeId>& others, const std::optional<Settings>& settings)
    : random_(seed), conf_(conf) {
  std::vector<NodeId> all = conf.members();
  all.insert(all.end(), others.begin(), others.end());
  for (NodeId id : all) {
    Node& node = nodes_[id];
    node.disk.snapshot_conf = node.applied_conf = conf_;
    node.disk.snapshot_settings = node.applied_settings = settings;
    node.clock_base = node.clock_since = time_;
    node.options = model;
    node.options.id = id;
    node.options.seed = random_.next();
    node.wall_offset = static_cast<int64_t>(random_.below(1'000'000'000));
  }
  for (NodeId id : all) restart(id);
}

std::vector<NodeId> Cluster::ids() const {
  std::vector<NodeId> ids;
  for (const auto& [id, node] : nodes_) ids.push_back(id);
  return ids;
}

NodeId Cluster::leader() const {
  NodeId leader;
  Term term;
  for (const auto& [id, node] : nodes_) {
    if (node.core && node.core->role() == Role::kLeader && node.core->term() > term) {
      leader = id;
      term = node.core->term();
    }
  }
  return leader;
}

Now Cluster::now_of(const Node& node) const {
  const Time local = node.clock_base + Duration((time_ - node.clock_since).count() *
                                                static_cast<int64_t>(node.clock_permille) / 1000);
  return {local, local.time_since_epoch().count() + node.wall_offset};
}

// When the core wishes to look at its timers, by the clock of all.
Time Cluster::deadline_of(const Node& node) const {
  const Time local = node.core->next_deadline();
  if (local <= node.clock_base) return node.clock_since;
  const auto permille = static_cast<int64_t>(node.clock_permille);
  return node.clock_since +
         Duration(((local - node.clock_base).count() * 1000 + permille - 1) / permille);
}

Duration Cluster::drawn(Duration low, Duration high) {
  return Duration(static_cast<int64_t>(
      random_.between(static_cast<uint64_t>(low.count()), static_cast<uint64_t>(high.count()))));
}

void Cluster::after(Duration delay, std::function<void()> run) {
  actions_.push({time_ + delay, ++order_, std::move(run)});
}

void Cluster::fail(std::string text) { failures.push_back(std::move(text)); }

// To the next thing that happens, at most to `limit`.
void Cluster::advance(Time limit) {
  Time next = limit;
  if (!actions_.empty()) next = std::min(next, actions_.top().at);
  NodeId waking;
  for (auto& [id, node] : nodes_) {
    if (!node.core || is_paused(node)) continue;
    if (const Time deadline = deadline_of(node); deadline < next) {
      next = deadline;
      waking = id;
    }
  }
  time_ = std::max(time_, next);
  if (waking) {
    step(waking, TimePassed{});
  } else if (!actions_.empty() && actions_.top().at <= time_) {
    auto run = actions_.top().run;
    actions_.pop();
    run();
  }
}

void Cluster::run_for(Duration duration) {
  run_until(duration, [] { return false; });
}

void Cluster::crash(NodeId id) {
  Node& node = nodes_.at(id);
  if (!node.core) return;
  // Some of the batches in flight reached the disk, the others did not.
  uint64_t survive = random_.below(node.writing.size() + 1);
  for (uint64_t i = 0; i < survive; ++i) node.disk.write(node.writing[i]);
  node.writing.clear();
  node.to_apply.clear();
  node.reads.clear();
  node.held.clear();
  node.paused_until = Time();
  node.core.reset();
  ++node.life;
  checker_.restarted(id);
}

void Cluster::restart(NodeId id) {
  Node& node = nodes_.at(id);
  if (node.core) return;
  Disk& disk = node.disk;
  if (disk.last() < disk.snapshot.index) {
    disk.log.clear();
    disk.first = disk.snapshot.index + 1;
    disk.before_first = disk.snapshot.term;
  }
  Initial initial;
  initial.hard_state = disk.hard_state;
  initial.conf = disk.snapshot_conf;
  initial.conf_history.push_back({disk.snapshot.index, initial.conf});
  for (const Entry& entry : disk.log) {
    if (entry.kind != EntryKind::kConfChange || entry.index <= disk.snapshot.index) continue;
    ByteReader in(entry.payload.view());
    CHECK(ConfState::decode(in, initial.conf));
    initial.conf_history.push_back({entry.index, initial.conf});
  }
  if (disk.snapshot_settings) {
    initial.settings_history.push_back({disk.snapshot.index, *disk.snapshot_settings});
  }
  for (const Entry& entry : disk.log) {
    if (entry.kind != EntryKind::kSettings || entry.index <= disk.snapshot.index) continue;
    SettingsAtIndex change{entry.index, {}};
    ByteReader in(entry.payload.view());
    CHECK(Settings::decode(in, change.settings));
    initial.settings_history.push_back(change);
  }
  initial.is_fresh = node.starts == 0;
  initial.snapshot = disk.snapshot;
  initial.first_index = disk.first;
  initial.before_first_term = disk.before_first;
  initial.last_index = disk.last();
  initial.applied = disk.snapshot.index;
  initial.last_stamp_ns = disk.log.empty() ? disk.snapshot_stamp : disk.log.back().stamp_ns;
  for (const Entry& entry : disk.log) {
    if (initial.terms.empty() || initial.terms.back().term != entry.term) {
      initial.terms.push_back({entry.index, entry.term});
    }
  }
  node.applied = disk.snapshot_state;
  node.applied_conf = disk.snapshot_conf;
  node.applied_settings = disk.snapshot_settings;
  node.applied_index = disk.snapshot.index;
  ++node.life;
  ++node.starts;
  node.core = std::make_unique<Core>(node.options, initial, now_of(node));
  turn(id);
}

void Cluster::tell_lost(NodeId at, NodeId peer) {
  if (is_up(at)) step(at, PeerLost{peer});
}

void Cluster::tell_reached(NodeId at, NodeId peer) {
  if (is_up(at)) step(at, PeerReached{peer});
}

void Cluster::step(NodeId id, Event event) {
  Node& node = nodes_.at(id);
  if (!node.core || !failures.empty()) return;
  if (is_paused(node)) {
    node.held.push_back(std::move(event));
    return;
  }
  node.core->step(std::move(event), now_of(node));
  check(id);
  turn(id);
}

bool Cluster::change(NodeId id, const ConfState& conf) {
  if (!is_up(id) || core(id).change_refusal() != ChangeRefusal::kNone) return false;
  step(id, ChangeConf{conf, {}});
  return true;
}

bool Cluster::propose(NodeId id, std::string payload) {
  if (!is_up(id) || core(id).role() != Role::kLeader) return false;
  Propose propose;
  Proposal proposal;
  proposal.payload = Slice::copy_of(payload);
  propose.proposals.push_back(std::move(proposal));
  step(id, std::move(propose));
  return true;
}

void Cluster::read(NodeId id, bool lease) {
  if (!is_up(id)) return;
  uint64_t context = next_context_++;
  nodes_.at(id).reads[context] = max_committed_;
  step(id, ReadRequest{context, lease});
}

void Cluster::set_clock_rate(NodeId id, uint64_t permille) {
  Node& node = nodes_.at(id);
  node.clock_base = now_of(node).time;
  node.clock_since = time_;
  node.clock_permille = permille;
}

void Cluster::pause(NodeId id, Duration duration, bool reads_first) {
  Node& node = nodes_.at(id);
  if (!node.core || is_paused(node)) return;
  node.paused_until = time_ + duration;
  node.reads_first = reads_first;
  after(duration, [this, id, life = node.life] {
    if (nodes_.at(id).life == life) resume(id);
  });
}

void Cluster::resume(NodeId id) {
  Node& node = nodes_.at(id);
  node.paused_until = Time();
  std::vector<Event> held = std::exchange(node.held, {});
  if (node.reads_first) {
    std::ranges::stable_partition(
        held, [](const Event& event) { return std::holds_alternative<ReadRequest>(event); });
  }
  for (Event& event : held) step(id, std::move(event));
}

void Cluster::snapshot(NodeId id, uint64_t trailing) {
  Node& node = nodes_.at(id);
  if (!node.core || is_paused(node) || node.applied_index <= node.disk.snapshot.index) return;
  Index index = node.applied_index;
  Term term = node.core->term_at(index);
  node.disk.snapshot = {index, term};
  node.disk.snapshot_state = node.applied;
  node.disk.snapshot_conf = node.applied_conf;
  node.disk.snapshot_settings = node.applied_settings;
  step(id, SnapshotTaken{node.disk.snapshot});
  Index keep = std::min(index, node.core->durable_index());
  if (keep.value() <= trailing) return;
  Index first = keep - trailing + 1;
  if (first <= node.disk.first || first > node.disk.last() + 1) return;
  Disk& disk = node.disk;
  const Entry& before = disk.log[first - disk.first - 1];
  disk.before_first = before.term;
  disk.snapshot_stamp = before.stamp_ns;
  disk.log.erase(disk.log.begin(),
                 disk.log.begin() + static_cast<std::ptrdiff_t>(first - disk.first));
  disk.first = first;
  step(id, Compacted{first});
}

// ---- one turn of a node's loop

void Cluster::turn(NodeId id) {
  Node& node = nodes_.at(id);
  Ready ready = node.core->take_ready();
  check(id);
  uint64_t life = node.life;
  for (Envelope& envelope : ready.messages) {
    check_leaving(node, envelope);
    send(std::move(envelope));
  }
  if (ready.append) {
    for (const Entry& entry : ready.append->entries) {
      // Log matching (paper, figure 3): same index and term: same entry, and same prefix.
      auto prev_term = node.core->term_at(entry.index - 1);
      auto [seen, added] =
          seen_entries_.try_emplace({entry.index, entry.term}, prev_term, entry.checksum);
      if (entry.checksum != entry_checksum(entry)) fail("an entry's checksum is wrong");
      if (!added && seen->second.second != entry.checksum) {
        fail(fmt::format("two entries at index {} term {}", entry.index, entry.term));
      }
      if (!added && prev_term && seen->second.first && seen->second.first != prev_term) {
        fail(fmt::format("entry {} has different predecessors", entry.index));
      }
    }
    bool idle = node.writing.empty();
    node.writing.push_back(std::move(*ready.append));
    if (idle) {
      after(drawn(Duration(0), weather.max_sync), [this, id, life] {
        if (nodes_.at(id).life == life) sync_one(id);
      });
    }
  }
  for (Entry& entry : ready.committed) {
    size_t at = entry.index.value() - 1;
    if (at == committed_.size()) {
      committed_.push_back({entry.term, entry.checksum, node.core->term()});
      max_committed_ = entry.index;
    } else if (at > committed_.size()) {
      fail(fmt::format("node {} applies {} and skips some", id, entry.index));
      return;
    } else if (committed_[at].term != entry.term || committed_[at].checksum != entry.checksum) {
      fail(fmt::format("node {} applies another entry at {}", id, entry.index));
    } else {
      committed_[at].committed_in = std::min(committed_[at].committed_in, node.core->term());
    }
    bool idle = node.to_apply.empty();
    node.to_apply.push_back(std::move(entry));
    if (idle) {
      after(drawn(Duration(0), weather.max_apply), [this, id, life] {
        if (nodes_.at(id).life == life) apply_some(id);
      });
    }
  }
  for (const ReadState& read : ready.reads) {
    auto asked = node.reads.find(read.context);
    if (asked == node.reads.end()) {
      fail(fmt::format("node {} answers read {} twice, or unasked", id, read.context));
    } else {
      if (read.index < asked->second) {
        fail(fmt::format("node {}: stale read at {}, {} was committed before", id, read.index,
                         asked->second));
      }
      node.reads.erase(asked);
      ++reads_served_;
    }
  }
  for (uint64_t context : ready.reads_dropped) {
    if (node.reads.erase(context) == 0) fail("a read is dropped that was not asked");
  }
  for (const LoadRequest& load : ready.loads) {
    after(drawn(Duration(0), weather.max_sync), [this, id, starts = node.starts, load] {
      Node& n = nodes_.at(id);
      if (!n.core || n.starts != starts) return;
      Loaded loaded{load.from, {}};
      size_t bytes = 0;
      for (Index i = load.from; i < load.to && i >= n.disk.first && i <= n.disk.last(); ++i) {
        const Entry& entry = n.disk.log[i - n.disk.first];
        bytes += entry.weight();
        if (bytes > load.max_bytes && !loaded.entries.empty()) break;
        loaded.entries.push_back(entry);
      }
      step(id, std::move(loaded));
    });
  }
  for (const SnapshotNeed& need : ready.snapshots) send_snapshot(id, need.peer);
}

void Cluster::send(Envelope envelope) {
  ++messages_;
  int copies = random_.chance(weather.duplication) ? 2 : 1;
  if (random_.chance(weather.loss) || cut_.contains({envelope.from, envelope.to})) return;
  for (int i = 0; i < copies; ++i) {
    after(drawn(weather.min_delay, weather.max_delay), [this, envelope] {
      if (nodes_.contains(envelope.to) && is_up(envelope.to)) {
        step(envelope.to, Received{envelope});
      }
    });
  }
}

// The oldest batch in flight is durable: its messages are sent, and the core is informed.
void Cluster::sync_one(NodeId id) {
  Node& node = nodes_.at(id);
  uint64_t life = node.life;
  if (is_paused(node)) {
    after(node.paused_until - time_, [this, id, life] {
      if (nodes_.at(id).life == life) sync_one(id);
    });
    return;
  }
  // The log writer merges what is waiting into one sync.
  uint64_t merged = 1 + random_.below(node.writing.size());
  uint64_t last = 0;
  for (uint64_t i = 0; i < merged; ++i) {
    AppendBatch batch = std::move(node.writing.front());
    node.writing.pop_front();
    node.disk.write(batch);
    last = batch.id;
    for (Envelope& envelope : batch.after_durable) {
      check_leaving(node, envelope);
      send(std::move(envelope));
    }
  }
  if (!node.writing.empty()) {
    after(drawn(Duration(0), weather.max_sync), [this, id, life] {
      if (nodes_.at(id).life == life) sync_one(id);
    });
  }
  step(id, AppendDone{last});
}

void Cluster::apply_some(NodeId id) {
  Node& node = nodes_.at(id);
  uint64_t life = node.life;
  if (is_paused(node)) {
    after(node.paused_until - time_, [this, id, life] {
      if (nodes_.at(id).life == life) apply_some(id);
    });
    return;
  }
  uint64_t count = 1 + random_.below(node.to_apply.size());
  for (uint64_t i = 0; i < count; ++i) {
    Entry& entry = node.to_apply.front();
    if (entry.index > node.applied_index) {
      if (entry.index != node.applied_index + 1) fail("apply skips");
      node.applied_index = entry.index;
      if (entry.kind == EntryKind::kCommand) node.applied.emplace_back(entry.payload.text());
      if (entry.kind == EntryKind::kConfChange) {
        ByteReader in(entry.payload.view());
        CHECK(ConfState::decode(in, node.applied_conf));
      } else if (entry.kind == EntryKind::kSettings) {
        ByteReader in(entry.payload.view());
        CHECK(Settings::decode(in, node.applied_settings.emplace()));
      }
    }
    node.to_apply.pop_front();
  }
  Index applied = node.applied_index;
  if (!node.to_apply.empty()) {
    after(drawn(Duration(0), weather.max_apply), [this, id, life] {
      if (nodes_.at(id).life == life) apply_some(id);
    });
  }
  step(id, ApplyDone{applied});
}

void Cluster::send_snapshot(NodeId from, NodeId to) {
  uint64_t life = nodes_.at(from).life;
  after(drawn(weather.min_delay, weather.max_delay * 10), [this, from, to, life] {
    Node& sender = nodes_.at(from);
    if (sender.life != life) return;
    bool ok = !cut_.contains({from, to}) && is_up(to) && !is_paused(nodes_.at(to)) &&
              !random_.chance(weather.loss);
    SnapshotMark mark = sender.disk.snapshot;
    Node& receiver = nodes_.at(to);
    Index handed =
        receiver.to_apply.empty() ? receiver.applied_index : receiver.to_apply.back().index;
    if (ok && handed >= mark.index) {
      // All of it is there, or about to be applied. It counts for the sender when it is durable.
      ok = receiver.core->durable_index() >= mark.index;
    } else if (ok) {
      receiver.disk.snapshot = mark;
      receiver.disk.snapshot_state = sender.disk.snapshot_state;
      receiver.disk.snapshot_conf = receiver.applied_conf = sender.disk.snapshot_conf;
      receiver.disk.snapshot_settings = receiver.applied_settings = sender.disk.snapshot_settings;
      int64_t stamp = sender.disk.snapshot_stamp;
      if (mark.index >= sender.disk.first && mark.index <= sender.disk.last()) {
        stamp = sender.disk.log[mark.index - sender.disk.first].stamp_ns;
      }
      // Queued batches are written first; then the log is kept or restarts.
      for (const AppendBatch& batch : receiver.writing) receiver.disk.write(batch);
      bool keeps = receiver.core->term_at(mark.index) == mark.term;
      if (!keeps) {
        receiver.disk.log.clear();
        receiver.disk.first = mark.index + 1;
        receiver.disk.before_first = mark.term;
        receiver.disk.snapshot_stamp = stamp;
      }
      uint64_t last = receiver.writing.empty() ? 0 : receiver.writing.back().id;
      receiver.writing.clear();
      receiver.applied = sender.disk.snapshot_state;
      receiver.applied_index = mark.index;
      receiver.to_apply.clear();
      ++receiver.life;  // discards what was in flight
      ++snapshots_installed_;
      if (last != 0) step(to, AppendDone{last});
      step(to,
           SnapshotInstalled{mark, receiver.applied_conf, stamp, {}, receiver.applied_settings});
    }
    if (sender.life == life) step(from, SnapshotSent{to, ok, mark});
  });
}

// ---- what an observer of all sees

void Cluster::check(NodeId id) {
  const Core& core = *nodes_.at(id).core;
  std::string broken = checker_.after_step(core);
  if (!broken.empty()) fail(broken);
  if (core.role() == Role::kLeader) {
    auto [known, added] = leaders_.try_emplace(core.term(), id);
    if (known->second != id) {
      fail(fmt::format("nodes {} and {} lead in term {}", known->second, id, core.term()));
    }
    if (added) {
      // Leader completeness (paper, figure 3): all that earlier terms committed is in its log.
      for (size_t i = 0; i < committed_.size(); ++i) {
        Index index(i + 1);
        if (committed_[i].committed_in >= core.term() || index < core.first_index()) continue;
        if (core.term_at(index) != committed_[i].term) {
          fail(
              fmt::format("leader {} of term {} lacks committed entry {}", id, core.term(), index));
        }
      }
      // While a leader exists, no node of an older term may hold a lease (thesis §6.4.1).
      for (const auto& [other, node] : nodes_) {
        if (!node.core || node.core->term() >= core.term()) continue;
        auto lease = node.core->lease_until();
        if (lease && *lease > now_of(node).time) {
          fail(fmt::format("{} leads term {}, and {} of term {} still holds a lease", id,
                           core.term(), other, node.core->term()));
        }
      }
    }
  }
}

// Nothing leaves a node that speaks of what a crash could take away.
void Cluster::check_leaving(const Node& node, const Envelope& envelope) {
  const HardState& durable = node.disk.hard_state;
  if (const auto* append = std::get_if<AppendResponse>(&envelope.message)) {
    if (append->success && !node.disk.holds(append->index)) {
      fail(fmt::format("node {} vouches for {}, which is not durable", envelope.from,
                       append->index));
    }
    if (durable.term < envelope.term) fail("an append response names a term that is not durable");
  } else if (const auto* vote = std::get_if<VoteResponse>(&envelope.message)) {
    if (!vote->granted) return;
    if (durable.term < envelope.term ||
        (durable.term == envelope.term && durable.vote != envelope.to)) {
      fail(fmt::format("node {} gives a vote that is not durable", envelope.from));
    }
    auto [given, added] = votes_.try_emplace({envelope.from, envelope.term}, envelope.to);
    if (given->second != envelope.to) {
      fail(fmt::format("node {} votes twice in term {}", envelope.from, envelope.term));
    }
  } else if (std::holds_alternative<VoteRequest>(envelope.message)) {
    if (durable.term < envelope.term) fail("a vote request names a term that is not durable");
  }
}

}  // namespace connectd::raft
