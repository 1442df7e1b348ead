// A copy of a node's machine runs beside it: whoever is connected with the first process, which
// answers, refuses the second one by name. Only its connections are simulated: what it would do
// with one that is accepted is a violation already. While a member is not connected with the first
// process, the copy may take its place (docs/adr/0036-two-processes-of-one-node.md): then it ends
// here, before that happens.
#include <algorithm>
#include <utility>

#include "sim/simulation_impl.h"

namespace connectd::sim {

using std::chrono::milliseconds;

namespace {
constexpr Duration kCloneLook = milliseconds(50);
constexpr int kCloneLooks = 8;  // less than a probe_timeout
}  // namespace

void Simulation::Impl::arm_clones() {
  // A link that is slow for longer than a probe may take is one of those cases.
  if (active_.has(Fault::kMessageDelay) || active_.has(Fault::kCloggedLink)) return;
  every(Fault::kClone, milliseconds(100), milliseconds(1000), [this](Random& random) {
    if (clone_) return;
    // Such a moment is rare among many faults: any process will do.
    const size_t first = random.below(processes_.size());
    for (size_t i = 0; i < processes_.size(); ++i) {
      Process& p = *processes_[(first + i) % processes_.size()];
      if (!answers_all(p)) continue;
      count(Fault::kClone);
      return start_clone(p, random);
    }
  });
}

// Every other process has a connection with it, and it takes what comes.
bool Simulation::Impl::answers_all(const Process& p) const {
  if (!p.up() || p.paused || p.is_gone() || p.turn_cost > Duration(0)) return false;
  size_t others = 0;
  for (const auto& other : processes_) {
    if (other->id == p.id || !other->up()) continue;
    if (network_.is_cut(p.id, other->id) || network_.is_cut(other->id, p.id)) return false;
    if (!network_.is_connected(p.id, other->id) || !network_.is_connected(other->id, p.id)) {
      return false;
    }
    // One that broke behind a cut: a probe on it is not answered, even if the connection that
    // replaces it stands.
    if (network_.has_unnoticed_end(p.id, other->id)) return false;
    const auto counters = other->peers->counters();
    const auto at = counters.find(p.id);
    if (at == counters.end() || at->second.times_reached == at->second.times_lost) return false;
    ++others;
  }
  return others > 0;
}

void Simulation::Impl::start_clone(Process& p, Random& random) {
  timeline_.note('D', p.id.value());
  timeline_.trace("a copy of node {} starts", p.id);
  clone_ = std::make_unique<Clone>();
  clone_->simulation = this;
  clone_->original = &p;
  clone_->incarnation = random.next();
  transport::PeersOptions options;
  options.self = p.id;
  options.seed = random.next();
  transport::PeersHooks hooks;
  hooks.hello = [this] {
    wire::Hello hello = hello_of(*clone_->original, NodeId());
    hello.incarnation = clone_->incarnation;
    return hello;
  };
  hooks.check = [this](const wire::Hello& hello) {
    return clone_->original->node->check_peer(hello);
  };
  hooks.on_refused = [this](NodeId peer, const wire::Refusal& refusal, Time) {
    timeline_.trace("the copy is refused by node {}: {}", peer, refusal.text);
    if (refusal.code == wire::RefusalCode::kTwin) bite(Fault::kClone);
    end_clone();
  };
  clone_->peers = std::make_unique<transport::Peers>(options, *clone_, std::move(hooks));
  std::map<NodeId, std::vector<Address>> addresses;
  for (const auto& other : processes_) {
    if (other->id != p.id && other->up()) addresses[other->id] = {Network::address_of(other->id)};
  }
  clone_->peers->set_peers(addresses, now());
  network_.carry_out(clone_endpoint());
  watch_clone();
}

void Simulation::Impl::watch_clone() {
  timeline_.after(kCloneLook, [this, incarnation = clone_->incarnation] {
    if (!clone_ || clone_->incarnation != incarnation || stopped()) return;
    if (!faults_on_ || !answers_all(*clone_->original)) return end_clone();
    // Who has heard it asks the first process, and has the answer before a probe is over.
    for (const auto& other : processes_) {
      auto& [connection, looks] = clone_->looks[other->id];
      const uint64_t before =
          std::exchange(connection, network_.connection_of(clone_endpoint(), other->id));
      const bool hears = other->up() && !other->paused && other->turn_cost == Duration(0) &&
                         connection != 0 && connection == before;
      looks = hears ? looks + 1 : 0;
      if (looks < kCloneLooks) continue;
      return checkers_.fail(
          fmt::format("clone: node {} does not refuse a second process of node {}", other->id,
                      clone_->original->id));
    }
    watch_clone();
  });
}

void Simulation::Impl::clone_is_reached(NodeId peer) {
  checkers_.fail(
      fmt::format("clone: node {} takes a second process of node {}, and the first one answers",
                  peer, clone_->original->id));
}

// In the next event: the caller may be one of its connections.
void Simulation::Impl::end_clone() {
  if (!clone_ || clone_->has_ended) return;
  clone_->has_ended = true;
  clone_->peers->stop();
  timeline_.after(Duration(0), [this] {
    network_.went_down(clone_endpoint());
    clone_.reset();
  });
}

}  // namespace connectd::sim
