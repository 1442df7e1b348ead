#include "sim/simulation.h"

#include <algorithm>

#include "base/log.h"
#include "sim/linearizability.h"
#include "sim/models.h"
#include "sim/simulation_impl.h"

namespace connectd::sim {

using std::chrono::milliseconds;
using std::chrono::seconds;

namespace {
// A busy cluster has a hundredth of it.
constexpr uint64_t kEventsOfSecondMax = 2'000'000;
// In the liveness phase, the quorum must elect a leader and acknowledge a write through each of its
// nodes within this many election timeouts. Ten are enough with ordinary disks and clocks; a disk
// with pending operations, a snapshot transfer, and a clock at half the rate take longer.
constexpr int kRecoveryTimeouts = 40;
constexpr Duration kConvergence = seconds(60);
// The part of a calm run's history that the linearizability search covers, and its budget.
constexpr size_t kSearchedOperations = 4000;
constexpr uint64_t kSearchSteps = 300'000;
}  // namespace

void SimReport::add(const SimReport& other) {
  events += other.events;
  simulated += other.simulated;
  faults.add(other.faults);
  elections += other.elections;
  crashes += other.crashes;
  partitions += other.partitions;
  connections_broken += other.connections_broken;
  snapshots_taken += other.snapshots_taken;
  snapshots_installed += other.snapshots_installed;
  snapshots_resumed += other.snapshots_resumed;
  captures.written += other.captures.written;
  captures.failed += other.captures.failed;
  captures.cancelled += other.captures.cancelled;
  captures.cut += other.captures.cut;
  log_cuts += other.log_cuts;
  acknowledged += other.acknowledged;
  unknown += other.unknown;
  refused += other.refused;
  reads += other.reads;
  searched += other.searched;
  search_exhausted += other.search_exhausted;
  slowest_recovery = std::max(slowest_recovery, other.slowest_recovery);
  stalled_leaders += other.stalled_leaders;
}

Simulation::Impl::Impl(SimOptions options)
    : options_(std::move(options)),
      timeline_(options_.trace),
      network_(options_.nodes + kMaxAdded + 2, stream_of(options_.seed, 1).next(), timeline_, *this,
               report_.faults),
      checkers_(options_.nodes + kMaxAdded),
      node_random_(stream_of(options_.seed, 2)),
      worker_random_(stream_of(options_.seed, 3)),
      client_random_(stream_of(options_.seed, 4)),
      phase_random_(stream_of(options_.seed, 5)),
      capture_random_(stream_of(options_.seed, 6)),
      lease_random_(stream_of(options_.seed, 7)),
      read_random_(stream_of(options_.seed, 8)),
      link_random_(stream_of(options_.seed, 20)),
      option_random_(stream_of(options_.seed, 21)) {
  auto workload = Workload::make(options_.plugin, options_.requests);
  CHECK(workload.has_value()) << workload.error().text;
  workload_ = std::move(*workload);
  checkers_.set_writes_are_unique(workload_->writes_are_unique());
  genesis_.cluster_id.bytes[0] = 1;
  genesis_.cluster_name = "sim";
  genesis_.max_request = 1 << 16;
  genesis_.plugin_name = options_.plugin->name();
  genesis_.plugin_level = options_.plugin->level_max();
  write_percent_ = static_cast<double>(client_random_.between(20, 90));
  calm_ = client_random_.chance(25);
  for (size_t i = 1; i <= options_.nodes; ++i) {
    node::GenesisMember member;
    member.id = NodeId(i);
    member.disk_id.bytes[0] = static_cast<uint8_t>(i);
    member.peer_address = Network::address_of(member.id).to_string();
    genesis_.members.push_back(member);
    processes_.push_back(make_process(member.id, node_random_));
  }
  draw_faults();
  changes_ = active_.has(Fault::kMembership);
  reads_have_levels_ = read_random_.chance(60);
  leases_ = lease_random_.chance(40);
  if (leases_) {
    genesis_.settings.lease_reads = lease_random_.chance(60);
    // With a small bound, the lease is nearly as long as the promise, so small errors show.
    genesis_.settings.max_clock_drift_percent = lease_random_.chance(50) ? 1 : 10;
    if (genesis_.settings.lease_reads) {
      genesis_.settings.confirmed_timeout = genesis_.settings.election_timeout;
    }
    clocks_are_wild_ = active_.has(Fault::kClockRate) && lease_random_.chance(60);
    const uint64_t drift = genesis_.settings.max_clock_drift_percent * 10u;
    slowest_tame_clock_ = 1000 - drift;
    fastest_tame_clock_ = 1000 + drift;
    if (!clocks_are_wild_) {
      slowest_clock_ = slowest_tame_clock_;
      fastest_clock_ = fastest_tame_clock_;
    }
  }
  draw_client_limits();
  draw_sizes();
  confs_.emplace_back(Index(), genesis_.conf());
  for (size_t i = 0; i < options_.clients; ++i) {
    auto client = std::make_unique<Client>();
    client->simulation = this;
    client->number = i;
    client->process = processes_[i % processes_.size()].get();
    clients_.push_back(std::move(client));
  }
}

// Swarm testing: each seed has its own choice of faults, so that one cannot hide another.
void Simulation::Impl::draw_faults() {
  for (size_t i = 0; i < kFaults; ++i) {
    fault_random_.push_back(stream_of(options_.seed, 100 + i));
    const Fault fault = static_cast<Fault>(i);
    // Clones cannot be beside some of the others.
    const uint64_t percent = fault == Fault::kClone ? 60 : fault == Fault::kWrongClock ? 20 : 40;
    const bool drawn = fault_random_.back().chance(percent);
    if (drawn && options_.faults.has(fault)) active_.set(fault);
  }
  // Else nobody could say what time it is.
  if (active_.has(Fault::kWrongClock)) {
    active_.set(Fault::kClockRate, false);
    active_.set(Fault::kClockJump, false);
  }
}

// ---- phases

bool Simulation::Impl::run_until(Time end, const std::function<bool()>& done) {
  while (!stopped()) {
    if (done()) return true;
    if (!timeline_.run_next(end)) return done();
    // Nodes may answer each other forever, at the speed of the network.
    if (now() - second_began_ >= seconds(1)) {
      second_began_ = now();
      events_of_second_ = 0;
    }
    if (++events_of_second_ > kEventsOfSecondMax) {
      checkers_.fail(fmt::format("storm: over {} events in a virtual second", kEventsOfSecondMax));
    }
  }
  return false;
}

std::string Simulation::Impl::states() const {
  std::string text;
  for (const auto& p : processes_) {
    if (!p->up()) {
      text += fmt::format("; node {} {}", p->id, p->lost ? "lost" : "down");
      continue;
    }
    const raft::Core& core = p->node->core();
    text += fmt::format("; node {} {} term={} leader={} log={}..{} durable={} commit={} applied={}",
                        p->id, raft::role_name(core.role()), core.term(), core.leader(),
                        core.first_index(), core.last_index(), core.durable_index(),
                        core.commit_index(), p->node->applied_index());
  }
  return text;
}

// A write must be acknowledged through each of these nodes within `bound`.
bool Simulation::Impl::demand_progress(const std::vector<Process*>& nodes, Duration bound) {
  probes_.clear();
  for (Process* p : nodes) {
    auto probe = std::make_unique<Client>();
    probe->simulation = this;
    probe->number = 100 + probes_.size();
    probe->process = p;
    probe->is_probe = true;
    probes_.push_back(std::move(probe));
  }
  const Time begin = now();
  Time next_probe = begin;
  bool done = run_until(begin + bound, [&] {
    bool all = true;
    // A change that is in progress may end a member.
    for (auto& probe : probes_) all &= probe->probe_done || (changes_ && probe->process->lost);
    if (all || now() < next_probe) return all;
    next_probe = now() + milliseconds(100);
    for (auto& probe : probes_) {
      if (probe->probe_done || !probe->process->up() || !probe->outstanding.empty()) continue;
      if (!probe->link) open(*probe);
      submit(*probe);
      schedule_turn(*probe->process, now());
    }
    return false;
  });
  report_.slowest_recovery = std::max(report_.slowest_recovery, now() - begin);
  for (auto& probe : probes_) drop(*probe);
  if (!done && !stopped()) {
    std::string who;
    for (auto& probe : probes_) {
      if (!probe->probe_done) who += fmt::format(" {}", probe->process->id);
    }
    checkers_.fail(
        fmt::format("liveness: {} ms after everything healed, no write passes through "
                    "node{}{}",
                    bound / milliseconds(1), who, states()));
  }
  return done;
}

void Simulation::Impl::safety() {
  const Time end = now() + (options_.steps > 0 ? std::chrono::hours(24) : options_.faulty_time);
  run_until(end, [this] { return options_.steps > 0 && timeline_.events() >= options_.steps; });
}

void Simulation::Impl::liveness() {
  stop_faults();
  // Choose a quorum of nodes that can come back.
  std::vector<Process*> good;
  for (auto& p : processes_) {
    // Undetected damage shows now: the node starts or refuses to.
    if (p->damaged && !p->lost) {
      end(*p, false, "to look at its disk again");
      repair(*p);
      start(*p);
    }
    if (!p->lost && !p->wiped && !p->outside) good.push_back(p.get());
  }
  if (stopped()) return;
  if (changes_) return liveness_with_changes(good);
  CHECK_GE(good.size(), quorum()) << "more disks were lost than a cluster bears";
  while (good.size() > quorum()) {
    good.erase(good.begin() + static_cast<long>(phase_random_.below(good.size())));
  }
  std::string names;
  for (Process* p : good) names += fmt::format(" {}", p->id);
  timeline_.note('H', good.size());
  timeline_.trace("liveness: these heal:{}", names);
  auto is_good = [&](const Process& p) { return std::ranges::find(good, &p) != good.end(); };
  // The rest stays broken, in one of several ways.
  const uint64_t episode = next_episode_++;
  for (auto& p : processes_) {
    if (is_good(*p)) continue;
    switch (phase_random_.below(5)) {
      case 0:
        end(*p, true, "it stays down");
        p->stays_down = true;
        break;
      case 1:  // hears nothing, but is heard
        for (Process* other : good)
          network_.cut(other->id, p->id, episode, Fault::kPartitionOneWay);
        break;
      case 2:  // is well, but for its disk
        p->stalled_until = now() + std::chrono::hours(1);
        break;
      case 3:
        p->files->set_free(0);
        p->disk_is_full = true;
        break;
      default:
        cut_off(*p, episode, Fault::kPartition);
    }
  }
  Network::Knobs clean;
  clean.delay_low = network_.knobs().delay_low;
  clean.delay_high = network_.knobs().delay_high;
  uint64_t slowest = 1000;
  for (Process* p : good) {
    for (Process* other : good) {
      if (p == other) continue;
      network_.heal_between(p->id, other->id);
      network_.set_clean(p->id, other->id);
    }
    repair(*p);
    slowest = std::min(slowest, p->clock.permille());
    if (!p->up()) start(*p);
  }
  if (stopped()) return;
  demand_progress(good, kElectionTimeout * kRecoveryTimeouts * 1000 / slowest);
}

// Which nodes are a quorum is not for the observer to say: all that can come back do. Within the
// bound a leader has brought the change that is in progress to its end, and the members serve.
void Simulation::Impl::liveness_with_changes(const std::vector<Process*>& nodes) {
  timeline_.note('H', nodes.size());
  heal(nodes);
  if (stopped()) return;
  uint64_t slowest = 1000;
  for (auto& p : processes_) slowest = std::min(slowest, p->clock.permille());
  const Duration bound = kElectionTimeout * kRecoveryTimeouts * 1000 / slowest;
  const Time begin = now();
  if (!run_until(begin + bound, [this] { return !members_now().empty(); })) {
    if (stopped()) return;
    return checkers_.fail(fmt::format(
        "liveness: {} ms after everything healed, no change of members comes to its end{}",
        bound / milliseconds(1), states()));
  }
  demand_progress(members_now(), bound);
}

void Simulation::Impl::heal(const std::vector<Process*>& nodes) {
  for (Process* p : nodes) {
    p->stays_down = false;
    for (auto& other : processes_) {
      if (other.get() == p) continue;
      network_.heal_between(p->id, other->id);
      network_.set_clean(p->id, other->id);
    }
    repair(*p);
    if (!p->up()) start(*p);
  }
}

void Simulation::Impl::finish() {
  timeline_.trace("everything heals");
  clients_on_ = false;
  network_.set_knobs({});
  std::vector<Process*> good;
  for (auto& p : processes_) {
    p->stays_down = false;
    if (p->lost || p->wiped || p->outside) continue;
    good.push_back(p.get());
    for (auto& other : processes_) {
      if (other != p) network_.heal_between(p->id, other->id);
    }
    repair(*p);
    if (!p->up()) start(*p);
  }
  if (stopped()) return;
  Duration slowest_recovery = report_.slowest_recovery;
  if (changes_) {
    run_until(now() + kConvergence, [this] { return !members_now().empty(); });
    good = members_now();
    if (stopped() || good.empty()) return checkers_.fail("convergence: no leader" + states());
  }
  if (!demand_progress(good, kConvergence)) return;
  report_.slowest_recovery = slowest_recovery;
  // No more requests: all outstanding ones must be answered, and all nodes must reach the same
  // state. A node that no leader knows rejects its clients' requests one pipeline after the other,
  // each after the request timeout: that may take longer.
  bool settled = run_until(now() + kConvergence, [&] {
    for (auto& client : clients_) {
      if (std::ranges::find(good, client->process) == good.end()) continue;
      if (!client->outstanding.empty()) return false;
      if (client->link && !client->link->is_settled()) return false;
    }
    Index applied = good.front()->node ? good.front()->node->applied_index() : Index();
    for (Process* p : good) {
      if (!p->up() || p->node->applied_index() != applied ||
          p->node->core().commit_index() != applied || p->node->core().last_index() != applied) {
        return false;
      }
    }
    return applied == checkers_.highest_applied();
  });
  if (stopped()) return;
  if (!settled) {
    size_t outstanding = 0;
    for (auto& client : clients_) outstanding += client->outstanding.size();
    return checkers_.fail(
        fmt::format("convergence: the nodes do not come to the same end, {} "
                    "requests are not answered{}",
                    outstanding, states()));
  }
  for (Process* p : good) {
    if (p->node->digest() != good.front()->node->digest()) {
      return checkers_.fail("convergence: the digests differ at the end");
    }
  }
  demand_health(good);
}

// The second method, which trusts no index, on the first part of a calm history.
void Simulation::Impl::search() {
  if (!calm_) return;
  std::unique_ptr<Model> model = make_model(options_.plugin->name());
  // Searching key by key terminates most often; the index witness covers what it misses.
  if (std::string_view(options_.plugin->name()) == "kv")
    model = std::make_unique<KvModel>(KvModel::Keys::kEach);
  if (!model || !options_.requests.empty()) return;
  History part(history_.begin(), history_.begin() + static_cast<long>(std::min(
                                                        history_.size(), kSearchedOperations)));
  const uint64_t end = part.empty() ? 0 : part.back().call_order;
  std::erase_if(part, [](const Operation& operation) { return operation.is_stale; });
  std::erase_if(part, [&](Operation& operation) {
    if (operation.return_order <= end) return operation.outcome == OutcomeKind::kRefused;
    // Its outcome is not known yet.
    operation.outcome = OutcomeKind::kUnknown;
    operation.returned = Time::max();
    operation.return_order = UINT64_MAX;
    return !operation.is_write;
  });
  add_hints(part, checkers_.log());
  auto found = check_linearizable(part, *model, {kSearchSteps});
  CHECK(found.has_value()) << found.error().text;
  switch (found->verdict) {
    case Verdict::kLinearizable:
      ++report_.searched;
      break;
    case Verdict::kBudgetExhausted:
      ++report_.search_exhausted;
      break;
    case Verdict::kNotLinearizable:
      checkers_.fail(fmt::format("linearizability: {}", found->text));
  }
}

SimReport Simulation::Impl::run() {
  arm_clocks();
  if (active_.has(Fault::kBootstrap)) form();
  arm_faults();
  arm_descriptors();
  arm_lost_writes();
  arm_slowness();
  arm_clones();
  arm_foreigners();
  arm_strangers();
  arm_hostile_bytes();
  arm_slow_readers();
  arm_settings();
  arm_tests_of_leases();
  for (auto& p : processes_) {
    p->up() ? schedule_turn(*p, now()) : start(*p);  // by its clock, which has another rate now
  }
  for (auto& client : clients_) {
    timeline_.after(draw(client_random_, milliseconds(0), milliseconds(500)),
                    [this, at = client.get()] { client_act(*at); });
  }
  look_for_late_answers();
  watch_health();
  safety();
  if (!stopped()) liveness();
  if (!stopped()) finish();
  if (!stopped()) {
    checkers_.check_history(history_, genesis_, options_.plugin,
                            workload_->local_reads(client_random_));
  } else {
    checkers_.look_for_changing_reads(history_, genesis_, options_.plugin);
  }
  if (!stopped()) search();
  report_.failure = checkers_.violation();
  if (stopped()) {
    report_.failed_at = timeline_.events();
    timeline_.trace("VIOLATION: {}", report_.failure);
  }
  for (FaultCount& fault : report_.faults.counts) fault.seeds = fault.bitten > 0;
  report_.events = timeline_.events();
  report_.simulated = timeline_.elapsed();
  report_.trace_hash = timeline_.hash();
  report_.elections = checkers_.elections();
  report_.log_cuts = checkers_.log_cuts();
  report_.connections_broken = network_.connections_broken();
  return report_;
}

Simulation::Simulation(SimOptions options) : impl_(std::make_unique<Impl>(std::move(options))) {}
Simulation::~Simulation() = default;
SimReport Simulation::run() { return impl_->run(); }

SimOptions shrink(SimOptions options, const std::string& failure, size_t runs) {
  options.trace = nullptr;
  const std::string rule = failure.substr(0, failure.find(':'));
  auto still_fails = [&](const SimOptions& shorter) {
    if (runs == 0) return false;
    --runs;
    SimReport report = Simulation(shorter).run();
    return report.failure.substr(0, report.failure.find(':')) == rule;
  };
  for (size_t i = 0; i < kFaults; ++i) {
    if (!options.faults.has(static_cast<Fault>(i))) continue;
    SimOptions shorter = options;
    shorter.faults.set(static_cast<Fault>(i), false);
    if (still_fails(shorter)) options = shorter;
  }
  for (size_t clients = 1; clients < options.clients; clients *= 2) {
    SimOptions shorter = options;
    shorter.clients = clients;
    if (still_fails(shorter)) {
      options = shorter;
      break;
    }
  }
  return options;
}

}  // namespace connectd::sim