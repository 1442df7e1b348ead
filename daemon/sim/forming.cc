// The first forming of a cluster: empty disks, node::Bootstrap in the node's place, and the
// identity file, as in app/daemon.cc. Messages are lost, machines die at any change of their disks,
// one member comes late, and a process that no member lists comes with an empty disk, too.
//
// The rules (`bootstrap`): one document only is ever durable on any disk; it names every listed
// member with its disk, none of which may have been unheard; a process that belongs to it finds it
// again after any crash; and when all is well, all form.
#include <algorithm>
#include <utility>

#include "sim/simulation_impl.h"

namespace connectd::sim {

using std::chrono::microseconds;
using std::chrono::milliseconds;
using std::chrono::seconds;

namespace {
constexpr const char* kDirectory = "data";
constexpr Duration kInterval = milliseconds(100);  // as in production
constexpr Duration kFormed = seconds(30);          // once nothing is broken any more
const NodeId kUnlistedId(0x7003);
}  // namespace

// Until all have formed. The faults of the rest of the run come later.
void Simulation::Impl::form() {
  Random& random = fault_random_[static_cast<size_t>(Fault::kBootstrap)];
  is_forming_ = true;
  count(Fault::kBootstrap);
  Network::Knobs knobs;
  knobs.delay_high = microseconds(random.between(500, 20'000));
  if (random.chance(60)) knobs.loss_percent = static_cast<double>(random.between(1, 30));
  network_.set_knobs(knobs);
  const Time calm = now() + draw(random, milliseconds(500), seconds(8));
  const size_t late = random.below(processes_.size());
  for (auto& p : processes_) {
    const bool is_late = random.chance(40) && p == processes_[late];
    restart_later(*p, milliseconds(0), is_late ? calm - now() : milliseconds(500));
  }
  if (random.chance(40)) start_unlisted(random);
  disturb_forming(calm);
  run_until(calm, [this] { return has_formed(); });
  is_calm_ = true;
  network_.set_knobs({});
  for (auto& p : processes_) {
    for (auto& other : processes_) network_.heal_between(p->id, other->id);
    p->files->clear_failures();
    p->off_planned = false;
  }
  run_until(now() + kFormed, [this] { return has_formed(); });
  if (stopped()) return;
  if (!has_formed()) return checkers_.fail("bootstrap: not all have formed" + waiting_texts());
  if (forming_crashes_ > 0) bite(Fault::kBootstrap);
  end_outsider();
  for (auto& p : processes_) p->bootstrap.reset();
  is_forming_ = false;
}

bool Simulation::Impl::has_formed() const {
  return std::ranges::all_of(processes_, [](const auto& p) { return p->up(); });
}

std::string Simulation::Impl::waiting_texts() const {
  std::string text;
  for (const auto& p : processes_) {
    const char* state = p->up() ? "has formed" : "is down";
    text += fmt::format("; node {} {}", p->id,
                        !p->up() && p->bootstrap ? p->bootstrap->waiting_for() : state);
  }
  return text;
}

// At any change of a disk, or between two; or a link is cut for a while.
void Simulation::Impl::disturb_forming(Time calm) {
  Random& random = fault_random_[static_cast<size_t>(Fault::kBootstrap)];
  timeline_.after(draw(random, milliseconds(1), milliseconds(600)), [this, calm, &random] {
    if (is_calm_ || stopped()) return;
    Process& p = *processes_[random.below(processes_.size())];
    if (random.chance(25)) {
      const uint64_t episode = next_episode_++;
      cut_off(p, episode, Fault::kBootstrap);
      timeline_.after(draw(random, milliseconds(10), milliseconds(1500)),
                      [this, episode] { network_.heal(episode); });
    } else if (!p.off_planned) {
      p.off_keeps_cache = random.chance(50);
      p.off_planned = random.chance(70);
      if (p.off_planned) {
        p.files->power_off_at_change(random.between(1, 12));
      } else {
        interrupt_forming(p);
      }
    }
    disturb_forming(calm);
  });
}

void Simulation::Impl::interrupt_forming(Process& p) {
  if (!p.runs()) return;
  ++forming_crashes_;
  end(p, !p.off_keeps_cache, "it dies while the cluster forms");
  restart_later(p, milliseconds(1), milliseconds(1500));
}

// ---- one process

// As app::open_data_directory.
bool Simulation::Impl::open_identity(Process& p) {
  const auto made = p.files->make_directory(kDirectory);
  DiskId fresh = p.disk_id;
  fresh.bytes[1] = ++p.disk_number;
  auto identity = storage::open_identity(*p.files, kDirectory, p.id, fresh);
  if (p.files->is_off()) return false;
  CHECK(made && identity) << identity.error().text;
  p.identity = std::move(*identity);
  p.disk_id = p.identity.disk_id;
  if (p.has_joined && p.identity.genesis != founding_) {
    checkers_.fail(fmt::format("bootstrap: node {} forgets the cluster to which it belongs", p.id));
    return false;
  }
  return true;
}

// The machine died during a call. True: it did.
bool Simulation::Impl::died_forming(Process& p) {
  if (!p.files->is_off()) return false;
  ++forming_crashes_;
  const bool power = !p.off_keeps_cache;
  timeline_.trace("node {} dies in a disk operation", p.id);
  if (p.runs()) {
    end(p, power, "it dies in a disk operation");
  } else {
    p.node.reset();
    p.bootstrap.reset();
    power ? static_cast<void>(p.files->crash()) : p.files->restart_process();
    p.off_planned = false;
  }
  restart_later(p, milliseconds(1), milliseconds(1500));
  return true;
}

void Simulation::Impl::start_forming(Process& p) {
  ++p.life;
  p.fatal.reset();
  if (!open_identity(p)) {
    died_forming(p);
    return;
  }
  p.bootstrap = std::make_unique<node::Bootstrap>(founding_options(p));
  draw_options(p);
  if (!p.identity.genesis.empty()) {
    auto genesis = node::Genesis::decode(as_bytes(p.identity.genesis));
    CHECK(genesis.has_value()) << genesis.error().text;
    p.bootstrap->resume(*genesis);
    look_at_founding(p, *genesis);
    if (stopped() || !open_founder(p)) return;
  }
  timeline_.note('F', p.id.value(), p.up());
  timeline_.trace("node {} starts {}", p.id, p.up() ? "with its cluster" : "without a cluster");
  open_peers(p);
  if (p.up()) {
    open_ports(p);
    schedule_turn(p, now());
  }
  p.next_offer = now();
  turn_bootstrap_later(p, now());
}

node::Bootstrap::Options Simulation::Impl::founding_options(const Process& p) {
  node::Bootstrap::Options options;
  options.id = p.id;
  options.disk_id = p.disk_id;
  Random& random = fault_random_[static_cast<size_t>(Fault::kBootstrap)];
  options.fresh_cluster_id.bytes[0] = 1;
  for (size_t i = 1; i < 9; ++i) {
    options.fresh_cluster_id.bytes[i] = static_cast<uint8_t>(random.below(256));
  }
  options.cluster_name = genesis_.cluster_name;
  for (const auto& member : processes_) {
    options.members.push_back(
        {member->id, DiskId(), Network::address_of(member->id).to_string(), {}, {}});
  }
  options.max_request = genesis_.max_request;
  options.plugin_name = options_.plugin->name();
  options.plugin_level_min = options_.plugin->level_min();
  options.plugin_level_max = options_.plugin->level_max();
  options.settings = genesis_.settings;
  return options;
}

// Its disk has the document.
bool Simulation::Impl::open_founder(Process& p) {
  p.options.disk_id = p.disk_id;
  p.options.may_begin_log = !p.identity.log_begun;
  if (!open_node(p)) {
    died_forming(p);
    return false;
  }
  if (!p.identity.log_begun) {
    p.identity.log_begun = true;
    auto saved = storage::save_identity(*p.files, kDirectory, p.identity);
    if (died_forming(p)) return false;
    CHECK(saved.has_value()) << saved.error().text;
  }
  return true;
}

void Simulation::Impl::turn_bootstrap_later(Process& p, Time time) {
  when(p, time, [this, at = &p] {
    if (at->bootstrap) turn_bootstrap(*at);
  });
}

// As Daemon::Impl::turn_bootstrap.
void Simulation::Impl::turn_bootstrap(Process& p) {
  node::Effects out;
  if (!p.node) p.bootstrap->advance();
  if (p.bootstrap->refused()) {
    return checkers_.fail(
        fmt::format("bootstrap: node {} ends: {}", p.id, p.bootstrap->refused()->text));
  }
  if (!p.node && p.bootstrap->decided() && !adopt_genesis(p)) return;
  if (now() >= p.next_offer) {
    p.next_offer = now() + kInterval;
    if (p.node) p.bootstrap->offer(p.node->members().members, out);
    turn_bootstrap_later(p, p.next_offer);
  }
  for (auto& [to, message] : out.messages) p.peers->send(to, std::move(message));
  p.flush();
}

bool Simulation::Impl::adopt_genesis(Process& p) {
  p.identity.genesis = p.bootstrap->decided()->encode();
  p.identity.cluster_id = p.bootstrap->lineage().cluster_id;
  auto saved = storage::save_identity(*p.files, kDirectory, p.identity);
  if (died_forming(p)) return false;
  CHECK(saved.has_value()) << saved.error().text;
  p.bootstrap->durable();
  look_at_founding(p, *p.bootstrap->decided());
  if (stopped() || !open_founder(p)) return false;
  timeline_.trace("node {} has formed cluster {}", p.id, genesis_.cluster_id.to_string());
  open_ports(p);
  p.followed_members = {};
  follow_members(p);
  for (const auto& [peer, hello] : p.bootstrap->connected()) p.node->on_peer_reached(peer, hello);
  p.next_offer = now();
  schedule_turn(p, now());
  return true;
}

// It is durable on this disk.
void Simulation::Impl::look_at_founding(Process& p, const node::Genesis& genesis) {
  p.has_joined = true;
  if (founding_.empty()) {
    founding_ = genesis.encode();
    genesis_ = genesis;
    confs_.front().second = genesis.conf();
  }
  if (genesis.encode() != founding_) {
    return checkers_.fail(fmt::format("bootstrap: node {} forms cluster {}, others have formed {}",
                                      p.id, genesis.cluster_id.to_string(),
                                      genesis_.cluster_id.to_string()));
  }
  if (!p.bootstrap->founds()) {
    return checkers_.fail(fmt::format("bootstrap: node {} is no founder with its disk", p.id));
  }
  for (const auto& member : processes_) {
    const node::GenesisMember* listed = genesis.find(member->id);
    if (listed != nullptr && member->identity.node_id && listed->disk_id == member->disk_id) {
      continue;
    }
    return checkers_.fail(fmt::format(
        "bootstrap: the document of node {} does not have the disk of node {}", p.id, member->id));
  }
}

void Simulation::Impl::dial_founders(Process& p) {
  std::map<NodeId, std::vector<Address>> addresses;
  for (const auto& other : processes_) {
    if (other->id != p.id) addresses[other->id] = {Network::address_of(other->id)};
  }
  p.peers->set_peers(addresses, now());
  network_.carry_out(p.id);
}

// ---- who is no member

// Its operator has listed it, and the others' have not: it must wait for ever.
void Simulation::Impl::start_unlisted(Random& random) {
  wire::Hello hello = hello_of(*processes_.front(), NodeId());
  if (random.chance(40)) hello.cluster_name = "other";
  hello.cluster_id = ClusterId();
  hello.plugin_level = 0;
  hello.node_id = kUnlistedId;
  hello.disk_id.bytes[0] = 0x73;
  hello.peer_address = Network::address_of(outside_endpoint()).to_string();
  hello.incarnation = random.next();
  outsider_ = make_outsider(std::move(hello));
  outsider_->bootstrap.emplace([&] {
    node::Bootstrap::Options options = founding_options(*processes_.front());
    options.id = kUnlistedId;
    options.disk_id = outsider_->hello.disk_id;
    options.cluster_name = outsider_->hello.cluster_name;
    options.members.push_back({kUnlistedId, DiskId(), outsider_->hello.peer_address, {}, {}});
    return options;
  }());
  transport::PeersHooks hooks;
  hooks.check = [](const wire::Hello&) { return std::nullopt; };
  hooks.on_refused = [this](NodeId peer, const wire::Refusal& refusal, Time) {
    outsider_->bootstrap->turned_away(peer, refusal.code);
  };
  std::map<NodeId, std::vector<Address>> addresses;
  for (const auto& p : processes_) addresses[p->id] = {Network::address_of(p->id)};
  open_outsider(random, std::move(hooks), addresses);
}

void Simulation::Impl::look_at_unlisted() {
  outsider_->bootstrap->advance();
  if (outsider_->bootstrap->decided()) {
    checkers_.fail("bootstrap: a process that no member lists belongs to the cluster");
  }
}

}  // namespace connectd::sim
