// Faults, operators who change members and settings, tests of leases.

#include <algorithm>
#include <cerrno>

#include "sim/simulation_impl.h"

namespace connectd::sim {

using std::chrono::microseconds;
using std::chrono::milliseconds;

namespace {
// A leader whose disk stalls in an otherwise healthy cluster steps down within this many election
// timeouts.
constexpr int kStalledLeaderTimeouts = 10;
}  // namespace

void Simulation::Impl::every(Fault fault, Duration low, Duration high,
                             std::function<void(Random&)> inject) {
  if (!active_.has(fault)) return;
  Random& random = fault_random_[static_cast<size_t>(fault)];
  auto again = std::make_shared<std::function<void()>>();
  *again = [this, &random, low, high, inject = std::move(inject), self = std::weak_ptr(again)] {
    if (!faults_on_ || stopped()) return;
    inject(random);
    timeline_.after(draw(random, low, high), [next = self.lock()] { (*next)(); });
  };
  timeline_.after(draw(random, low / 2, high), [again] { (*again)(); });
}

// A wiped or damaged disk may have had the second copy of acknowledged data: at most a minority of
// disks, over the whole run.
bool Simulation::Impl::may_lose_one(const Process& p) const {
  if (p.is_gone()) return false;
  for (const auto& [index, conf] : confs_) {
    // A learner may become a voter at this moment.
    std::vector<NodeId> with_learners = conf.voters;
    with_learners.insert(with_learners.end(), conf.learners.begin(), conf.learners.end());
    for (const auto* voters :
         {&conf.voters, &conf.voters_outgoing, &std::as_const(with_learners)}) {
      if (std::ranges::find(*voters, p.id) == voters->end()) continue;
      size_t gone = 1;
      for (NodeId id : *voters) gone += process(id).is_gone();
      if (gone + voters->size() / 2 + 1 > voters->size()) return false;
    }
  }
  return true;
}

Simulation::Impl::Process& Simulation::Impl::victim(Random& random) {
  Process& any = *processes_[random.below(processes_.size())];
  if (!random.chance(40)) return any;
  for (auto& p : processes_) {
    if (p->up() && p->node->core().role() == raft::Role::kLeader) return *p;
  }
  return any;
}

void Simulation::Impl::cut_groups(const std::vector<bool>& side, uint64_t episode, Fault why) {
  for (size_t a = 0; a < side.size(); ++a) {
    for (size_t b = 0; b < side.size(); ++b) {
      if (side[a] == side[b]) continue;
      network_.cut(NodeId(a + 1), NodeId(b + 1), episode, why);
      if (a > b) continue;
      // Not detected at first.
      timeline_.after(draw(phase_random_, milliseconds(0), milliseconds(3000)), [this, a, b] {
        NodeId from(a + 1);
        NodeId to(b + 1);
        if (network_.is_cut(from, to)) network_.break_connection(from, to);
      });
    }
  }
}

void Simulation::Impl::cut_off(Process& p, uint64_t episode, Fault why) {
  std::vector<bool> side(processes_.size(), false);
  side[p.id.value() - 1] = true;
  cut_groups(side, episode, why);
}

void Simulation::Impl::flap(NodeId a, NodeId b, int times, Random* random) {
  if (times == 0 || !faults_on_ || stopped()) return;
  uint64_t episode = next_episode_++;
  network_.cut(a, b, episode, Fault::kPartitionFlapping);
  network_.cut(b, a, episode, Fault::kPartitionFlapping);
  if (random->chance(50)) network_.break_connection(a, b);
  timeline_.after(draw(*random, milliseconds(10), milliseconds(700)),
                  [this, a, b, times, random, episode] {
                    network_.heal(episode);
                    timeline_.after(draw(*random, milliseconds(10), milliseconds(700)),
                                    [=, this] { flap(a, b, times - 1, random); });
                  });
}

void Simulation::Impl::power_cut(Process& p) {
  if (!p.up()) return;
  bool had_work =
      p.writer_scheduled || p.worker_scheduled || p.applier_scheduled || p.snapshotter_scheduled;
  if (had_work) bite(Fault::kCrashPower);
  end(p, true, "the power goes");
}

// If stalled disks are the only fault, and this is the leader's disk.
void Simulation::Impl::expect_another_leader(Process& stalled) {
  FaultSet others = active_;
  for (Fault harmless : {Fault::kDiskStall, Fault::kClockJump, Fault::kTinyLimits,
                         Fault::kWriteLost, Fault::kWriteTorn}) {
    others.set(harmless, false);
  }
  const Time until = now() + kElectionTimeout * kStalledLeaderTimeouts;
  if (others.count() > 0 || !stalled.up() || stalled.stalled_until <= until) return;
  const raft::Core& core = stalled.node->core();
  if (core.role() != raft::Role::kLeader || !core.leader_is_ready() || processes_.size() < 3) {
    return;
  }
  for (auto& p : processes_) {
    if (p.get() != &stalled && p->stalled_until > now()) return;
  }
  timeline_.at(until, [this, at = &stalled, term = core.term(), begun = now()] {
    for (auto& p : processes_) {
      if (p.get() != at && p->stalled_until > begun) return;  // since then
    }
    if (!faults_on_ || stopped() || at->stalled_until <= now()) return;
    if (at->node->core().role() == raft::Role::kLeader) {
      return checkers_.fail(
          fmt::format("stalled leader: node {} leads term {} on a disk that has stalled for {} ms",
                      at->id, at->node->core().term(), (now() - begun) / milliseconds(1)));
    }
    ++report_.stalled_leaders;
  });
}

void Simulation::Impl::damage(Process& p, Fault fault, Random& random) {
  // Files sealed long ago: all segments but the last two, and snapshots.
  std::vector<std::string> paths;
  std::vector<std::string> segments;
  for (const std::string& name : p.files->names("data/log")) {
    if (name.ends_with(".wal")) segments.push_back("data/log/" + name);
  }
  if (segments.size() > 2) paths.assign(segments.begin(), segments.end() - 2);
  std::vector<std::string> snapshots;
  for (const std::string& name : p.files->names("data/snapshots")) {
    if (!name.ends_with(".tmp")) snapshots.push_back("data/snapshots/" + name);
  }
  // Prefer snapshots: they are few among many segments, and damage to one has more possible
  // effects.
  if (paths.empty() || (!snapshots.empty() && random.chance(50))) paths = std::move(snapshots);
  // Of a misdirected write: with another sector.
  const uint64_t least = fault == Fault::kMisdirectedWrite ? 1024 : 1;
  std::erase_if(paths, [&](const auto& path) { return p.files->content(path).size() < least; });
  if (paths.empty()) return;
  const std::string& path = paths[random.below(paths.size())];
  const uint64_t size = p.files->content(path).size();
  p.damaged = true;
  p.damage = fault;
  count(fault);
  if (fault == Fault::kBitFlip) {
    uint64_t at = random.below(size);
    p.files->flip(path, at, static_cast<uint8_t>(1u << random.below(8)));
    timeline_.trace("node {}: a bit of {} flips at offset {}", p.id, path, at);
  } else {
    const uint64_t sectors = size / 512;
    const uint64_t from = random.below(sectors);
    const uint64_t to = (from + 1 + random.below(sectors - 1)) % sectors;
    p.files->copy_sector(path, from, to);
    timeline_.trace("node {}: in {} sector {} is written over sector {}", p.id, path, from, to);
  }
  // Detected at the next start of the node, at the latest.
  if (p.up()) {
    end(p, random.chance(50), "to look at its disk again");
    restart_later(p, milliseconds(10), milliseconds(1000));
  }
}

void Simulation::Impl::wipe(Process& p) {
  begin(p, Fault::kDiskWiped);
  timeline_.trace("node {} loses its disk", p.id);
  if (p.up()) end(p, true, "its disk is taken");
  checkers_.disk_lost(p.id);
  p.files = std::make_unique<FaultyFileSystem>(node_random_.next());
  p.disk_id.bytes[1] = ++p.disk_number;
  p.wiped = p.fresh = true;
  restart_later(p, milliseconds(10), milliseconds(1000));
}

// The rate of a machine's clock may change while it runs; its time never goes back.
void Simulation::Impl::change_rate(Process& p, uint64_t permille) {
  count(Fault::kClockRate);
  const Time world_turn = p.turn_at;
  p.clock.set_rate(now(), permille);
  if (!p.up()) return;
  bite(Fault::kClockRate);
  if (world_turn != Time::max()) schedule_turn(p, now());
}

void Simulation::Impl::arm_descriptors() {
  every(Fault::kNoDescriptors, milliseconds(1000), milliseconds(6000), [this](Random& r) {
    Process& p = victim(r);
    if (p.no_descriptors || p.error_planned || p.lost || p.wiped || !p.up()) return;
    begin(p, Fault::kNoDescriptors);
    p.no_descriptors = true;
    p.files->set_out_of_descriptors(true);
    timeline_.trace("node {} has no descriptors left", p.id);
    timeline_.after(draw(r, milliseconds(200), milliseconds(r.chance(30) ? 8000 : 3000)),
                    [at = &p] {
                      at->files->set_out_of_descriptors(false);
                      at->no_descriptors = false;
                    });
  });
}

// Other power failures seldom come between a write and its sync.
void Simulation::Impl::arm_lost_writes() {
  for (Fault fault : {Fault::kWriteLost, Fault::kWriteTorn}) {
    every(fault, milliseconds(1000), milliseconds(6000), [this, fault](Random& r) {
      Process& p = victim(r);
      if (!p.up() || p.off_planned) return;
      count(fault);
      p.off_planned = true;
      p.off_keeps_cache = false;
      p.files->power_off_before_sync(fault == Fault::kWriteTorn ? 2 : 1);
    });
  }
}

void Simulation::Impl::arm_slowness() {
  every(Fault::kSlowPlugin, milliseconds(500), milliseconds(5000), [this](Random& r) {
    Process& p = victim(r);
    begin(p, Fault::kSlowPlugin);
    p.begin_call(now(), draw(r, milliseconds(20), milliseconds(r.chance(30) ? 12000 : 1500)));
    timeline_.trace("a plugin call of node {} takes {} ms", p.id,
                    (p.plugin_until - now()) / milliseconds(1));
  });
  every(Fault::kSlowTurn, milliseconds(500), milliseconds(5000), [this](Random& r) {
    Process& p = victim(r);
    begin(p, Fault::kSlowTurn);
    p.turn_cost = draw(r, microseconds(50), r.chance(30) ? milliseconds(100) : milliseconds(5));
    timeline_.trace("turns of node {} take up to {} us", p.id, p.turn_cost / microseconds(1));
    timeline_.after(draw(r, milliseconds(100), milliseconds(3000)),
                    [at = &p] { at->turn_cost = Duration(0); });
  });
}
void Simulation::Impl::arm_connection_faults() {
  every(Fault::kConnectionBreak, milliseconds(100), milliseconds(2000), [this](Random& r) {
    Process& a = victim(r);
    Process& b = victim(r);
    if (&a == &b || !network_.is_connected(a.id, b.id)) return;
    count(Fault::kConnectionBreak);
    bite(Fault::kConnectionBreak);
    network_.break_connection(a.id, b.id);
  });
  every(Fault::kConnectionReplaced, milliseconds(100), milliseconds(2000), [this](Random& r) {
    Process& p = victim(r);
    if (!p.up()) return;
    count(Fault::kConnectionReplaced);
    network_.replace_connections(p.id);
  });
}

void Simulation::Impl::arm_faults() {
  auto stream = [&](Fault fault) -> Random& { return fault_random_[static_cast<size_t>(fault)]; };
  Network::Knobs knobs;
  knobs.delay_low = microseconds(phase_random_.between(20, 500));
  knobs.delay_high = knobs.delay_low + microseconds(phase_random_.between(10, 3'000));
  if (active_.has(Fault::kMessageLoss)) {
    knobs.loss_percent = static_cast<double>(stream(Fault::kMessageLoss).between(1, 30));
  }
  if (active_.has(Fault::kMessageDuplicate)) {
    knobs.duplicate_percent = static_cast<double>(stream(Fault::kMessageDuplicate).between(1, 50));
  }
  if (active_.has(Fault::kMessageDelay)) {
    Random& random = stream(Fault::kMessageDelay);
    knobs.late_percent = static_cast<double>(random.between(1, 30));
    knobs.late =
        milliseconds(random.chance(30) ? random.between(100, 3000) : random.between(1, 50));
  }
  network_.set_knobs(with_changed_bits(knobs));

  every(Fault::kCloggedLink, milliseconds(200), milliseconds(3000), [this](Random& r) {
    Process& a = victim(r);
    Process& b = victim(r);
    if (&a == &b) return;
    Time until = now() + draw(r, milliseconds(20), milliseconds(2000));
    network_.clog(a.id, b.id, until);
    if (r.chance(50)) network_.clog(b.id, a.id, until);
  });
  arm_connection_faults();
  auto heal_later = [this](uint64_t episode, Duration delay) {
    timeline_.after(delay, [this, episode] { network_.heal(episode); });
  };
  auto partitioned = [this](Fault fault, const char* how) {
    count(fault);
    ++report_.partitions;
    timeline_.note('P', static_cast<uint64_t>(fault));
    timeline_.trace("{}: {}", fault_name(fault), how);
  };
  every(Fault::kPartition, milliseconds(500), milliseconds(5000), [=, this](Random& r) {
    std::vector<bool> side(processes_.size());
    std::string text;
    for (size_t i = 0; i < side.size(); ++i) {
      side[i] = r.chance(50);
      text += side[i] ? 'a' : 'b';
    }
    partitioned(Fault::kPartition, text.c_str());
    uint64_t episode = next_episode_++;
    cut_groups(side, episode, Fault::kPartition);
    heal_later(episode, draw(r, milliseconds(50), milliseconds(6000)));
  });
  every(Fault::kPartitionOneWay, milliseconds(500), milliseconds(5000), [=, this](Random& r) {
    Process& p = victim(r);
    bool hears = r.chance(50);
    uint64_t episode = next_episode_++;
    partitioned(Fault::kPartitionOneWay,
                fmt::format("node {} {}", p.id, hears ? "is not heard" : "hears nothing").c_str());
    for (auto& other : processes_) {
      if (other.get() == &p || r.chance(20)) continue;
      NodeId from = hears ? p.id : other->id;
      NodeId to = hears ? other->id : p.id;
      network_.cut(from, to, episode, Fault::kPartitionOneWay);
    }
    heal_later(episode, draw(r, milliseconds(50), milliseconds(6000)));
  });
  every(Fault::kPartitionBridge, milliseconds(500), milliseconds(5000), [=, this](Random& r) {
    size_t bridge = r.below(processes_.size());
    uint64_t episode = next_episode_++;
    partitioned(Fault::kPartitionBridge, fmt::format("node {}", bridge + 1).c_str());
    for (size_t a = 0; a < processes_.size(); ++a) {
      for (size_t b = a + 1; b < processes_.size(); ++b) {
        if (a == bridge || b == bridge) continue;
        if (processes_.size() > 3 && (a + bridge) % 2 == (b + bridge) % 2) continue;
        network_.cut(NodeId(a + 1), NodeId(b + 1), episode, Fault::kPartitionBridge);
        network_.cut(NodeId(b + 1), NodeId(a + 1), episode, Fault::kPartitionBridge);
      }
    }
    heal_later(episode, draw(r, milliseconds(50), milliseconds(6000)));
  });
  every(Fault::kPartitionFlapping, milliseconds(1000), milliseconds(6000), [=, this](Random& r) {
    Process& a = victim(r);
    Process& b = victim(r);
    if (&a == &b) return;
    partitioned(Fault::kPartitionFlapping, fmt::format("nodes {} and {}", a.id, b.id).c_str());
    flap(a.id, b.id, static_cast<int>(r.between(2, 8)), &r);
  });
  every(Fault::kPartitionSwizzle, milliseconds(2000), milliseconds(8000), [=, this](Random& r) {
    std::vector<size_t> order;
    for (size_t i = 0; i < processes_.size(); ++i) {
      if (r.chance(60))
        order.insert(order.begin() + static_cast<long>(r.below(order.size() + 1)), i);
    }
    partitioned(Fault::kPartitionSwizzle, fmt::format("{} nodes", order.size()).c_str());
    Duration cut_at{};
    Duration heal_at = milliseconds(2000);
    for (size_t i : order) {
      cut_at += draw(r, milliseconds(1), milliseconds(500));
      heal_at += draw(r, milliseconds(1), milliseconds(1500));
      uint64_t episode = next_episode_++;
      timeline_.after(cut_at, [this, i, episode] {
        if (faults_on_) cut_off(*processes_[i], episode, Fault::kPartitionSwizzle);
      });
      // Drawn independently of the order in which they were cut off.
      heal_later(episode, heal_at + draw(r, milliseconds(0), milliseconds(2500)));
    }
  });

  every(Fault::kCrashPower, milliseconds(300), milliseconds(5000), [this](Random& r) {
    Process& p = victim(r);
    if (!p.up() || p.off_planned) return;
    count(Fault::kCrashPower);
    if (r.chance(60)) {
      p.off_planned = true;
      p.off_keeps_cache = false;
      p.files->power_off_at_change(r.between(1, r.chance(50) ? 4 : 40));
      return;
    }
    power_cut(p);
    restart_later(p, milliseconds(10), milliseconds(3000));
  });
  every(Fault::kCrashProcess, milliseconds(300), milliseconds(5000), [this](Random& r) {
    Process& p = victim(r);
    if (!p.up() || p.off_planned) return;
    count(Fault::kCrashProcess);
    if (r.chance(60)) {
      p.off_planned = true;
      p.off_keeps_cache = true;
      p.files->power_off_at_change(r.between(1, r.chance(50) ? 4 : 40));
      return;
    }
    if (p.writer_scheduled || p.worker_scheduled || p.applier_scheduled || p.snapshotter_scheduled)
      bite(Fault::kCrashProcess);
    end(p, false, "killed");
    restart_later(p, milliseconds(10), milliseconds(3000));
  });
  every(Fault::kCrashAll, milliseconds(3000), milliseconds(15000), [this](Random& r) {
    count(Fault::kCrashAll);
    size_t up = 0;
    for (auto& p : processes_) up += p->up();
    if (up >= quorum()) bite(Fault::kCrashAll);
    Duration longest = r.chance(50) ? milliseconds(50) : milliseconds(2000);
    for (auto& p : processes_) {
      end(*p, true, "the power of all goes");
      restart_later(*p, milliseconds(1), longest);
    }
  });
  every(Fault::kPause, milliseconds(500), milliseconds(5000), [this](Random& r) {
    Process& p = victim(r);
    if (!p.up() || p.paused) return;
    begin(p, Fault::kPause);
    pause(p, draw(r, kElectionTimeout / 2, kElectionTimeout * (r.chance(20) ? 20 : 4)));
  });
  if (leases_) {
    // As far apart as the bound allows.
    for (auto& p : processes_) {
      p->clock.set_rate(now(),
                        lease_random_.chance(50) ? slowest_tame_clock_ : fastest_tame_clock_);
    }
  }
  if (active_.has(Fault::kClockRate)) {
    Random& r = stream(Fault::kClockRate);
    for (auto& p : processes_) {
      p->clock.set_rate(now(), r.between(slowest_tame_clock_, fastest_tame_clock_));
    }
  }
  every(Fault::kClockRate, milliseconds(2000), milliseconds(10000), [this](Random& r) {
    Process& p = victim(r);
    // Usually within the bound, otherwise no leader holds a lease.
    const bool tame = clocks_are_wild_ && r.chance(60);
    change_rate(p, tame ? r.between(slowest_tame_clock_, fastest_tame_clock_)
                        : r.between(slowest_clock_, fastest_clock_));
  });
  every(Fault::kClockJump, milliseconds(500), milliseconds(4000), [this](Random& r) {
    Process& p = victim(r);
    count(Fault::kClockJump);
    if (p.up()) bite(Fault::kClockJump);
    p.clock.jump((static_cast<int64_t>(r.below(20'000)) - 10'000) * 1'000'000);
  });
  every(Fault::kDiskSlow, milliseconds(1000), milliseconds(6000), [this](Random& r) {
    Process& p = victim(r);
    begin(p, Fault::kDiskSlow);
    p.disk_extra = draw(r, milliseconds(10), milliseconds(400));
    timeline_.after(draw(r, milliseconds(100), milliseconds(5000)),
                    [at = &p] { at->disk_extra = Duration(0); });
  });
  every(Fault::kDiskStall, milliseconds(1000), milliseconds(8000), [this](Random& r) {
    Process& p = victim(r);
    begin(p, Fault::kDiskStall);
    p.stalled_until = now() + draw(r, milliseconds(500), milliseconds(r.chance(30) ? 10000 : 2500));
    timeline_.trace("the disk of node {} stalls", p.id);
    expect_another_leader(p);
  });
  every(Fault::kWriteError, milliseconds(1000), milliseconds(8000), [this](Random& r) {
    Process& p = victim(r);
    if (p.error_planned || p.disk_is_full || p.lost || p.wiped) return;
    count(Fault::kWriteError);
    p.error_planned = true;
    p.files->fail_nth(r.chance(80) ? FileCall::kWrite : FileCall::kOpen, r.between(1, 30), EIO);
  });
  every(Fault::kSyncError, milliseconds(1000), milliseconds(8000), [this](Random& r) {
    Process& p = victim(r);
    if (p.error_planned || p.disk_is_full || p.lost || p.wiped) return;
    count(Fault::kSyncError);
    p.error_planned = true;
    p.files->fail_nth(r.chance(80) ? FileCall::kSync : FileCall::kSyncDirectory, r.between(1, 20),
                      EIO);
  });
  every(Fault::kDiskFull, milliseconds(2000), milliseconds(10000), [this](Random& r) {
    Process& one = victim(r);
    // Often so many at once that no quorum has space.
    const bool all = r.chance(40);
    for (auto& process : processes_) {
      Process& p = *process;
      if (!(all ? r.chance(70) : &p == &one)) continue;
      if (p.disk_is_full || p.error_planned || p.lost || p.wiped) continue;
      begin(p, Fault::kDiskFull);
      p.disk_is_full = true;
      p.files->set_free(r.below(r.chance(50) ? 512 : 32 << 10));
      timeline_.trace("the disk of node {} fills up", p.id);
      timeline_.after(draw(r, milliseconds(200), milliseconds(r.chance(30) ? 10000 : 4000)),
                      [at = &p] {
                        at->files->set_capacity(UINT64_MAX);
                        at->disk_is_full = false;
                      });
    }
  });
  for (Fault fault : {Fault::kBitFlip, Fault::kMisdirectedWrite}) {
    every(fault, milliseconds(1000), milliseconds(8000), [this, fault](Random& r) {
      Process& p = victim(r);
      if (may_lose_one(p)) damage(p, fault, r);
    });
  }
  every(Fault::kMembership, milliseconds(100), milliseconds(2500),
        [this](Random& r) { operate(r); });
  every(Fault::kDiskWiped, milliseconds(2000), milliseconds(20000), [this](Random& r) {
    Process& p = victim(r);
    if (may_lose_one(p)) wipe(p);
  });
}

// An operator's actions, through any node.
void Simulation::Impl::operate(Random& random) {
  Process& via = victim(random);
  if (!via.up() || via.paused) return;
  const raft::ConfState& conf = via.node->core().conf();
  const bool leads = via.node->core().role() == raft::Role::kLeader;
  node::MemberChange change;
  const uint64_t what = random.below(100);
  if (what < 30) {
    if (processes_.size() >= options_.nodes + kMaxAdded) return;
    processes_.push_back(make_process(NodeId(processes_.size() + 1), random));
    Process& fresh = *processes_.back();
    fresh.outside = fresh.fresh = true;
    change.kind = node::MemberChange::Kind::kAdd;
    change.member.id = fresh.id;
    change.member.peer_address = Network::address_of(fresh.id).to_string();
    change.learner_only = random.chance(15);
    restart_later(fresh, milliseconds(10), milliseconds(2000));
  } else if (what < 80 && !leads) {
    // What makes a quorum smaller is asked where it is done at once: else a disk may be lost on its
    // way that the larger quorum could bear to lose.
    return;
  } else if (what < 50) {
    std::vector<NodeId> members = conf.members();
    change.kind = node::MemberChange::Kind::kRemove;
    change.member.id = members[random.below(members.size())];
    size_t left = 0;
    size_t good = 0;
    for (NodeId id : conf.voters) {
      if (id == change.member.id) continue;
      ++left;
      good += !process(id).is_gone();
    }
    if (left < 2 || good < left / 2 + 1) return;
  } else if (what < 80) {
    // One whose disk is gone, or whose disk goes now.
    Process* target = nullptr;
    for (NodeId id : conf.members()) {
      Process& p = process(id);
      if (p.wiped || p.unbound || (p.lost && p.damaged)) target = &p;
    }
    if (target == nullptr) {
      std::vector<NodeId> members = conf.members();
      target = &process(members[random.below(members.size())]);
      if (target->outside || !may_lose_one(*target)) return;
    }
    if (target == &via) return;
    if (target->lost || !target->is_gone()) {
      target->lost = target->damaged = false;
      wipe(*target);
    }
    change.kind = node::MemberChange::Kind::kReplace;
    change.member.id = target->id;
  } else if (what < 90) {
    change.kind = node::MemberChange::Kind::kTransfer;
    if (random.chance(50)) change.member.id = conf.voters[random.below(conf.voters.size())];
  } else {
    if (conf.learners.empty()) return;
    change.kind = node::MemberChange::Kind::kPromote;
    change.member.id = conf.learners[random.below(conf.learners.size())];
  }
  count(Fault::kMembership);
  timeline_.trace("operator at node {}: change {} of node {}", via.id,
                  static_cast<int>(change.kind), change.member.id);
  via.node->set_now(via.clock.now(now()));
  via.node->change_members(change, [this, change](const node::ChangeOutcome& outcome) {
    timeline_.trace("change {} of node {}: {} {}", static_cast<int>(change.kind), change.member.id,
                    node::change_code_name(outcome.code), outcome.text);
    if (outcome.done()) bite(Fault::kMembership);
  });
  note_conf(*via.node);
  schedule_turn(via, now());
}

// Leases are turned on and off during faults, and the election timeout on which they depend
// changes.
void Simulation::Impl::arm_settings() {
  if (!leases_) return;
  timeline_.after(draw(lease_random_, milliseconds(500), milliseconds(6000)), [this] {
    if (!faults_on_ || stopped()) return;
    change_setting();
    arm_settings();
  });
}

// A hard case for leases that random faults rarely cause: the others elect a leader as soon as they
// may, and the old one does not know it.
void Simulation::Impl::arm_tests_of_leases() {
  if (!leases_ || !options_.faults.has(Fault::kPartition)) return;
  timeline_.after(draw(lease_random_, milliseconds(600), milliseconds(3000)), [this] {
    if (!faults_on_ || stopped()) return;
    test_lease();
    arm_tests_of_leases();
  });
}

void Simulation::Impl::test_lease() {
  Process* leader = nullptr;
  for (auto& p : processes_) {
    if (p->up() && p->node->core().lease_until()) leader = p.get();
  }
  if (leader == nullptr || processes_.size() < 2) return;
  const uint64_t episode = next_episode_++;
  count(Fault::kPartition);
  if (lease_random_.chance(60)) {
    // It is isolated, and the others may learn at once that it is unreachable.
    const bool is_told = lease_random_.chance(50);
    timeline_.trace("test of a lease: node {} is cut off{}", leader->id,
                    is_told ? ", and lost" : "");
    cut_off(*leader, episode, Fault::kPartition);
    for (auto& other : processes_) {
      if (is_told && other.get() != leader) network_.break_connection(leader->id, other->id);
    }
    if (clocks_are_wild_) turn_clocks_wild(*leader);
  } else {
    // One does not hear it any more, and asks the others, which do, for their votes; they start
    // again.
    Process& deaf = *processes_[lease_random_.below(processes_.size())];
    if (&deaf == leader) return;
    timeline_.trace("test of a lease: node {} does not hear node {}", deaf.id, leader->id);
    network_.cut(leader->id, deaf.id, episode, Fault::kPartition);
    network_.cut(deaf.id, leader->id, episode, Fault::kPartition);
    if (options_.faults.has(Fault::kCrashProcess)) {
      timeline_.after(
          draw(lease_random_, kElectionTimeout, 3 * kElectionTimeout), [=, this, &deaf] {
            if (!faults_on_ || stopped()) return;
            for (auto& other : processes_) {
              if (other.get() == &deaf || other.get() == leader || !other->up() || other->paused)
                continue;
              count(Fault::kCrashProcess);
              end(*other, false, "killed in the middle of a lease");
              restart_later(*other, milliseconds(1), milliseconds(20));
            }
          });
    }
  }
  timeline_.after(draw(lease_random_, kElectionTimeout, 4 * kElectionTimeout), [this, episode] {
    network_.heal(episode);
    if (clocks_are_wild_) tame_clocks();
  });
}

// No answer shows the leader that its clock is slow, and its lease outlasts the promises. Its
// clients only read: a write, which it cannot commit, would block them.
void Simulation::Impl::turn_clocks_wild(Process& leader) {
  timeline_.trace("test of a lease: the clock of node {} runs slow", leader.id);
  for (auto& p : processes_) {
    change_rate(*p, p.get() == &leader ? slowest_clock_ : fastest_clock_);
  }
  for (auto& client : clients_) {
    if (client->process != &leader) continue;
    drop(*client);
    client->only_reads = true;
  }
}

void Simulation::Impl::tame_clocks() {
  for (auto& client : clients_) client->only_reads = false;
  if (!faults_on_ || stopped()) return;
  for (auto& p : processes_) {
    change_rate(*p, lease_random_.between(slowest_tame_clock_, fastest_tame_clock_));
  }
}

void Simulation::Impl::change_setting() {
  node::MemberChange change;
  change.kind = node::MemberChange::Kind::kSetting;
  if (lease_random_.chance(60)) {
    change.key = "raft.lease_reads";
    change.value = lease_random_.chance(70) ? "true" : "false";
  } else {
    // Never more than the bounds of the liveness phase allow for.
    change.key = "raft.election_timeout";
    change.value =
        fmt::format("{}ms", lease_random_.between(250, kElectionTimeout / milliseconds(1)));
  }
  Process& via = *processes_[lease_random_.below(processes_.size())];
  if (!via.up() || via.paused) return;
  timeline_.trace("operator at node {}: {} {}", via.id, change.key, change.value);
  via.node->set_now(via.clock.now(now()));
  via.node->change_members(change, [this, change](const node::ChangeOutcome& outcome) {
    timeline_.trace("{} {}: {} {}", change.key, change.value, node::change_code_name(outcome.code),
                    outcome.text);
  });
  schedule_turn(via, now());
}

void Simulation::Impl::stop_faults() {
  faults_on_ = false;
  end_outsider();
  for (auto& client : clients_) {
    client->slow_until = now();
    if (client->link) carry_later(*client);
  }
}

}  // namespace connectd::sim
