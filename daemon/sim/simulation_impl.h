// The state of one run, private to sim/. Its functions lie in several files by what they are about:
//   simulation.cc  the door; the phases of a run, and what is demanded in each
//   machines.cc    nodes: how they start, run and end, their threads' work, their connections
//   forming.cc     the first forming of the cluster
//   injection.cc   faults, operators, settings
//   clones.cc, outsiders.cc, strangers.cc    who is no member, or no member any more
//   clients.cc     what asks, and what is noted of the answers
//   health.cc      what each node says of itself to health probes
#pragma once

#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "node/membership/bootstrap.h"
#include "node/membership/refusals.h"
#include "node/node.h"
#include "sim/checkers.h"
#include "sim/client_link.h"
#include "sim/copy_capture.h"
#include "sim/faulty_file_system.h"
#include "sim/history.h"
#include "sim/hostile_client.h"
#include "sim/machine_clock.h"
#include "sim/network.h"
#include "sim/simulation.h"
#include "sim/timeline.h"
#include "sim/workload.h"
#include "storage/identity.h"

namespace connectd::sim {

inline constexpr Duration kElectionTimeout = std::chrono::milliseconds(500);
inline constexpr Duration kRequestTimeout = std::chrono::seconds(5);
// Beyond the founders: so many nodes may be added in a run.
inline constexpr size_t kMaxAdded = 5;

inline Random stream_of(uint64_t seed, uint64_t purpose) {
  return Random(seed * 0x9e3779b97f4a7c15 + purpose * 0xd1b54a32d192ed03 + 0x2545f4914f6cdd1d);
}
inline Duration draw(Random& random, Duration low, Duration high) {
  return low + Duration(random.below(static_cast<uint64_t>((high - low).count()) + 1));
}

class Simulation::Impl final : public Endpoints {
 public:
  explicit Impl(SimOptions options);
  ~Impl() {
    for (auto& p : processes_) p->hostile.reset();
    for (auto& client : clients_) client->link.reset();
    for (auto& probe : probes_) probe->link.reset();
  }
  SimReport run();

 private:
  struct Process;
  struct Client final : ClientLink::Owner {
    Impl* simulation = nullptr;
    size_t number = 0;
    Process* process = nullptr;
    uint64_t connection = 0;  // Operation::client
    std::unique_ptr<ClientLink> link;
    Time carry_at = Time::max();
    Time slow_until{};  // it takes no bytes
    bool slow_may_bite = false;
    std::deque<size_t> outstanding;  // in history_
    bool only_reads = false;         // stays at its node, often on a new connection
    bool is_probe = false;           // of the liveness phase and the end
    bool probe_done = false;

    node::ReadOptions submitting(size_t operation) override {
      return simulation->submitting(*this, operation);
    }
    void resumed() override { simulation->give_time_again(*this); }
    void replied(const node::Reply& reply) override { simulation->replied(*this, reply); }
    void others_may_go_on() override { simulation->wake_port(*process); }
    void bytes_wait() override { simulation->carry_later(*this); }
    void violation(std::string text) override { simulation->checkers_.fail(std::move(text)); }
  };

  // One machine: its disk and clock, and while the process is up its Node.
  struct Process final : wire::Transport, wire::TransportHandler, node::ApplyObserver, Supervisor {
    Impl* simulation = nullptr;
    NodeId id;
    DiskId disk_id;
    std::unique_ptr<FaultyFileSystem> files;
    MachineClock clock;
    node::NodeOptions options;
    std::unique_ptr<CopyCapturer> capturer;
    std::unique_ptr<node::Node> node;
    std::unique_ptr<SimPort> port;  // of clients; probes have one of their own
    std::unique_ptr<SimPort> probe_port;
    bool wakes_port = false;  // an event will do it
    std::unique_ptr<HostileClient> hostile;
    std::unique_ptr<transport::Peers> peers;  // while it runs
    // While the cluster forms; it may run without a node.
    std::unique_ptr<node::Bootstrap> bootstrap;
    storage::Identity identity;  // on its disk; none: it has never run
    bool has_joined = false;     // the founding document is on its disk
    Time next_offer{};
    std::optional<node::Refusals> refusals;
    bool peers_tried = false;                 // its node was told so
    std::pair<Index, bool> followed_members;  // the configuration that `peers` dials, and settled
    bool has_run = false;
    uint64_t life = 1;  // rises at each start and end: what was arranged for an older one is void
    std::optional<Error> fatal;
    Time turn_at = Time::max();
    bool writer_scheduled = false;
    bool applier_scheduled = false;
    bool worker_scheduled = false;
    bool snapshotter_scheduled = false;
    Duration disk_low{};
    Duration disk_high{};
    Duration disk_extra{};  // of a slow one
    Time stalled_until{};   // its disk completes nothing
    Time plugin_until{};    // a call of its plugin comes back
    Duration turn_cost{};   // at most, of each turn
    Time in_turn_until{};   // its loop takes nothing else
    bool paused = false;    // it does nothing; what was to happen waits
    Time paused_since{};
    uint64_t pauses = 0;
    Duration paused_before{};
    std::vector<std::function<void()>> held;
    FaultSet has_bitten;  // of the present pause, slow time, stall and full disk
    bool restart_pending = false;
    bool error_planned = false;  // a write or sync is to fail, or has
    bool disk_is_full = false;
    bool no_descriptors = false;    // of this process; another one has its own
    uint64_t snapshots_failed = 0;  // after the last step
    bool off_planned = false;       // the machine dies in the middle of a disk operation
    bool off_keeps_cache = false;
    bool damaged = false;  // bytes of its disk were changed
    Fault damage = Fault::kBitFlip;
    bool has_wrong_clock = false;
    std::optional<Time> clock_right_since;  // it was wrong before
    uint64_t clocks_drawn = 0;
    bool wiped = false;
    bool outside = false;  // it was never let in
    bool fresh = false;    // its disk is empty
    bool unbound = false;  // it was let in, and no settled list of members has its disk yet
    uint8_t disk_number = 0;

    // It does not hold what the cluster may count on.
    bool is_gone() const { return damaged || wiped || lost || outside || unbound; }
    // On each small link: the connection that took a message, and one that is known to break.
    std::map<NodeId, std::pair<uint64_t, uint64_t>> links;
    bool stays_down = false;    // through the liveness phase
    bool lost = false;          // will not come back: refused to start, or was refused
    node::Readiness readiness;  // what /readyz says
    Time heard_at{};            // by its own clock: any message of another node
    // By its own clock: what any node knew to be committed then.
    std::deque<std::pair<Time, Index>> committed_before;
    Index snapshot;
    uint64_t installed = 0;
    uint64_t resumed = 0;

    bool up() const { return node != nullptr; }
    bool runs() const { return peers != nullptr; }
    // How long it could not answer.
    Duration paused_total(Time now) const {
      return paused_before + (paused ? now - paused_since : Duration(0));
    }
    void begin_call(Time now, Duration length) {
      plugin_until = std::max(plugin_until, now + length);
    }
    void end_call(Time now) { plugin_until = std::min(plugin_until, now); }
    void send(NodeId to, wire::PeerMessage message) override {
      simulation->send(*this, to, std::move(message));
    }
    void wake() override {
      simulation->schedule_turn(*this, simulation->now() + std::chrono::microseconds(1));
    }
    void fail(Error error) override {
      if (!fatal) fatal = std::move(error);
    }
    void flush() override {
      peers->flush();
      simulation->network_.carry_out(id);
    }
    std::string on_message(const wire::Hello& sender, wire::PeerMessage message) override {
      heard_at = clock.local(simulation->now());
      simulation->expect_own_cluster(*this, sender);
      return simulation->deliver(*this, sender, std::move(message));
    }
    void on_peer_reached(NodeId peer, const wire::Hello& hello) override {
      simulation->reached(*this, peer, hello);
    }
    void on_peer_lost(NodeId peer) override { simulation->lost(*this, peer); }
    void on_applied(const raft::Entry& entry, int32_t status, ByteView reply,
                    const node::ReplicatedState& state) override {
      simulation->checkers_.applied(id, entry, status, reply, state);
    }
    void on_restored(const node::ReplicatedState& state) override {
      simulation->checkers_.restored(id, state);
    }
  };

  // The connections of a second process of a node, on a copy of its machine.
  struct Clone final : wire::TransportHandler {
    Impl* simulation = nullptr;
    Process* original = nullptr;
    uint64_t incarnation = 0;
    std::unique_ptr<transport::Peers> peers;
    // Its connection with each node, and at how many looks it has stood.
    std::map<NodeId, std::pair<uint64_t, int>> looks;
    bool has_ended = false;

    std::string on_message(const wire::Hello&, wire::PeerMessage) override { return {}; }
    void on_peer_reached(NodeId peer, const wire::Hello&) override {
      simulation->clone_is_reached(peer);
    }
    void on_peer_lost(NodeId) override {}
  };

  // The connections of a process that is no member: of another cluster or, while the cluster forms,
  // of none, and then with a Bootstrap of its own.
  struct Outsider final : wire::TransportHandler {
    Impl* simulation = nullptr;
    uint64_t number = 0;
    wire::Hello hello;
    std::unique_ptr<transport::Peers> peers;
    std::optional<node::Bootstrap> bootstrap;
    std::vector<NodeId> stands_at;  // it answers at the addresses of these
    bool has_ended = false;

    std::string on_message(const wire::Hello& sender, wire::PeerMessage message) override {
      if (!bootstrap) {
        simulation->foreigner_is_reached(sender.node_id);
      } else {
        node::Effects out;
        std::string fault = bootstrap->message(sender.node_id, message, out);
        for (auto& [to, answer] : out.messages) peers->send(to, std::move(answer));
        simulation->look_at_unlisted();
        return fault;
      }
      return {};
    }
    void on_peer_reached(NodeId peer, const wire::Hello& sender) override {
      if (!bootstrap) return simulation->foreigner_is_reached(peer);
      bootstrap->peer_reached(peer, sender);
      simulation->look_at_unlisted();
    }
    void on_peer_lost(NodeId peer) override {
      if (bootstrap) bootstrap->peer_lost(peer);
    }
  };

  // ---- Endpoints
  transport::Peers* peers_of(NodeId id) override {
    if (id == clone_endpoint()) {
      return clone_ && !clone_->has_ended ? clone_->peers.get() : nullptr;
    }
    if (id == outside_endpoint()) {
      return outsider_ && !outsider_->has_ended ? outsider_->peers.get() : nullptr;
    }
    return process(id).peers.get();
  }
  void arrive(NodeId id, std::function<void()> action) override;

  // ---- what the network brings to a node
  void open_peers(Process& p);
  void follow_members(Process& p);  // whom it dials
  std::string deliver(Process& p, const wire::Hello& sender, wire::PeerMessage message);
  void reached(Process& p, NodeId peer, const wire::Hello& hello);
  void lost(Process& p, NodeId peer);
  void refused(Process& p, NodeId peer, const wire::Refusal& refusal, Time hello_at);

  Process& process(NodeId id) { return *processes_[id.value() - 1]; }
  const Process& process(NodeId id) const { return *processes_[id.value() - 1]; }
  size_t quorum() const { return options_.nodes / 2 + 1; }
  Time now() const { return timeline_.now(); }

  // ---- nodes
  void draw_options(Process& p);
  void draw_rare_options(node::NodeOptions& options);
  void start(Process& p);
  bool open_node(Process& p);  // false: it does not start, or its machine has died
  void begin_life(Process& p);
  std::unique_ptr<Process> make_process(NodeId id, Random& random);
  // A node with an empty disk asks to be let in.
  void knock(Process& p);
  void note_conf(const node::Node& node);
  std::vector<Process*> members_now();
  // `power`: what was not synced may be gone.
  void end(Process& p, bool power, const char* why);
  void restart_later(Process& p, Duration low, Duration high);
  // Arranges `action` for this life of the process; it waits while the process is paused.
  void when(Process& p, Time time, std::function<void()> action);
  // Likewise on its loop, which may be in a turn that takes long.
  void when_free(Process& p, Time time, std::function<void()> action);
  void pause(Process& p, Duration length);
  void resume(Process& p);
  // Its disk and its process are as they should be again.
  void repair(Process& p);
  void schedule_turn(Process& p, Time time);
  void turn(Process& p);
  void schedule_workers(Process& p);
  // After anything that ran code of the node: whether it still stands.
  bool stands(Process& p);
  void handle_fatal(Process& p);
  void after_step(Process& p);
  void send(Process& from, NodeId to, wire::PeerMessage message);
  bool stopped() const { return !checkers_.violation().empty(); }
  wire::Hello hello_of(const Process& p, NodeId to) const;

  // ---- forming
  void form();
  bool has_formed() const;
  std::string waiting_texts() const;
  void disturb_forming(Time calm);
  void interrupt_forming(Process& p);
  bool open_identity(Process& p);
  bool died_forming(Process& p);
  void start_forming(Process& p);
  node::Bootstrap::Options founding_options(const Process& p);
  bool open_founder(Process& p);
  void turn_bootstrap_later(Process& p, Time time);
  void turn_bootstrap(Process& p);
  bool adopt_genesis(Process& p);
  void look_at_founding(Process& p, const node::Genesis& genesis);
  void start_unlisted(Random& random);
  void look_at_unlisted();
  void dial_founders(Process& p);

  // ---- faults
  void arm_connection_faults();
  void arm_faults();
  void every(Fault fault, Duration low, Duration high, std::function<void(Random&)> inject);
  Process& victim(Random& random);  // leaders are hit more often than others
  void count(Fault fault) { ++report_.faults[fault].injected; }
  void bite(Fault fault) { ++report_.faults[fault].bitten; }
  // Of faults that last: each bites once, however often.
  void begin(Process& p, Fault fault) {
    count(fault);
    p.has_bitten.set(fault, false);
  }
  void bite(Process& p, Fault fault) {
    if (!p.has_bitten.has(fault)) bite(fault);
    p.has_bitten.set(fault);
  }
  bool may_lose_one(const Process& p) const;
  void cut_groups(const std::vector<bool>& side, uint64_t episode, Fault why);
  void cut_off(Process& p, uint64_t episode, Fault why);
  void flap(NodeId a, NodeId b, int times, Random* random);
  void power_cut(Process& p);
  void expect_another_leader(Process& stalled);
  void damage(Process& p, Fault fault, Random& random);
  void change_rate(Process& p, uint64_t permille);
  void wipe(Process& p);
  void operate(Random& random);
  Network::Knobs with_changed_bits(Network::Knobs knobs);
  void draw_faults();
  void arm_lost_writes();
  void arm_slowness();
  void arm_clones();
  bool answers_all(const Process& p) const;
  void start_clone(Process& p, Random& random);
  void clone_is_reached(NodeId peer);
  void watch_clone();
  void end_clone();
  // Where the network finds it.
  NodeId clone_endpoint() const { return NodeId(options_.nodes + kMaxAdded + 1); }
  void draw_sizes();
  void scale_options(node::NodeOptions& options);
  void send_on_small_link(Process& from, NodeId to, wire::PeerMessage message);
  void send_large(Client& client);
  void arm_foreigners();
  void start_foreigner(Random& random);
  void stand_at(NodeId member, Random& random);
  std::unique_ptr<Outsider> make_outsider(wire::Hello hello);
  void open_outsider(Random& random, transport::PeersHooks hooks,
                     const std::map<NodeId, std::vector<Address>>& addresses);
  void foreigner_is_reached(NodeId by);
  void expect_own_cluster(const Process& p, const wire::Hello& sender);
  void end_outsider();
  NodeId outside_endpoint() const { return NodeId(options_.nodes + kMaxAdded + 2); }
  void arm_strangers();
  void meet_stranger(Process& p, Random& random);
  void send_term_out_of_reach(Process& p, const wire::Hello& sender, Random& random);
  void arm_hostile_bytes();
  void meet_hostile_client(Process& p, Random& random);
  void meet_hostile_peer(Process& p, Random& random);
  void arm_settings();
  void change_setting();
  void arm_tests_of_leases();
  void test_lease();
  void turn_clocks_wild(Process& leader);
  void tame_clocks();
  void stop_faults();

  // ---- clients
  void client_act(Client& client);
  void submit(Client& client);
  void submit(Client& client, const Workload::Request& request);
  node::ReadOptions submitting(Client& client, size_t operation);
  void draw_client_limits();
  void open(Client& client);
  void close(Client& client);  // in one of several ways
  void open_ports(Process& p);
  void wake_port(Process& p);
  void carry_later(Client& client);
  void carry(Client& client);
  void arm_descriptors();
  void arm_slow_readers();
  void slow_down(Client& client, Duration length);
  void give_time_again(Client& client);
  Client* client_on(uint64_t connection);
  void drop(Client& client);  // its connection: what is outstanding is not known
  void drop_clients_of(Process& p);
  void replied(Client& client, const node::Reply& reply);
  void look_for_late_answers();

  // ---- health
  void watch_health();
  void look_at_health(Process& p);
  void demand_health(const std::vector<Process*>& nodes);

  // clocks.cc
  void arm_clocks();
  void draw_clock(Process& p);
  void set_right(Process& p);
  bool may_seem_wrong(const Process& p) const;
  void look_at_log_time(Process& p);

  // ---- phases
  bool run_until(Time end, const std::function<bool()>& done);
  bool demand_progress(const std::vector<Process*>& nodes, Duration bound);
  void safety();
  void liveness();
  void liveness_with_changes(const std::vector<Process*>& nodes);
  void heal(const std::vector<Process*>& nodes);
  void finish();
  void search();
  std::string states() const;

  const SimOptions options_;
  SimReport report_;
  Timeline timeline_;
  std::unique_ptr<Workload> workload_;
  Network network_;
  Checkers checkers_;
  node::Genesis genesis_;
  FaultSet active_;       // drawn for this seed
  bool changes_ = false;  // of members
  // Configurations that may be in force somewhere: the newest that is settled, and what came after
  // it in any log.
  std::vector<std::pair<Index, raft::ConfState>> confs_;
  Index settled_conf_;
  // One stream of numbers a purpose, so that a fault that is left out changes nothing else.
  Random node_random_;
  Random worker_random_;
  Random client_random_;
  Random phase_random_;
  Random capture_random_;
  Time second_began_;
  uint64_t events_of_second_ = 0;
  Random lease_random_;
  Random read_random_;
  Random link_random_;
  Random option_random_;
  client::ClientPortOptions port_;
  size_t socket_bytes_ = size_t{64} << 10;
  // Between nodes.
  size_t window_bytes_ = 0;  // 0: links are not small
  size_t output_bytes_ = wire::kMaxLinkOutputBytes;
  std::vector<Random> fault_random_;
  std::vector<std::unique_ptr<Process>> processes_;
  std::unique_ptr<Clone> clone_;
  std::unique_ptr<Outsider> outsider_;
  bool is_forming_ = false;
  bool is_calm_ = false;  // nothing disturbs the forming any more
  uint64_t forming_crashes_ = 0;
  std::string founding_;  // the first document that was durable on a disk
  std::vector<std::unique_ptr<Client>> clients_;
  std::vector<std::unique_ptr<Client>> probes_;
  History history_;
  struct Waiting {  // per operation: when its node got it, by that node's clock, and its pauses
    Process* process = nullptr;  // none: the node does not have it yet
    Time local;
    Duration paused{};
    node::ReadOptions read;
  };
  std::vector<Waiting> waiting_;
  uint64_t next_connection_ = 1;
  uint64_t next_order_ = 1;
  uint64_t next_episode_ = 1;
  double write_percent_ = 70;
  // Each client asks one thing at a time: then a search for a linearization comes to an end.
  bool calm_ = false;
  bool reads_have_levels_ = false;
  // Leases are on at times, and priorities differ. Clocks keep within the bound then, or are wild
  // at times: then a lease read promises nothing but the order of its connection, and everything
  // else what it always does.
  bool leases_ = false;
  bool clocks_are_wild_ = false;
  bool clocks_are_undecided_ = false;  // so many were wrong that log time need not be right
  uint64_t slowest_clock_ = 500;       // permille, of those that may be drawn
  uint64_t fastest_clock_ = 2000;
  uint64_t slowest_tame_clock_ = 500;  // likewise, within the bound if there is one
  uint64_t fastest_tame_clock_ = 2000;
  bool faults_on_ = true;
  bool clients_on_ = true;
};

}  // namespace connectd::sim
