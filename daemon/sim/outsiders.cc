// Processes that belong to no member: one of another cluster, which dials the members and answers
// at the address of one of them. Nothing may come of it: both sides refuse by name, no message
// passes, and nobody whose log has begun ends.
#include <algorithm>
#include <utility>

#include "sim/simulation_impl.h"

namespace connectd::sim {

using std::chrono::milliseconds;

namespace {
const NodeId kForeignId(0x7002);

bool is_refusal_of_a_foreigner(wire::RefusalCode code) {
  return code == wire::RefusalCode::kClusterName || code == wire::RefusalCode::kClusterId ||
         code == wire::RefusalCode::kWrongNode;
}
}  // namespace

void Simulation::Impl::arm_foreigners() {
  every(Fault::kForeignCluster, milliseconds(200), milliseconds(3000), [this](Random& random) {
    if (outsider_) return;
    count(Fault::kForeignCluster);
    start_foreigner(random);
    timeline_.after(draw(random, milliseconds(100), milliseconds(2000)),
                    [this, number = outsider_->number] {
                      if (outsider_ && outsider_->number == number) end_outsider();
                    });
  });
}

std::unique_ptr<Simulation::Impl::Outsider> Simulation::Impl::make_outsider(wire::Hello hello) {
  auto outsider = std::make_unique<Outsider>();
  outsider->simulation = this;
  outsider->number = next_episode_++;
  outsider->hello = std::move(hello);
  return outsider;
}

void Simulation::Impl::start_foreigner(Random& random) {
  wire::Hello hello;
  hello.cluster_name = random.chance(40) ? "other" : genesis_.cluster_name;
  hello.cluster_id.bytes[0] = 0x72;
  const Process& one = *processes_[random.below(processes_.size())];
  // Its cluster counts its nodes from 1, too.
  hello.node_id = random.chance(60) ? one.id : kForeignId;
  hello.disk_id.bytes[0] = 0x72;
  if (random.chance(20)) hello.disk_id = one.disk_id;  // of a copied disk image
  hello.peer_address = Network::address_of(outside_endpoint()).to_string();
  hello.plugin_name = options_.plugin->name();
  hello.plugin_level_min = options_.plugin->level_min();
  hello.plugin_level_max = options_.plugin->level_max();
  hello.plugin_level = genesis_.plugin_level;
  hello.members_index = Index(random.below(1000));
  hello.feature_level = hello.feature_level_max = raft::highest_feature_level();
  hello.incarnation = random.next();
  outsider_ = make_outsider(std::move(hello));
  timeline_.note('O', outsider_->hello.node_id.value());
  timeline_.trace("node {} of cluster '{}' {} appears", outsider_->hello.node_id,
                  outsider_->hello.cluster_name, outsider_->hello.cluster_id.to_string());
  transport::PeersHooks hooks;
  hooks.check = [](const wire::Hello&) { return std::nullopt; };
  hooks.on_refused = [this](NodeId, const wire::Refusal& refusal, Time) {
    if (is_refusal_of_a_foreigner(refusal.code)) bite(Fault::kForeignCluster);
  };
  std::map<NodeId, std::vector<Address>> addresses;
  for (const auto& p : processes_) {
    const bool is_dialled = p->id != outsider_->hello.node_id && random.chance(70);
    if (is_dialled) addresses[p->id] = {Network::address_of(p->id)};
  }
  open_outsider(random, std::move(hooks), addresses);
  // Whoever dials these members now reaches the other cluster.
  const size_t one_stands = random.chance(60) ? random.below(processes_.size()) : SIZE_MAX;
  const bool stands_everywhere = random.chance(20);
  for (size_t i = 0; i < processes_.size(); ++i) {
    if (stands_everywhere || i == one_stands) stand_at(processes_[i]->id, random);
  }
}

void Simulation::Impl::stand_at(NodeId member, Random& random) {
  outsider_->stands_at.push_back(member);
  network_.divert(member, outside_endpoint());
  for (const auto& p : processes_) {
    if (p->id != member && random.chance(50)) network_.break_connection(p->id, member);
  }
}

void Simulation::Impl::open_outsider(Random& random, transport::PeersHooks hooks,
                                     const std::map<NodeId, std::vector<Address>>& addresses) {
  transport::PeersOptions options;
  options.self = outsider_->hello.node_id;
  options.seed = random.next();
  hooks.hello = [this] { return outsider_->hello; };
  outsider_->peers = std::make_unique<transport::Peers>(options, *outsider_, std::move(hooks));
  outsider_->peers->set_peers(addresses, now());
  network_.carry_out(outside_endpoint());
}

void Simulation::Impl::foreigner_is_reached(NodeId by) {
  checkers_.fail(fmt::format("foreign cluster: node {} and node {} of cluster '{}' {} agree", by,
                             outsider_->hello.node_id, outsider_->hello.cluster_name,
                             outsider_->hello.cluster_id.to_string()));
}

// What a member knows of who speaks to it.
void Simulation::Impl::expect_own_cluster(const Process& p, const wire::Hello& sender) {
  const bool is_own = sender.cluster_name == genesis_.cluster_name &&
                      (!sender.cluster_id || sender.cluster_id == genesis_.cluster_id);
  if (is_own) return;
  checkers_.fail(fmt::format("foreign cluster: node {} listens to node {} of cluster '{}' {}", p.id,
                             sender.node_id, sender.cluster_name, sender.cluster_id.to_string()));
}

// In the next event: the caller may be one of its connections.
void Simulation::Impl::end_outsider() {
  if (!outsider_ || outsider_->has_ended) return;
  outsider_->has_ended = true;
  outsider_->peers->stop();
  for (NodeId member : outsider_->stands_at) network_.divert(member, member);
  timeline_.after(Duration(0), [this] {
    network_.went_down(outside_endpoint());
    outsider_.reset();
  });
}

}  // namespace connectd::sim
