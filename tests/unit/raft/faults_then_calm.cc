#include "tests/unit/raft/faults_then_calm.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/limits.h"
#include "tests/unit/raft/cluster.h"

namespace connectd::raft {

using std::chrono::milliseconds;

namespace {

std::string ids_of(const std::vector<NodeId>& nodes) {
  std::string text;
  for (NodeId id : nodes) text += fmt::format("{}{}", text.empty() ? "" : ",", id);
  return text;
}

std::string states(Cluster& cluster) {
  std::string text;
  for (NodeId id : cluster.ids()) {
    const Core& core = cluster.core(id);
    const ConfState& conf = core.conf();
    text += fmt::format("; node {} {} term={} log={}/{} commit={} voters={}{}{} learners={} at {}",
                        id, role_name(core.role()), core.term(), core.last_index(),
                        core.term_at(core.last_index()), core.commit_index(), ids_of(conf.voters),
                        conf.is_joint() ? " and " : "", ids_of(conf.voters_outgoing),
                        ids_of(conf.learners), core.conf_index());
    for (const PeerStatus& peer : core.peers()) {
      constexpr const char* kStates[] = {"probe", "replicate", "snapshot"};
      text += fmt::format(" [{} {} match={} next={} inflight={}{}]", peer.id,
                          kStates[static_cast<int>(peer.state)], peer.match, peer.next,
                          peer.inflight_bytes, peer.active ? "" : " silent");
    }
  }
  return text;
}

// Lease reads at each node that believes it leads.
void run_and_read(Cluster& cluster, Duration length) {
  constexpr int kSlices = 4;
  for (int slice = 0; slice < kSlices; ++slice) {
    cluster.run_for(length / kSlices);
    for (NodeId id : cluster.ids()) {
      if (cluster.is_up(id) && cluster.core(id).role() == Role::kLeader) cluster.read(id, true);
    }
  }
}

// The others elect as soon as they may, and the old leader hears nothing of it.
void cut_leader_off(Cluster& cluster, Random& random) {
  const NodeId leader = cluster.leader();
  const bool is_noticed = random.chance(50);
  const bool restarts = random.chance(30);
  for (NodeId id : cluster.ids()) {
    if (id == leader) continue;
    cluster.cut_both(leader, id);
    if (is_noticed) cluster.tell_lost(id, leader);
    if (restarts) {
      cluster.crash(id);
      cluster.restart(id);
    }
  }
  run_and_read(cluster, milliseconds(random.between(200, 2000)));
  cluster.heal();
}

// TimeoutNow arrives long after the leader has aborted the transfer.
void hand_over_to_one_that_stands_still(Cluster& cluster, Random& random, NodeId to) {
  cluster.step(cluster.leader(), TransferLeadership{to});
  run_and_read(cluster, milliseconds(random.between(1, 50)));
  cluster.pause(to, milliseconds(random.between(300, 2000)), false);
}

// What leases must survive beside all else: leaders that are cut off, nodes that stand still, wall
// clocks that are set, other rates, other settings.
template <class DrawRate>
void disturb_leases(Cluster& cluster, Random& random, const Settings& founding,
                    DrawRate draw_rate) {
  const std::vector<NodeId> ids = cluster.ids();
  const NodeId any = ids[random.below(ids.size())];
  const uint64_t kind = random.below(20);
  if (kind < 2) {
    cluster.pause(any, milliseconds(random.between(1, 2500)), random.chance(50));
  } else if (kind == 2) {
    cluster.set_wall_clock(any, milliseconds(random.between(0, 4000)) - milliseconds(2000));
  } else if (kind == 3) {
    draw_rate(any);
  } else if (kind < 7 && cluster.leader()) {
    if (kind == 4) {
      Settings other = founding;
      other.lease_reads = random.chance(70);
      if (random.chance(50)) other.election_timeout *= 2;
      cluster.step(cluster.leader(), ChangeSettings{other});
    } else if (kind == 5) {
      cut_leader_off(cluster, random);
    } else {
      hand_over_to_one_that_stands_still(cluster, random, any);
    }
  }
}

}  // namespace

std::string run_faults_then_calm(uint64_t seed) {
  Random random(seed * 7919 + 1);
  uint64_t count = std::vector<uint64_t>{1, 2, 3, 3, 3, 5, 5}[random.below(7)];
  ConfState conf;
  for (uint64_t i = 1; i <= count; ++i) conf.voters.push_back(NodeId(i));
  if (random.chance(20) && count >= 3) {
    // Of five also two: with the leader they would be as many as a majority of all.
    for (uint64_t learners = count == 5 ? random.between(1, 2) : 1; learners > 0; --learners) {
      conf.learners.insert(conf.learners.begin(), conf.voters.back());
      conf.voters.pop_back();
    }
  } else if (random.chance(15) && count >= 3) {
    conf.voters_outgoing = {NodeId(1), NodeId(2), NodeId(3)};
    conf.voters.erase(conf.voters.begin());
  }
  // Some seeds change the members all the time.
  const bool changes = random.chance(40);
  std::vector<NodeId> others;
  for (uint64_t i = 1; changes && i <= 2; ++i) others.push_back(NodeId(count + i));
  Options model;
  model.pre_vote = !random.chance(20);
  model.check_quorum = !random.chance(20);
  model.max_append_bytes = random.chance(30) ? 1 : random.between(50, 5000);
  model.max_append_entries = random.chance(30) ? 1 : random.between(1, 100);
  model.inflight_bytes = random.chance(30) ? 1 : random.between(100, 20000);
  model.cache_bytes = random.chance(30) ? 0 : random.between(100, 20000);
  model.apply_bytes = random.chance(30) ? 1 : random.between(100, 5000);
  // Some go by leases, with clocks that differ as far as they may.
  Random lease_random(seed * 104729 + 7);
  const bool leases = model.check_quorum && lease_random.chance(50);
  std::optional<Settings> settings;
  Duration timeout = model.election_timeout;
  if (leases) {
    settings.emplace();
    settings->election_timeout = timeout;
    settings->lease_reads = lease_random.chance(70);
    settings->max_clock_drift_percent =
        std::vector<uint8_t>{1, 10, kMaxClockDriftPercent}[lease_random.below(3)];
    if (settings->lease_reads) settings->confirmed_timeout = timeout;
    timeout = 4 * timeout;  // of what it may become, on a slow clock
  }
  Cluster cluster(conf, seed, model, others, settings);
  cluster.weather.loss = random.chance(30) ? 0 : static_cast<double>(random.below(30));
  cluster.weather.duplication = static_cast<double>(random.below(50));
  cluster.weather.max_delay = milliseconds(random.between(1, 150));
  cluster.weather.max_sync = milliseconds(random.between(0, 200));
  cluster.weather.max_apply = milliseconds(random.between(0, 50));

  std::vector<NodeId> ids = cluster.ids();
  auto any = [&] { return ids[random.below(ids.size())]; };
  uint64_t number = 0;
  auto draw_rate = [&](NodeId id) {
    const uint64_t drift = settings->max_clock_drift_percent * 10u;
    cluster.set_clock_rate(id, lease_random.chance(60)
                                   ? 1000 + drift * lease_random.between(0, 2) - drift
                                   : lease_random.between(1000 - drift, 1000 + drift));
  };
  if (leases) {
    for (NodeId id : ids) draw_rate(id);
  }
  for (int i = 0; i < 400 && cluster.failures.empty(); ++i) {
    const auto length = milliseconds(random.below(60));
    if (leases) {
      disturb_leases(cluster, lease_random, *settings, draw_rate);
      run_and_read(cluster, length);
    } else {
      cluster.run_for(length);
    }
    if (changes && random.chance(10) && cluster.leader()) {
      ConfState next;
      for (NodeId id : ids) {
        if (random.chance(60)) {
          next.voters.push_back(id);
        } else if (random.chance(30)) {
          next.learners.push_back(id);
        }
      }
      if (!next.voters.empty()) cluster.change(cluster.leader(), next);
    }
    switch (random.below(14)) {
      case 0:
        cluster.crash(any());
        break;
      case 1:
      case 2:
        cluster.restart(any());
        break;
      case 3:
        cluster.cut(any(), any());
        break;
      case 4: {
        NodeId alone = any();
        for (NodeId id : ids) cluster.cut_both(alone, id);
        break;
      }
      case 5:
      case 6:
        cluster.heal();
        break;
      case 7: {
        NodeId a = any();
        NodeId b = any();
        cluster.tell_lost(a, b);
        if (random.chance(50)) cluster.tell_reached(a, b);
        break;
      }
      case 8:
        cluster.snapshot(any(), random.below(5));
        break;
      case 9:
        if (cluster.leader()) cluster.step(cluster.leader(), TransferLeadership{any()});
        break;
      case 10:
        cluster.read(any());
        cluster.read(any());
        break;
      default:
        for (uint64_t k = random.below(10); k > 0; --k) {
          cluster.propose(any(), std::string(random.below(200), 'x') + std::to_string(number++));
          cluster.propose(cluster.leader() ? cluster.leader() : any(), std::to_string(number++));
        }
    }
  }
  // Calm. Catalogue A5: a leader and progress within ten election timeouts.
  cluster.heal();
  cluster.weather = Weather();
  for (NodeId id : ids) cluster.resume(id);
  for (NodeId id : ids) cluster.restart(id);
  cluster.run_for(milliseconds(200));  // messages in flight arrive
  bool ready = cluster.run_until(timeout * 10, [&] {
    return cluster.leader() && cluster.core(cluster.leader()).leader_is_ready();
  });
  if (!cluster.failures.empty()) return cluster.failures.front();
  NodeId leader = cluster.leader();
  if (!ready || !leader) return "liveness: no leader" + states(cluster);
  cluster.step(leader, Propose{std::vector<Proposal>(1)});
  // A change in progress ends, and may end this leadership.
  bool settled = cluster.run_until(timeout * 20, [&] {
    leader = cluster.leader();
    return leader && cluster.core(leader).conf_is_settled() &&
           cluster.core(leader).conf().is_voter(leader) && cluster.core(leader).leader_is_ready();
  });
  if (!cluster.failures.empty()) return cluster.failures.front();
  if (!settled) return "liveness: a change of members does not come to its end" + states(cluster);
  // Nodes that are not members are not informed.
  ids = cluster.core(leader).conf().members();
  Index last = cluster.core(leader).last_index();
  bool caught_up = cluster.run_until(timeout * 20, [&] {
    return std::all_of(ids.begin(), ids.end(),
                       [&](NodeId id) { return cluster.core(id).applied_index() >= last; });
  });
  if (!cluster.failures.empty()) return cluster.failures.front();
  if (!caught_up) return "liveness: not everyone caught up" + states(cluster);
  // A read that meets a change of leader is dropped; its host asks again.
  bool all_served = false;
  for (int attempt = 0; attempt < 5 && !all_served; ++attempt) {
    uint64_t served = cluster.reads_served();
    for (NodeId id : ids) cluster.read(id);
    all_served =
        cluster.run_until(timeout, [&] { return cluster.reads_served() == served + ids.size(); });
  }
  if (!all_served) return "liveness: a read is not served";
  for (NodeId id : ids) {
    if (cluster.applied(id) != cluster.applied(ids[0])) {
      return fmt::format("nodes {} and {} have applied different commands", id, ids[0]);
    }
  }
  return {};
}

}  // namespace connectd::raft
