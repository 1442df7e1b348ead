// Nodes: how they start, run and end, their threads' work, their connections.

#include <algorithm>

#include "base/log.h"
#include "base/loop_scope.h"
#include "sim/describe.h"
#include "sim/simulation_impl.h"
#include "wire/handshake.h"

namespace connectd::sim {

using std::chrono::microseconds;
using std::chrono::milliseconds;
using std::chrono::seconds;

namespace {
bool is_of_another_cluster(wire::RefusalCode code) {
  return code == wire::RefusalCode::kClusterName || code == wire::RefusalCode::kClusterId;
}
}  // namespace

std::unique_ptr<Simulation::Impl::Process> Simulation::Impl::make_process(NodeId id,
                                                                          Random& random) {
  auto p = std::make_unique<Process>();
  p->simulation = this;
  p->id = id;
  p->disk_id.bytes[0] = static_cast<uint8_t>(id.value());
  p->files = std::make_unique<FaultyFileSystem>(random.next());
  if (active_.has(Fault::kWrongClock)) p->clock.follow_time();
  p->clock.jump((static_cast<int64_t>(random.below(2'000)) - 1'000) * 1'000'000);
  p->disk_low = microseconds(random.between(20, 200));
  p->disk_high = p->disk_low + microseconds(random.between(10, 5'000));
  return p;
}

void Simulation::Impl::draw_options(Process& p) {
  Random& random = node_random_;
  node::NodeOptions options;
  options.id = p.id;
  options.disk_id = p.disk_id;
  options.may_begin_log = !p.has_run;
  options.seed = random.next();
  options.incarnation = random.next();
  options.raft.awaits_peers = true;
  options.raft.election_timeout = kElectionTimeout;
  options.raft.heartbeat_interval = kElectionTimeout / 10;
  // Never 0: a quorum whose newest log is on a node that never campaigns has no leader.
  if (leases_) options.raft.priority = static_cast<uint8_t>(50 * (1 + p.id.value() % 3));
  options.apply_inline = random.chance(50);
  options.apply_inline_ns_max = INT64_MAX;  // the load of the machine must not affect a run
  options.holder.request_timeout = kRequestTimeout;
  // Only what was sealed can be damaged.
  options.log.segment_bytes = active_.has(Fault::kMisdirectedWrite) ? 16 << 10 : 64 << 10;
  options.snapshot.log_min_bytes = random.chance(50) ? 16 << 10 : 64 << 10;
  options.snapshot.trailing_entries = random.below(20);
  options.snapshot.held_log_bytes = options.seed % 2 == 0 ? 64 << 10 : 1 << 20;
  options.chunk_bytes = 4096;
  options.compare_interval = random.chance(30) ? seconds(1) : Duration(0);
  options.min_free_bytes = 16 << 10;
  options.apply_observer = &p;
  draw_rare_options(options);
  if (active_.has(Fault::kTinyLimits)) {
    Random& tiny = fault_random_[static_cast<size_t>(Fault::kTinyLimits)];
    count(Fault::kTinyLimits);
    bite(Fault::kTinyLimits);
    options.log.segment_bytes = tiny.chance(50) ? 4096 : 8192;
    options.snapshot.log_min_bytes = tiny.chance(50) ? 256 : 2 << 10;
    options.snapshot.log_ratio = tiny.chance(50) ? 0.01 : 1;
    options.snapshot.trailing_entries = tiny.below(4);
    options.snapshot.trailing_bytes = options.snapshot.log_min_bytes / 4;
    options.snapshot.block_bytes = tiny.chance(50) ? 100 : 1000;
    options.chunk_bytes = tiny.chance(50) ? 64 : 512;
    if (tiny.chance(30)) options.snapshot_rate = tiny.chance(50) ? 4 << 10 : 64 << 10;
    if (tiny.chance(60)) {
      options.raft.max_append_bytes = 1;
      options.raft.max_append_entries = 1 + tiny.below(3);
      options.raft.inflight_bytes = 300;
    }
    if (tiny.chance(50)) options.raft.cache_bytes = 200;
    if (tiny.chance(50)) options.raft.apply_bytes = 1;
    if (tiny.chance(30)) options.holder.credit_bytes = 600;
    if (tiny.chance(30)) options.holder.forward_bytes = 200;
    // So that replies wait for the loop after nearly every request.
    if (tiny.chance(50)) options.apply_replies_max = tiny.between(1, 100);
    if (tiny.chance(50)) options.apply_run_replies = tiny.between(1, 50);
  }
  scale_options(options);
  Process* at = &p;
  options.wall_clock = [this, at] { return at->clock.now(now()).wall_ns; };
  p.options = std::move(options);
}

// What operators seldom set. Within what the configuration allows.
void Simulation::Impl::draw_rare_options(node::NodeOptions& options) {
  Random& random = option_random_;
  if (random.chance(50)) {
    options.raft.heartbeat_interval =
        kElectionTimeout / static_cast<int64_t>(random.between(3, 25));
  }
  if (random.chance(50)) {
    options.stall_timeout = draw(random, milliseconds(200), milliseconds(2000));
  }
  if (random.chance(50)) {
    options.snapshot.log_min_bytes = size_t{1} << random.between(10, 20);
  }
  if (random.chance(10)) options.holder.max_inflight_bytes = random.between(1000, 20'000);
  if (random.chance(20)) options.holder.credit_bytes = random.between(600, 20'000);
  if (random.chance(20)) options.holder.forward_bytes = random.between(200, 20'000);
  if (random.chance(20)) options.raft.cache_bytes = random.between(200, 100'000);
  if (random.chance(20)) options.raft.inflight_bytes = random.between(300, 100'000);
}

void Simulation::Impl::start(Process& p) {
  CHECK(!p.up());
  end_clone();  // of another node, with which this one is not connected yet
  if (p.lost) return;
  if (is_forming_) return start_forming(p);
  if (p.wiped || p.outside) return knock(p);
  ++p.life;
  p.fatal.reset();
  draw_options(p);
  if (!open_node(p)) {
    if (!p.files->is_off()) return;
    // The power failed again during recovery.
    p.off_planned = false;
    p.files->crash();
    return restart_later(p, milliseconds(10), milliseconds(500));
  }
  open_peers(p);
  open_ports(p);
  schedule_turn(p, now());
}

bool Simulation::Impl::open_node(Process& p) {
  node::Node::Host host;
  host.files = p.files.get();
  host.data_dir = "data";
  host.plugin = options_.plugin;
  host.transport = &p;
  // Snapshots on the apply thread in half of the runs of a process, by a copy in the others.
  p.capturer.reset();
  if (capture_random_.chance(50)) {
    p.capturer = std::make_unique<CopyCapturer>(capture_random_, report_.captures, p);
  }
  host.capturer = p.capturer.get();
  host.supervisor = &p;
  auto node = node::Node::open(p.options, genesis_, std::move(host), p.clock.now(now()));
  timeline_.note('S', p.id.value(), node.has_value());
  if (p.files->is_off()) return false;
  if (!node) {
    timeline_.trace("node {} does not start: {}", p.id, node.error().text);
    if (p.damaged && node.error().kind == ErrorKind::kCorrupt) {
      p.lost = true;
      bite(p.damage);
      return false;
    }
    // A full disk alone is no reason, unless a log must begin, for the first time or after a
    // snapshot.
    const bool begins = !p.has_run || node.error().kind == ErrorKind::kNoSpaceToBegin;
    const bool is_full = p.disk_is_full && begins;
    if ((p.error_planned || is_full) && is_of_disk(node.error().kind)) {
      if (p.error_planned) bite(Fault::kWriteError);
      p.error_planned = false;
      p.files->clear_failures();
      p.files->restart_process();
      restart_later(p, milliseconds(100), milliseconds(2000));
      return false;
    }
    checkers_.fail(fmt::format("start: node {} does not start: {}", p.id, node.error().text));
    return false;
  }
  p.node = std::move(*node);
  begin_life(p);
  if (p.damaged) {
    for (const std::string& warning : p.node->warnings()) {
      if (warning.find("snapshot") != std::string::npos) bite(p.damage);
    }
  }
  timeline_.trace("node {} up term={} log={}..{} snapshot={}", p.id, p.node->core().term(),
                  p.node->core().first_index(), p.node->core().last_index(), p.snapshot);
  checkers_.started(p.id, *p.node);
  return true;
}

void Simulation::Impl::begin_life(Process& p) {
  p.has_run = true;
  p.readiness = {};
  p.installed = 0;
  p.resumed = 0;
  p.snapshot = p.node->snapshot_index();
  p.turn_at = Time::max();
  p.writer_scheduled = p.applier_scheduled = p.worker_scheduled = p.snapshotter_scheduled = false;
}

// An empty disk: the process starts without a cluster, as its hellos show. If the cluster knows its
// id with another disk, it is refused until an operator replaces the member.
void Simulation::Impl::knock(Process& p) {
  for (auto& other : processes_) {
    if (other.get() == &p || !other->up()) continue;
    if (network_.is_cut(p.id, other->id) || network_.is_cut(other->id, p.id)) continue;
    wire::Hello hello = hello_of(p, other->id);
    hello.cluster_id = ClusterId();
    std::optional<wire::Refusal> refusal = wire::check_hello(hello_of(*other, p.id), hello);
    if (!refusal) refusal = other->node->check_peer(hello);
    if (!refusal && changes_) {
      timeline_.trace("node {} is let in by node {}", p.id, other->id);
      p.wiped = p.outside = false;
      if (std::exchange(p.fresh, false)) p.has_run = false;
      p.unbound = true;
      return start(p);
    }
    const bool as_wiped = refusal && (refusal->code == wire::RefusalCode::kDiskId ||
                                      refusal->code == wire::RefusalCode::kRunsElsewhere);
    const bool as_stranger = refusal && refusal->code == wire::RefusalCode::kNotMember;
    const bool as_removed = refusal && refusal->code == wire::RefusalCode::kRemoved;
    if (p.wiped && !as_wiped && !(changes_ && (as_stranger || as_removed))) {
      return checkers_.fail(fmt::format(
          "wiped disk: node {} with an empty disk is not refused by node {}", p.id, other->id));
    }
    timeline_.trace("node {} is refused: {}", p.id, refusal->text);
    if (p.wiped) bite(p, Fault::kDiskWiped);
    if (as_removed || (p.wiped && !changes_)) p.lost = true;
    break;
  }
  if (!p.lost) restart_later(p, milliseconds(100), milliseconds(1000));
}

void Simulation::Impl::note_conf(const node::Node& node) {
  const raft::Core& core = node.core();
  const Index at = core.conf_index();
  if (core.conf_is_settled() && at > settled_conf_) {
    settled_conf_ = at;
    for (const node::GenesisMember& member : node.members().members) {
      Process& p = process(member.id);
      if (p.disk_id != member.disk_id) continue;
      if (std::exchange(p.unbound, false)) checkers_.disk_bound(p.id);
    }
    std::erase_if(confs_, [&](const auto& known) { return known.first < at; });
  }
  if (at < settled_conf_) return;
  std::pair<Index, raft::ConfState> conf{at, core.conf()};
  if (std::ranges::find(confs_, conf) == confs_.end()) confs_.push_back(std::move(conf));
}

// By a leader whose configuration is settled; empty: there is none.
std::vector<Simulation::Impl::Process*> Simulation::Impl::members_now() {
  std::vector<Process*> members;
  const raft::Core* newest = nullptr;
  const Process* leader = nullptr;
  for (auto& p : processes_) {
    if (!p->up()) continue;
    const raft::Core& core = p->node->core();
    if (core.role() != raft::Role::kLeader || !core.leader_is_ready() || !core.conf_is_settled()) {
      continue;
    }
    if (newest != nullptr && core.term() <= newest->term()) continue;
    newest = &core;
    leader = p.get();
  }
  if (newest == nullptr) return members;
  for (NodeId id : newest->conf().members()) {
    Process& p = process(id);
    // Not one that was added by a change that failed: it needs another change.
    const node::GenesisMember* listed = leader->node->members().find(id);
    if (p.up() && listed != nullptr && listed->disk_id == p.disk_id) members.push_back(&p);
  }
  return members;
}

void Simulation::Impl::end(Process& p, bool power, const char* why) {
  if (!p.runs()) return;
  if (clone_ && clone_->original == &p) end_clone();
  timeline_.note('E', p.id.value(), power);
  timeline_.trace("node {} ends: {}", p.id, why);
  ++report_.crashes;
  ++p.life;
  drop_clients_of(p);
  checkers_.stopped(p.id);
  p.peers->stop();
  p.peers.reset();
  p.hostile.reset();
  p.port.reset();
  p.probe_port.reset();
  p.node.reset();
  p.bootstrap.reset();
  p.held.clear();
  resume(p);
  if (power) {
    draw_clock(p);
    FaultyFileSystem::CrashOptions how;
    const bool loses = active_.has(Fault::kWriteLost);
    how.keep_sector_percent = active_.has(Fault::kWriteTorn) || is_forming_ ? 50 : 100;
    if (loses && !active_.has(Fault::kWriteTorn)) {
      // All or nothing.
      how.keep_sector_percent =
          fault_random_[static_cast<size_t>(Fault::kWriteLost)].chance(30) ? 100 : 0;
    }
    how.keep_name_percent = loses || is_forming_ ? how.keep_sector_percent : 100;
    FaultyFileSystem::CrashDamage damage = p.files->crash(how);
    if (loses && damage.sectors_lost + damage.names_lost > 0) bite(Fault::kWriteLost);
    const bool tears = damage.sectors_kept > 0 && damage.sectors_lost > 0;
    if (active_.has(Fault::kWriteTorn) && tears) bite(Fault::kWriteTorn);
  } else {
    p.files->restart_process();
  }
  p.off_planned = p.no_descriptors = false;
  p.end_call(now());
  p.in_turn_until = now();
  p.snapshots_failed = 0;
  network_.went_down(p.id);
}

void Simulation::Impl::restart_later(Process& p, Duration low, Duration high) {
  if (p.restart_pending || p.lost) return;
  p.restart_pending = true;
  timeline_.after(draw(phase_random_, low, high), [this, at = &p] {
    at->restart_pending = false;
    if (!at->runs() && !at->stays_down && !stopped()) start(*at);
  });
}

void Simulation::Impl::when(Process& p, Time time, std::function<void()> action) {
  timeline_.at(time, [this, at = &p, life = p.life, action = std::move(action)]() mutable {
    if (at->life != life || stopped()) return;
    if (at->paused) {
      bite(*at, Fault::kPause);
      at->held.push_back(std::move(action));
      return;
    }
    action();
  });
}

void Simulation::Impl::when_free(Process& p, Time time, std::function<void()> action) {
  when(p, time, [this, at = &p, action = std::move(action)]() mutable {
    if (now() >= at->in_turn_until) return action();
    bite(*at, Fault::kSlowTurn);
    when_free(*at, at->in_turn_until, std::move(action));
  });
}

void Simulation::Impl::pause(Process& p, Duration length) {
  if (clone_ && clone_->original == &p) end_clone();
  p.paused = true;
  p.paused_since = now();
  ++p.pauses;
  timeline_.trace("node {} is paused for {} ms", p.id, length / milliseconds(1));
  timeline_.after(length, [this, at = &p, pause = p.pauses] {
    if (at->paused && at->pauses == pause) resume(*at);
  });
}

void Simulation::Impl::resume(Process& p) {
  if (!p.paused) return;
  p.paused_before += now() - p.paused_since;
  p.paused = false;
  for (auto& action : std::exchange(p.held, {})) when(p, now(), std::move(action));
}

void Simulation::Impl::repair(Process& p) {
  resume(p);
  p.disk_extra = Duration(0);
  p.end_call(now());
  p.stalled_until = p.in_turn_until = now();
  p.turn_cost = Duration(0);
  p.files->clear_failures();
  p.files->set_capacity(UINT64_MAX);
  p.files->set_out_of_descriptors(false);
  p.no_descriptors = p.disk_is_full = p.error_planned = p.off_planned = false;
  if (!p.up()) return;
  // Delayed operations complete now; the event at the end of the stall then finds nothing.
  p.writer_scheduled = p.worker_scheduled = p.snapshotter_scheduled = false;
  p.applier_scheduled = false;
  schedule_workers(p);
}

void Simulation::Impl::schedule_turn(Process& p, Time time) {
  if (!p.up() || p.turn_at <= time) return;
  p.turn_at = time;
  when_free(p, time, [this, at = &p, time] {
    if (at->turn_at != time) return;
    at->turn_at = Time::max();
    turn(*at);
  });
}

void Simulation::Impl::turn(Process& p) {
  timeline_.note('T', p.id.value());
  {
    LoopScope loop;
    p.node->turn(p.clock.now(now()));
  }
  after_step(p);
  if (!stands(p)) return;
  follow_members(p);
  if (!p.peers_tried && p.peers->has_tried_all()) {
    p.peers_tried = true;
    p.node->peers_tried();
  }
  if (p.node->is_removed()) {
    p.lost = true;
    return end(p, false, "it was removed");
  }
  schedule_workers(p);
  if (p.turn_cost > Duration(0)) {
    Random& random = fault_random_[static_cast<size_t>(Fault::kSlowTurn)];
    p.in_turn_until = now() + draw(random, Duration(0), p.turn_cost);
  }
  schedule_turn(p, std::max(p.clock.world(p.node->next_deadline()), now() + microseconds(1)));
}

bool Simulation::Impl::stands(Process& p) {
  if (stopped() || !p.up()) return false;
  if (p.files->is_off()) {
    const Fault crash = p.off_keeps_cache ? Fault::kCrashProcess : Fault::kCrashPower;
    if (active_.has(crash)) bite(crash);
    end(p, !p.off_keeps_cache,
        p.off_keeps_cache ? "killed in a disk operation" : "the power goes in a disk operation");
    restart_later(p, milliseconds(10), milliseconds(3000));
    return false;
  }
  if (p.fatal) {
    handle_fatal(p);
    return false;
  }
  return true;
}

// The process reports that it must end. Valid only for an injected reason; a full disk is none.
void Simulation::Impl::handle_fatal(Process& p) {
  Error error = *p.fatal;
  timeline_.trace("node {} stops: {}", p.id, error.text);
  if (is_of_disk(error.kind) && p.error_planned) {
    bite(error.kind == ErrorKind::kSyncFailed ? Fault::kSyncError : Fault::kWriteError);
    p.error_planned = false;
    p.files->clear_failures();
  } else if (error.kind == ErrorKind::kCorrupt && p.damaged) {
    bite(p.damage);
  } else {
    return checkers_.fail(fmt::format("stop: node {} stops: {}", p.id, error.text));
  }
  end(p, false, "an error of its disk");
  restart_later(p, milliseconds(100), milliseconds(3000));
}

void Simulation::Impl::schedule_workers(Process& p) {
  auto arrange = [&](bool Process::*scheduled, bool has_work, bool is_disk, Duration low,
                     Duration high, auto poll) {
    if (p.*scheduled || !has_work) return;
    p.*scheduled = true;
    Time time = now() + draw(worker_random_, low, high);
    if (is_disk && p.disk_extra > Duration(0)) {
      time += draw(fault_random_[static_cast<size_t>(Fault::kDiskSlow)], Duration(0), p.disk_extra);
      if (time - now() > milliseconds(50)) bite(p, Fault::kDiskSlow);
    }
    if (is_disk && p.stalled_until > time) {
      time = p.stalled_until;
      bite(p, Fault::kDiskStall);
    }
    if (scheduled == &Process::applier_scheduled && p.plugin_until > time) {
      time = p.plugin_until;
      bite(p, Fault::kSlowPlugin);
    }
    when(p, time, [this, at = &p, scheduled, poll] {
      at->*scheduled = false;
      poll();
      if (!stands(*at)) return;
      schedule_workers(*at);
      schedule_turn(*at, now());
    });
  };
  node::Node& node = *p.node;
  const Duration retry =
      node.writer().waits_for_space() ? Duration(milliseconds(100)) : Duration(0);
  arrange(&Process::writer_scheduled, node.writer().has_work(), true, p.disk_low + retry,
          p.disk_high + retry, [&node] { node.writer().poll_once(); });
  arrange(&Process::applier_scheduled, node.applier().has_work(), false, microseconds(1),
          microseconds(200), [&node] { node.applier().poll_once(); });
  arrange(&Process::worker_scheduled, node.worker().has_work(), true, p.disk_low, p.disk_high,
          [&node] { node.worker().poll_once(); });
  if (!p.snapshotter_scheduled && node.snapshotter().has_work()) {
    // A snapshot takes long compared with everything else.
    Duration longest = capture_random_.chance(50) ? milliseconds(500) : p.disk_high;
    arrange(&Process::snapshotter_scheduled, true, true, p.disk_low, std::max(longest, p.disk_high),
            [&node] { node.snapshotter().poll_once(); });
  }
}

void Simulation::Impl::after_step(Process& p) {
  if (stopped() || !p.up()) return;
  const raft::Core& core = p.node->core();
  uint64_t elections = checkers_.elections();
  checkers_.after_step(p.id, *p.node);
  if (p.disk_is_full && (p.node->log_is_full() || p.node->writer().waits_for_space())) {
    bite(p, Fault::kDiskFull);
  }
  if (p.no_descriptors && (p.node->log_is_full() || p.node->writer().waits_for_space() ||
                           p.node->snapshots_failed() > p.snapshots_failed)) {
    bite(p, Fault::kNoDescriptors);
  }
  p.snapshots_failed = p.node->snapshots_failed();
  if (changes_) note_conf(*p.node);
  if (core.role() == raft::Role::kLeader && !clocks_are_wild_) {
    for (const auto& other : processes_) {
      if (!other->up() || other->node->core().term() >= core.term()) continue;
      auto lease = other->node->core().lease_until();
      if (lease && *lease > other->clock.local(now())) {
        checkers_.fail(
            fmt::format("lease: node {} leads term {}, and node {} holds a lease of term "
                        "{} for {} ms more",
                        p.id, core.term(), other->id, other->node->core().term(),
                        (*lease - other->clock.local(now())) / milliseconds(1)));
      }
    }
  }
  if (checkers_.elections() > elections) {
    timeline_.note('L', p.id.value(), core.term().value());
    timeline_.trace("node {} leads term {}", p.id, core.term());
  }
  if (p.node->sender().resumed() > p.resumed) {
    p.resumed = p.node->sender().resumed();
    ++report_.snapshots_resumed;
  }
  if (p.node->snapshots_installed() > p.installed) {
    p.installed = p.node->snapshots_installed();
    p.snapshot = p.node->snapshot_index();
    ++report_.snapshots_installed;
    timeline_.trace("node {} installed the snapshot at {}", p.id, p.snapshot);
  } else if (p.node->snapshot_index() > p.snapshot) {
    p.snapshot = p.node->snapshot_index();
    ++report_.snapshots_taken;
  }
}

// ---- the network

wire::Hello Simulation::Impl::hello_of(const Process& p, NodeId to) const {
  wire::Hello hello;
  hello.cluster_name = genesis_.cluster_name;
  hello.cluster_id = genesis_.cluster_id;
  hello.node_id = p.id;
  hello.to = to;
  hello.peer_address = Network::address_of(p.id).to_string();
  hello.priority = p.options.raft.priority;
  hello.incarnation = p.options.incarnation;
  hello.disk_id = p.disk_id;
  hello.plugin_name = options_.plugin->name();
  hello.plugin_level_min = options_.plugin->level_min();
  hello.plugin_level_max = options_.plugin->level_max();
  hello.plugin_level = genesis_.plugin_level;
  if (p.up()) {
    p.node->introduce(hello);
  } else if (p.bootstrap) {
    hello.cluster_id = ClusterId();
    hello.plugin_level = 0;
  }
  return hello;
}

void Simulation::Impl::open_peers(Process& p) {
  transport::PeersOptions options;
  options.self = p.id;
  options.seed = node_random_.next();
  options.output_bytes_max = output_bytes_;
  transport::PeersHooks hooks;
  Process* at = &p;
  hooks.hello = [this, at] { return hello_of(*at, NodeId()); };
  hooks.check = [at](const wire::Hello& hello) -> std::optional<wire::Refusal> {
    if (!at->up()) return std::nullopt;
    return at->node->check_peer(hello);
  };
  hooks.on_refused = [this, at](NodeId peer, const wire::Refusal& refusal, Time hello_at) {
    refused(*at, peer, refusal, hello_at);
  };
  p.peers = std::make_unique<transport::Peers>(options, p, std::move(hooks));
  std::set<NodeId> listed;
  for (const node::GenesisMember& member : genesis_.members) listed.insert(member.id);
  p.refusals.emplace(std::move(listed));
  p.followed_members = {};
  p.peers_tried = false;
  follow_members(p);
}

// As in production, the listed members are dialled at the addresses in the operator's file.
void Simulation::Impl::follow_members(Process& p) {
  if (!p.up()) return dial_founders(p);
  const raft::Core& core = p.node->core();
  const std::pair now_in_force{core.conf_index() + 1, core.conf_is_settled()};
  if (std::exchange(p.followed_members, now_in_force) == now_in_force) return;
  std::map<NodeId, Address> listed;
  for (auto& other : processes_) listed.emplace(other->id, Network::address_of(other->id));
  p.peers->set_peers(
      node::addresses_to_dial(p.id, listed, p.node->members(), core.conf_is_settled()), now());
  network_.carry_out(p.id);
}

void Simulation::Impl::arrive(NodeId id, std::function<void()> action) {
  if (id == clone_endpoint() || id == outside_endpoint()) return action();
  Process& p = process(id);
  if (!p.runs()) return;
  // It waits in the socket's buffer.
  if (p.paused || now() < p.in_turn_until) return when_free(p, now(), std::move(action));
  action();
}

void Simulation::Impl::send(Process& from, NodeId to, wire::PeerMessage message) {
  if (const auto* envelope = std::get_if<raft::Envelope>(&message)) {
    checkers_.sending(from.id, *from.node, *envelope);
  } else if (const auto* ack = std::get_if<wire::SnapshotAck>(&message)) {
    checkers_.sending(from.id, *from.node, *ack);
  }
  if (window_bytes_ > 0) return send_on_small_link(from, to, std::move(message));
  from.peers->send(to, std::move(message));
}

std::string Simulation::Impl::deliver(Process& p, const wire::Hello& sender,
                                      wire::PeerMessage message) {
  if (timeline_.is_traced()) {
    timeline_.trace("  {} -> {}: {}", sender.node_id, p.id, describe(message));
  }
  if (p.bootstrap) {
    node::Effects out;
    std::string fault = p.bootstrap->message(sender.node_id, message, out);
    for (auto& [to, answer] : out.messages) p.peers->send(to, std::move(answer));
    turn_bootstrap_later(p, now());
    if (!p.up() || !fault.empty()) return fault;
  }
  p.node->set_now(p.clock.now(now()));
  LoopScope loop;
  std::string fault = p.node->on_message(sender, std::move(message));
  schedule_turn(p, now());
  if (!fault.empty()) {
    timeline_.trace("node {} refuses a message of node {}: {}", p.id, sender.node_id, fault);
  }
  return fault;
}

void Simulation::Impl::reached(Process& p, NodeId peer, const wire::Hello& hello) {
  timeline_.trace("node {} reaches node {}", p.id, peer);
  expect_own_cluster(p, hello);
  p.refusals->reached(peer);
  if (p.bootstrap) {
    p.bootstrap->peer_reached(peer, hello);
    turn_bootstrap_later(p, now());
    if (!p.up()) return;
  }
  p.node->set_now(p.clock.now(now()));
  p.node->on_peer_reached(peer, hello);
  schedule_turn(p, now());
}

void Simulation::Impl::lost(Process& p, NodeId peer) {
  if (clone_ && clone_->original->id == peer) end_clone();
  if (p.bootstrap) {
    p.bootstrap->peer_lost(peer);
    if (!p.up()) return;
  }
  p.node->set_now(p.clock.now(now()));
  p.node->on_peer_lost(peer);
  schedule_turn(p, now());
}

// As in production, the process ends when the node requires it: here only removed nodes may.
void Simulation::Impl::refused(Process& p, NodeId peer, const wire::Refusal& refusal,
                               Time hello_at) {
  timeline_.trace("node {} is refused by node {}: {}", p.id, peer, refusal.text);
  if (is_of_another_cluster(refusal.code)) bite(Fault::kForeignCluster);
  if (p.up()) p.node->set_now(p.clock.now(now()));
  const node::Refusals::Standing standing{p.up(), p.up() && p.node->has_had_quorum_since(hello_at)};
  if (!p.up() && p.bootstrap) p.bootstrap->turned_away(peer, refusal.code);
  const std::optional<Error> error =
      p.refusals->refused(peer, refusal, standing, p.clock.now(now()).time);
  if (!error) return;
  if (refusal.code != wire::RefusalCode::kRemoved) {
    return checkers_.fail(fmt::format("refusal: node {} ends: {}", p.id, error->text));
  }
  when(p, now(), [this, at = &p] {
    at->lost = true;
    end(*at, false, "it is told that it was removed");
  });
}

}  // namespace connectd::sim
