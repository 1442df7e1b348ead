// Whether nodes tell health probes the truth: who is ready has every write that was acknowledged
// five seconds ago, and is not cut off from all others; in a healthy cluster every node is ready.

#include <algorithm>

#include "sim/simulation_impl.h"

namespace connectd::sim {

using std::chrono::milliseconds;
using std::chrono::seconds;

namespace {
// As often as production publishes its status.
constexpr Duration kHealthLook = milliseconds(50);
// Within this time of its own clock a node of a healthy cluster is ready.
constexpr Duration kGetsReady = seconds(5);
}  // namespace

void Simulation::Impl::watch_health() {
  for (auto& p : processes_) {
    if (!p->up() || p->paused || now() < p->in_turn_until || stopped()) continue;
    look_at_health(*p);
    look_at_log_time(*p);
  }
  timeline_.after(kHealthLook, [this] {
    if (!stopped()) watch_health();
  });
}

// What its state lacks is known from the outside: whoever asks a quorum gets at least the index
// that any node knows to be committed.
void Simulation::Impl::look_at_health(Process& p) {
  const Time local = p.clock.local(now());
  const Time old = local - node::Readiness::kUnready;
  const node::Node& node = *p.node;
  const bool was_ready = p.readiness.is_ready();
  const bool is_ready =
      p.readiness.look(static_cast<bool>(node.core().leader()), node.fresh_since(), local);
  if (is_ready != was_ready) {
    timeline_.note('Y', p.id.value(), is_ready);
    timeline_.trace("node {} is {}", p.id, is_ready ? "ready" : "not ready");
  }
  auto& before = p.committed_before;
  before.emplace_back(local, checkers_.highest_committed());
  while (before.size() > 1 && before[1].first <= old) before.pop_front();
  if (!is_ready) return;
  if (before.front().first <= old && node.applied_index() < before.front().second) {
    return checkers_.fail(
        fmt::format("health: node {} is ready with {} applied, and {} was committed {} ms ago",
                    p.id, node.applied_index(), before.front().second,
                    (local - before.front().first) / milliseconds(1)));
  }
  if (node.core().conf().voters.size() > 1 && p.heard_at < old) {
    checkers_.fail(fmt::format("health: node {} is ready, and has heard nothing for {} ms", p.id,
                               (local - p.heard_at) / milliseconds(1)));
  }
}

void Simulation::Impl::demand_health(const std::vector<Process*>& nodes) {
  uint64_t slowest = 1000;
  for (const Process* p : nodes) slowest = std::min(slowest, p->clock.permille());
  auto unready = [&] {
    return std::ranges::find_if(nodes, [](Process* p) { return !p->readiness.is_ready(); });
  };
  const auto bound = kGetsReady * 1000 / static_cast<int64_t>(slowest);
  if (run_until(now() + bound, [&] { return unready() == nodes.end(); }) || stopped()) return;
  checkers_.fail(fmt::format("health: node {} of a healthy cluster is not ready after {} ms{}",
                             (*unready())->id, bound / milliseconds(1), states()));
}

}  // namespace connectd::sim
