#include "sim/simulation.h"

#include <algorithm>
#include <cerrno>
#include <deque>
#include <optional>

#include "base/log.h"
#include "node/node.h"
#include "sim/checkers.h"
#include "sim/describe.h"
#include "sim/faulty_file_system.h"
#include "sim/history.h"
#include "sim/linearizability.h"
#include "sim/models.h"
#include "sim/network.h"
#include "sim/timeline.h"
#include "sim/workload.h"
#include "wire/handshake.h"

namespace connectd::sim {
namespace {
using std::chrono::microseconds;
using std::chrono::milliseconds;
using std::chrono::seconds;

constexpr int64_t kWallStart = 1'700'000'000'000'000'000;
constexpr Duration kElectionTimeout = milliseconds(500);
constexpr Duration kRequestTimeout = seconds(5);
// A request is answered this long after its deadline at the latest, by its node's clock, pauses
// left out.
constexpr Duration kAnswerSlack = seconds(1);
// A busy cluster has a hundredth of it.
constexpr uint64_t kEventsOfSecondMax = 2'000'000;
// The quorum of the liveness phase has this long, in election timeouts, for a leader and a write
// through every one of its nodes. Ten are promised for a cluster whose disks and clocks are
// ordinary; a disk that still has to finish what it was given, a snapshot to be sent, and a clock
// at half the rate take their time.
constexpr int kRecoveryTimeouts = 40;
// A leader whose disk stalls, in a cluster that is otherwise well, leads no more after so many.
constexpr int kStalledLeaderTimeouts = 10;
constexpr Duration kConvergence = seconds(60);
constexpr size_t kMaxOutstanding = 40;
// Beyond the founders: so many nodes may be added in a run.
constexpr size_t kMaxAdded = 5;
// Of a calm run's history, what the search for a linearization looks at, and may cost.
constexpr size_t kSearchedOperations = 4000;
constexpr uint64_t kSearchSteps = 300'000;

Random stream_of(uint64_t seed, uint64_t purpose) {
  return Random(seed * 0x9e3779b97f4a7c15 + purpose * 0xd1b54a32d192ed03 + 0x2545f4914f6cdd1d);
}
Duration draw(Random& random, Duration low, Duration high) {
  return low + Duration(random.below(static_cast<uint64_t>((high - low).count()) + 1));
}
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

// A machine's clocks: monotonic time at a rate of its own, and a wall clock that jumps.
class MachineClock {
 public:
  void set_rate(Time now, uint64_t permille) {
    local_at_ = local(now);
    since_ = now;
    permille_ = permille;
  }
  void jump(int64_t ns) { skew_ns_ += ns; }
  uint64_t permille() const { return permille_; }
  Time local(Time now) const {
    return local_at_ + Duration((now - since_).count() * static_cast<int64_t>(permille_) / 1000);
  }
  // When local() has reached `time`.
  Time world(Time time) const {
    if (time == Time::max()) return time;
    if (time <= local_at_) return since_;
    int64_t p = static_cast<int64_t>(permille_);
    return since_ + Duration(((time - local_at_).count() * 1000 + p - 1) / p);
  }
  Now now(Time world_now) const {
    Time l = local(world_now);
    return {l, kWallStart + (l - Timeline::start()).count() + skew_ns_};
  }

 private:
  Time since_ = Timeline::start();
  Time local_at_ = Timeline::start();
  uint64_t permille_ = 1000;
  int64_t skew_ns_ = 0;
};

class Simulation::Impl final : public Endpoints {
 public:
  explicit Impl(SimOptions options);
  ~Impl() {
    for (auto& client : clients_) client->stream.reset();
  }
  SimReport run();

 private:
  struct Process;
  struct Client final : node::ReplyHandler {
    Impl* simulation = nullptr;
    size_t number = 0;
    Process* process = nullptr;
    uint64_t connection = 0;  // Operation::client
    std::unique_ptr<node::RequestStream> stream;
    std::deque<size_t> outstanding;  // in history_
    bool is_probe = false;           // of the liveness phase and the end
    bool probe_done = false;

    void on_reply(const node::Reply& reply) override { simulation->replied(*this, reply); }
    void on_replies_end() override {}
  };

  // One machine: its disk and clock, and while the process is up its Node.
  struct Process final : wire::Transport, node::ApplyObserver {
    Impl* simulation = nullptr;
    NodeId id;
    DiskId disk_id;
    std::unique_ptr<FaultyFileSystem> files;
    MachineClock clock;
    node::NodeOptions options;
    std::unique_ptr<CopyCapturer> capturer;
    std::unique_ptr<node::Node> node;
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
    bool paused = false;    // it does nothing; what was to happen waits
    Time paused_since{};
    uint64_t pauses = 0;
    Duration paused_before{};
    std::vector<std::function<void()>> held;
    FaultSet has_bitten;  // of the present pause, slow time, stall and full disk
    bool restart_pending = false;
    bool error_planned = false;  // a write or sync is to fail, or has
    bool disk_is_full = false;
    bool off_planned = false;  // the machine dies in the middle of a disk operation
    bool off_keeps_cache = false;
    bool damaged = false;  // bytes of its disk were changed
    Fault damage = Fault::kBitFlip;
    bool wiped = false;
    bool outside = false;  // it was never let in
    bool fresh = false;    // its disk is empty
    bool unbound = false;  // it was let in, and no settled list of members has its disk yet
    uint8_t disk_number = 0;

    // It does not hold what the cluster may count on.
    bool is_gone() const { return damaged || wiped || lost || outside || unbound; }
    bool stays_down = false;  // through the liveness phase
    bool lost = false;        // will not come back: refused to start, or was refused
    Index snapshot;
    uint64_t installed = 0;
    uint64_t resumed = 0;

    bool up() const { return node != nullptr; }
    Duration paused_total(Time now) const {
      return paused_before + (paused ? now - paused_since : Duration(0));
    }
    void send(NodeId to, wire::PeerMessage message) override {
      simulation->send(*this, to, std::move(message));
    }
    void flush() override {}
    void on_applied(const raft::Entry& entry, int32_t status, ByteView reply,
                    const node::ReplicatedState& state) override {
      simulation->checkers_.applied(id, entry, status, reply, state);
    }
    void on_restored(const node::ReplicatedState& state) override {
      simulation->checkers_.restored(id, state);
    }
  };

  // ---- Endpoints
  bool is_up(NodeId id) const override { return process(id).up(); }
  uint64_t life_of(NodeId id) const override { return process(id).life; }
  bool greet(NodeId dialler, NodeId answerer) override;
  void deliver(NodeId from, NodeId to, wire::PeerMessage message) override;
  void reached(NodeId node, NodeId peer) override;
  void lost(NodeId node, NodeId peer) override;

  Process& process(NodeId id) { return *processes_[id.value() - 1]; }
  const Process& process(NodeId id) const { return *processes_[id.value() - 1]; }
  size_t quorum() const { return options_.nodes / 2 + 1; }
  Time now() const { return timeline_.now(); }

  // ---- nodes
  void draw_options(Process& p);
  void start(Process& p);
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

  // ---- faults
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
  void wipe(Process& p);
  void operate(Random& random);
  void arm_settings();
  void change_setting();
  void arm_tests_of_leases();
  void test_lease();
  void stop_faults();

  // ---- clients
  void client_act(Client& client);
  void submit(Client& client);
  void open(Client& client);
  void drop(Client& client);  // its connection: what is outstanding is not known
  void drop_clients_of(Process& p);
  void replied(Client& client, const node::Reply& reply);
  void look_for_late_answers();

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
  std::vector<Random> fault_random_;
  std::vector<std::unique_ptr<Process>> processes_;
  std::vector<std::unique_ptr<Client>> clients_;
  std::vector<std::unique_ptr<Client>> probes_;
  History history_;
  struct Waiting {  // per operation: when it was submitted by its node's clock, and its pauses
    Process* process;
    uint64_t life;
    Time local;
    Duration paused;
  };
  std::vector<Waiting> waiting_;
  uint64_t next_connection_ = 1;
  uint64_t next_order_ = 1;
  uint64_t next_episode_ = 1;
  double write_percent_ = 70;
  // Each client asks one thing at a time: then a search for a linearization comes to an end.
  bool calm_ = false;
  bool reads_have_levels_ = false;
  // Leases are on at times, and priorities differ. Clocks keep within the bound then, or are wild:
  // then a lease read promises nothing, and everything else what it always does.
  bool leases_ = false;
  bool clocks_are_wild_ = false;
  uint64_t slowest_clock_ = 500;  // permille, of those that may be drawn
  uint64_t fastest_clock_ = 2000;
  bool faults_on_ = true;
  bool clients_on_ = true;
};

Simulation::Impl::Impl(SimOptions options)
    : options_(std::move(options)),
      timeline_(options_.trace),
      network_(options_.nodes + kMaxAdded, stream_of(options_.seed, 1).next(), timeline_, *this,
               report_.faults),
      checkers_(options_.nodes + kMaxAdded),
      node_random_(stream_of(options_.seed, 2)),
      worker_random_(stream_of(options_.seed, 3)),
      client_random_(stream_of(options_.seed, 4)),
      phase_random_(stream_of(options_.seed, 5)),
      capture_random_(stream_of(options_.seed, 6)),
      lease_random_(stream_of(options_.seed, 7)),
      read_random_(stream_of(options_.seed, 8)) {
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
    genesis_.members.push_back(member);
    processes_.push_back(make_process(member.id, node_random_));
  }
  for (size_t i = 0; i < kFaults; ++i) {
    // Swarm testing: each seed has its own choice of faults, so that one cannot hide another.
    fault_random_.push_back(stream_of(options_.seed, 100 + i));
    bool drawn = fault_random_.back().chance(40);
    if (drawn && options_.faults.has(static_cast<Fault>(i))) active_.set(static_cast<Fault>(i));
  }
  changes_ = active_.has(Fault::kMembership);
  reads_have_levels_ = read_random_.chance(60);
  leases_ = lease_random_.chance(40);
  if (leases_) {
    genesis_.settings.lease_reads = lease_random_.chance(60);
    // Where clocks are good, a lease leaves little room for other mistakes.
    genesis_.settings.max_clock_drift_percent = lease_random_.chance(50) ? 1 : 10;
    if (genesis_.settings.lease_reads) {
      genesis_.settings.confirmed_timeout = genesis_.settings.election_timeout;
    }
    clocks_are_wild_ = active_.has(Fault::kClockRate) && lease_random_.chance(25);
    if (!clocks_are_wild_) {
      const uint64_t drift = genesis_.settings.max_clock_drift_percent * 10u;
      slowest_clock_ = 1000 - drift;
      fastest_clock_ = 1000 + drift;
    }
  }
  confs_.emplace_back(Index(), genesis_.conf());
  for (size_t i = 0; i < options_.clients; ++i) {
    auto client = std::make_unique<Client>();
    client->simulation = this;
    client->number = i;
    client->process = processes_[i % processes_.size()].get();
    clients_.push_back(std::move(client));
  }
}

// ---- nodes
// -----------------------------------------------------------------------------------------

std::unique_ptr<Simulation::Impl::Process> Simulation::Impl::make_process(NodeId id,
                                                                          Random& random) {
  auto p = std::make_unique<Process>();
  p->simulation = this;
  p->id = id;
  p->disk_id.bytes[0] = static_cast<uint8_t>(id.value());
  p->files = std::make_unique<FaultyFileSystem>(random.next());
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
  options.raft.election_timeout = kElectionTimeout;
  options.raft.heartbeat_interval = kElectionTimeout / 10;
  // None is 0: a quorum whose newest log lies where nobody campaigns has no leader.
  if (leases_) options.raft.priority = static_cast<uint8_t>(50 * (1 + p.id.value() % 3));
  options.apply_inline = random.chance(50);
  options.apply_inline_ns_max = INT64_MAX;  // a busy machine must not decide where a run goes
  options.holder.request_timeout = kRequestTimeout;
  options.log.segment_bytes = 64 << 10;
  options.snapshot.log_min_bytes = random.chance(50) ? 16 << 10 : 64 << 10;
  options.snapshot.trailing_entries = random.below(20);
  options.snapshot.held_log_bytes = options.seed % 2 == 0 ? 64 << 10 : 1 << 20;
  options.chunk_bytes = 4096;
  options.compare_interval = random.chance(30) ? seconds(1) : Duration(0);
  options.min_free_bytes = 16 << 10;
  options.apply_observer = &p;
  if (active_.has(Fault::kTinyLimits)) {
    Random& tiny = fault_random_[static_cast<size_t>(Fault::kTinyLimits)];
    count(Fault::kTinyLimits);
    bite(Fault::kTinyLimits);
    options.log.segment_bytes = tiny.chance(50) ? 4096 : 8192;
    options.snapshot.log_min_bytes = tiny.chance(50) ? 256 : 2 << 10;
    options.snapshot.log_ratio = tiny.chance(50) ? 0.01 : 1;
    options.snapshot.trailing_entries = tiny.below(4);
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
  }
  Process* at = &p;
  options.wall_clock = [this, at] { return at->clock.now(now()).wall_ns; };
  p.options = std::move(options);
}

void Simulation::Impl::start(Process& p) {
  CHECK(!p.up());
  if (p.lost) return;
  if (p.wiped || p.outside) return knock(p);
  ++p.life;
  p.fatal.reset();
  draw_options(p);
  node::Node::Host host;
  host.files = p.files.get();
  host.data_dir = "data";
  host.plugin = options_.plugin;
  host.transport = &p;
  Process* at = &p;
  // On the apply thread, or by a copy: half of the lives each.
  p.capturer.reset();
  if (capture_random_.chance(50)) {
    p.capturer =
        std::make_unique<CopyCapturer>(capture_random_, report_.captures, [at](Error error) {
          if (!at->fatal) at->fatal = std::move(error);
        });
  }
  host.capturer = p.capturer.get();
  host.wake = [this, at] { schedule_turn(*at, now() + microseconds(1)); };
  host.fatal = [at](Error error) {
    if (!at->fatal) at->fatal = std::move(error);
  };
  auto node = node::Node::open(p.options, genesis_, std::move(host), p.clock.now(now()));
  timeline_.note('S', p.id.value(), node.has_value());
  if (p.files->is_off()) {  // the power went again while it recovered
    if (node) node->reset();
    p.off_planned = false;
    p.files->crash();
    restart_later(p, milliseconds(10), milliseconds(500));
    return;
  }
  if (!node) {
    timeline_.trace("node {} does not start: {}", p.id, node.error().text);
    if (p.damaged && node.error().code == ExitCode::kData) {
      p.lost = true;
      bite(p.damage);
      return;
    }
    // A full disk alone is no reason, but for a log that has to begin: for the first time, or anew
    // behind a snapshot.
    const bool begins =
        !p.has_run || node.error().text.find("has to begin anew") != std::string::npos;
    const bool is_full = p.disk_is_full && begins;
    if ((p.error_planned || is_full) && node.error().code == ExitCode::kStorage) {
      if (p.error_planned) bite(Fault::kWriteError);
      p.error_planned = false;
      p.files->clear_failures();
      p.files->restart_process();
      restart_later(p, milliseconds(100), milliseconds(2000));
      return;
    }
    return checkers_.fail(
        fmt::format("start: node {} does not start: {}", p.id, node.error().text));
  }
  p.node = std::move(*node);
  p.has_run = true;
  p.installed = 0;
  p.resumed = 0;
  p.snapshot = p.node->snapshot_index();
  p.turn_at = Time::max();
  p.writer_scheduled = p.applier_scheduled = p.worker_scheduled = p.snapshotter_scheduled = false;
  if (p.damaged) {
    for (const std::string& warning : p.node->warnings()) {
      if (warning.find("snapshot") != std::string::npos) bite(p.damage);
    }
  }
  timeline_.trace("node {} up term={} log={}..{} snapshot={}", p.id, p.node->core().term(),
                  p.node->core().first_index(), p.node->core().last_index(), p.snapshot);
  checkers_.started(p.id, *p.node);
  for (auto& other : processes_) {
    if (other.get() == &p) continue;
    network_.dial(p.id, other->id);
    network_.dial(other->id, p.id);
  }
  schedule_turn(p, now());
}

// An empty disk: the process comes up without a cluster, and its hellos say so. Under an id that
// the cluster knows with another disk it is refused, until an operator has it replaced.
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
    const bool as_wiped = refusal && refusal->code == wire::RefusalCode::kDiskId;
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
      if (p.disk_id == member.disk_id) p.unbound = false;
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
    // Not one that was let in by a change that came to nothing: it needs another one.
    const node::GenesisMember* listed = leader->node->members().find(id);
    if (p.up() && listed != nullptr && listed->disk_id == p.disk_id) members.push_back(&p);
  }
  return members;
}

void Simulation::Impl::end(Process& p, bool power, const char* why) {
  if (!p.up()) return;
  timeline_.note('E', p.id.value(), power);
  timeline_.trace("node {} ends: {}", p.id, why);
  ++report_.crashes;
  ++p.life;
  drop_clients_of(p);
  checkers_.stopped(p.id);
  p.node.reset();
  p.held.clear();
  resume(p);
  if (power) {
    FaultyFileSystem::CrashOptions how;
    how.keep_sector_percent = active_.has(Fault::kWriteLost) ? 50 : 100;
    if (active_.has(Fault::kWriteLost) && !active_.has(Fault::kWriteTorn)) {
      // All or nothing.
      how.keep_sector_percent =
          fault_random_[static_cast<size_t>(Fault::kWriteLost)].chance(30) ? 100 : 0;
    }
    how.keep_name_percent = how.keep_sector_percent;
    FaultyFileSystem::CrashDamage damage = p.files->crash(how);
    if (damage.sectors_lost + damage.names_lost > 0) {
      count(Fault::kWriteLost);
      bite(Fault::kWriteLost);
      if (damage.sectors_kept > 0 && damage.sectors_lost > 0) {
        count(Fault::kWriteTorn);
        bite(Fault::kWriteTorn);
      }
    }
  } else {
    p.files->restart_process();
  }
  p.off_planned = false;
  for (auto& other : processes_) {
    if (other.get() != &p) network_.break_connection(p.id, other->id);
  }
}

void Simulation::Impl::restart_later(Process& p, Duration low, Duration high) {
  if (p.restart_pending || p.lost) return;
  p.restart_pending = true;
  timeline_.after(draw(phase_random_, low, high), [this, at = &p] {
    at->restart_pending = false;
    if (!at->up() && !at->stays_down && !stopped()) start(*at);
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

void Simulation::Impl::pause(Process& p, Duration length) {
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
  p.stalled_until = now();
  p.files->clear_failures();
  p.files->set_capacity(UINT64_MAX);
  p.disk_is_full = p.error_planned = p.off_planned = false;
  if (!p.up()) return;
  // What a stall holds up is done now; its own event then finds nothing.
  p.writer_scheduled = p.worker_scheduled = p.snapshotter_scheduled = false;
  schedule_workers(p);
}

void Simulation::Impl::schedule_turn(Process& p, Time time) {
  if (!p.up() || p.turn_at <= time) return;
  p.turn_at = time;
  when(p, time, [this, at = &p, time] {
    if (at->turn_at != time) return;
    at->turn_at = Time::max();
    turn(*at);
  });
}

void Simulation::Impl::turn(Process& p) {
  timeline_.note('T', p.id.value());
  p.node->turn(p.clock.now(now()));
  after_step(p);
  if (!stands(p)) return;
  if (p.node->is_removed()) {
    p.lost = true;
    return end(p, false, "it was removed");
  }
  schedule_workers(p);
  schedule_turn(p, std::max(p.clock.world(p.node->next_deadline()), now() + microseconds(1)));
}

bool Simulation::Impl::stands(Process& p) {
  if (stopped() || !p.up()) return false;
  if (p.files->is_off()) {
    bite(p.off_keeps_cache ? Fault::kCrashProcess : Fault::kCrashPower);
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

// The process says that it must end. Only for a reason that was given to it; a full disk is none.
void Simulation::Impl::handle_fatal(Process& p) {
  Error error = *p.fatal;
  timeline_.trace("node {} stops: {}", p.id, error.text);
  if (error.code == ExitCode::kStorage && p.error_planned) {
    bite(error.text.find("sync") != std::string::npos ? Fault::kSyncError : Fault::kWriteError);
    p.error_planned = false;
    p.files->clear_failures();
  } else if (error.code == ExitCode::kData && p.damaged) {
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
    // A snapshot takes long, compared with all else.
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
// -----------------------------------------------------------------------------------

wire::Hello Simulation::Impl::hello_of(const Process& p, NodeId to) const {
  wire::Hello hello;
  hello.cluster_name = genesis_.cluster_name;
  hello.cluster_id = genesis_.cluster_id;
  hello.node_id = p.id;
  hello.to = to;
  hello.priority = p.options.raft.priority;
  hello.disk_id = p.disk_id;
  hello.plugin_name = options_.plugin->name();
  hello.plugin_level_min = options_.plugin->level_min();
  hello.plugin_level_max = options_.plugin->level_max();
  hello.plugin_level = genesis_.plugin_level;
  if (p.up()) hello.members_index = p.node->core().conf_index();
  return hello;
}

bool Simulation::Impl::greet(NodeId dialler, NodeId answerer) {
  for (auto [mine, theirs] : {std::pair(dialler, answerer), std::pair(answerer, dialler)}) {
    wire::Hello hello = hello_of(process(theirs), mine);
    if (wire::check_hello(hello_of(process(mine), theirs), hello)) return false;
    if (!process(mine).up()) continue;
    auto refusal = process(mine).node->check_peer(hello);
    if (!refusal) continue;
    if (refusal->code == wire::RefusalCode::kRemoved) {
      // Whoever is told so ends.
      Process& removed = process(theirs);
      when(removed, now(), [this, at = &removed] {
        at->lost = true;
        end(*at, false, "it is told that it was removed");
      });
    }
    return false;
  }
  return true;
}

void Simulation::Impl::send(Process& from, NodeId to, wire::PeerMessage message) {
  if (const auto* envelope = std::get_if<raft::Envelope>(&message)) {
    checkers_.sending(from.id, *from.node, *envelope);
  } else if (const auto* ack = std::get_if<wire::SnapshotAck>(&message)) {
    checkers_.sending(from.id, *from.node, *ack);
  }
  network_.send(from.id, to, std::move(message));
}

void Simulation::Impl::deliver(NodeId from, NodeId to, wire::PeerMessage message) {
  Process& p = process(to);
  if (p.paused) {  // it waits in the socket's buffer
    auto kept = std::make_shared<wire::PeerMessage>(std::move(message));
    when(p, now(), [this, from, to, kept] { deliver(from, to, std::move(*kept)); });
    return;
  }
  if (timeline_.is_traced()) timeline_.trace("  {} -> {}: {}", from, to, describe(message));
  p.node->set_now(p.clock.now(now()));
  p.node->on_message(from, std::move(message));
  schedule_turn(p, now());
}

void Simulation::Impl::reached(NodeId node, NodeId peer) {
  Process& p = process(node);
  when(p, now(), [this, at = &p, peer] {
    at->node->set_now(at->clock.now(now()));
    at->node->on_peer_reached(peer, hello_of(process(peer), at->id));
    schedule_turn(*at, now());
  });
}

void Simulation::Impl::lost(NodeId node, NodeId peer) {
  Process& p = process(node);
  when(p, now(), [this, at = &p, peer] {
    at->node->set_now(at->clock.now(now()));
    at->node->on_peer_lost(peer);
    schedule_turn(*at, now());
  });
}

// ---- faults
// ----------------------------------------------------------------------------------------

void Simulation::Impl::every(Fault fault, Duration low, Duration high,
                             std::function<void(Random&)> inject) {
  if (!active_.has(fault)) return;
  Random& random = fault_random_[static_cast<size_t>(fault)];
  auto again = std::make_shared<std::function<void()>>();
  *again = [this, &random, low, high, inject, self = std::weak_ptr(again)] {
    if (!faults_on_ || stopped()) return;
    inject(random);
    timeline_.after(draw(random, low, high), [next = self.lock()] { (*next)(); });
  };
  timeline_.after(draw(random, low / 2, high), [again] { (*again)(); });
}

// A wiped or damaged disk may have held the second copy of what was acknowledged: fewer of them
// than a quorum, for good.
bool Simulation::Impl::may_lose_one(const Process& p) const {
  if (p.is_gone()) return false;
  for (const auto& [index, conf] : confs_) {
    // A learner may become a voter in this very moment.
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
      // At first nobody notices.
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

// Where disks that stall are all that is wrong, and this one is the leader's.
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
  // What was sealed long ago: segments but the last two, and snapshots.
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
  // There are few snapshots among many segments, and a damaged one has more ways to do harm.
  if (paths.empty() || (!snapshots.empty() && random.chance(50))) paths = std::move(snapshots);
  if (paths.empty()) return;
  const std::string& path = paths[random.below(paths.size())];
  const uint64_t size = p.files->content(path).size();
  if (size < 1024 && fault == Fault::kMisdirectedWrite) return;
  if (size == 0) return;
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
  // It shows when the node starts, at the latest.
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
  network_.set_knobs(knobs);

  every(Fault::kCloggedLink, milliseconds(200), milliseconds(3000), [this](Random& r) {
    Process& a = victim(r);
    Process& b = victim(r);
    if (&a == &b) return;
    Time until = now() + draw(r, milliseconds(20), milliseconds(2000));
    network_.clog(a.id, b.id, until);
    if (r.chance(50)) network_.clog(b.id, a.id, until);
  });
  every(Fault::kConnectionBreak, milliseconds(100), milliseconds(2000), [this](Random& r) {
    Process& a = victim(r);
    Process& b = victim(r);
    if (&a == &b || !network_.is_connected(a.id, b.id)) return;
    count(Fault::kConnectionBreak);
    bite(Fault::kConnectionBreak);
    network_.break_connection(a.id, b.id);
  });
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
      // Drawn apart from the order in which they were cut off.
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
  if (leases_ && !clocks_are_wild_) {
    // As far apart as they may be.
    for (auto& p : processes_) {
      p->clock.set_rate(now(), lease_random_.chance(50) ? slowest_clock_ : fastest_clock_);
    }
  }
  if (active_.has(Fault::kClockRate)) {
    Random& r = stream(Fault::kClockRate);
    for (auto& p : processes_) p->clock.set_rate(now(), r.between(slowest_clock_, fastest_clock_));
  }
  every(Fault::kClockRate, milliseconds(2000), milliseconds(10000), [this](Random& r) {
    // A machine's rate may change while it runs; its time never goes back.
    Process& p = victim(r);
    count(Fault::kClockRate);
    Time world_turn = p.turn_at;
    p.clock.set_rate(now(), r.between(slowest_clock_, fastest_clock_));
    if (p.up()) {
      bite(Fault::kClockRate);
      if (world_turn != Time::max()) schedule_turn(p, now());
    }
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
    // Often so many at a time that no quorum has space.
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

// What an operator does, through any node.
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
    change.member.peer_address = fmt::format("n{}:1", fresh.id);
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
                    outcome.code, outcome.text);
    if (outcome.done) bite(Fault::kMembership);
  });
  note_conf(*via.node);
  schedule_turn(via, now());
}

// Leases are turned on and off while everything breaks, and the timeout that they rest on moves.
void Simulation::Impl::arm_settings() {
  if (!leases_) return;
  timeline_.after(draw(lease_random_, milliseconds(500), milliseconds(6000)), [this] {
    if (!faults_on_ || stopped()) return;
    change_setting();
    arm_settings();
  });
}

// What a lease must stand, and random faults seldom bring about: the others elect as soon as they
// may while the leader does not know it.
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
    // It is alone, and the others may hear at once that it cannot be reached.
    const bool is_told = lease_random_.chance(50);
    timeline_.trace("test of a lease: node {} is cut off{}", leader->id,
                    is_told ? ", and lost" : "");
    cut_off(*leader, episode, Fault::kPartition);
    for (auto& other : processes_) {
      if (is_told && other.get() != leader) network_.break_connection(leader->id, other->id);
    }
  } else {
    // One does not hear it any more, and asks the others, which do, for their votes; they start
    // anew.
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
  timeline_.after(draw(lease_random_, kElectionTimeout, 4 * kElectionTimeout),
                  [this, episode] { network_.heal(episode); });
}

void Simulation::Impl::change_setting() {
  node::MemberChange change;
  change.kind = node::MemberChange::Kind::kSetting;
  if (lease_random_.chance(60)) {
    change.key = "raft.lease_reads";
    change.value = lease_random_.chance(70) ? "true" : "false";
  } else {
    // Never more than the bounds of the liveness phase are made for.
    change.key = "raft.election_timeout";
    change.value =
        fmt::format("{}ms", lease_random_.between(250, kElectionTimeout / milliseconds(1)));
  }
  Process& via = *processes_[lease_random_.below(processes_.size())];
  if (!via.up() || via.paused) return;
  timeline_.trace("operator at node {}: {} {}", via.id, change.key, change.value);
  via.node->set_now(via.clock.now(now()));
  via.node->change_members(change, [this, change](const node::ChangeOutcome& outcome) {
    timeline_.trace("{} {}: {} {}", change.key, change.value, outcome.code, outcome.text);
  });
  schedule_turn(via, now());
}

void Simulation::Impl::stop_faults() { faults_on_ = false; }

// ---- clients
// ---------------------------------------------------------------------------------------

void Simulation::Impl::open(Client& client) {
  client.connection = next_connection_++;
  client.stream = client.process->node->open_stream(client);
}

void Simulation::Impl::drop(Client& client) {
  for (size_t at : client.outstanding) {
    history_[at].outcome = OutcomeKind::kUnknown;
    if (history_[at].is_write) ++report_.unknown;
  }
  client.outstanding.clear();
  client.stream.reset();
}

void Simulation::Impl::drop_clients_of(Process& p) {
  for (auto* clients : {&clients_, &probes_}) {
    for (auto& client : *clients) {
      if (client->process == &p) drop(*client);
    }
  }
}

void Simulation::Impl::submit(Client& client) {
  Workload::Request request =
      workload_->next(client_random_, client.is_probe ? 100 : write_percent_);
  Operation operation;
  operation.client = client.connection;
  operation.is_write = request.is_write;
  operation.request = request.bytes;
  operation.called = now();
  operation.call_order = next_order_++;
  checkers_.called(operation);
  node::ReadOptions read;
  if (!request.is_write && reads_have_levels_) {
    const uint64_t level = read_random_.below(100);
    if (level < 40) {
      read.level = node::ReadLevel::kLease;
      if (clocks_are_wild_) checkers_.called_stale(operation, Index(), Time::min());
    } else if (level < 70) {
      read.level = node::ReadLevel::kStale;
      if (read_random_.chance(40)) read.min_index = checkers_.shown();
      Time fresh_since = Time::min();
      if (read_random_.chance(50)) {
        read.max_age = draw(read_random_, Duration(0), seconds(1));
        // Of the node's own time, which may be slow.
        fresh_since = now() - *read.max_age * 1000 / static_cast<int64_t>(slowest_clock_);
        // The question may have been answered by a lease.
        if (clocks_are_wild_) fresh_since = Time::min();
      }
      checkers_.called_stale(operation, read.min_index, fresh_since);
    }
  }
  // Before the submission: the reply may come from within.
  client.outstanding.push_back(history_.size());
  history_.push_back(std::move(operation));
  waiting_.push_back({client.process, client.process->life, client.process->clock.local(now()),
                      client.process->paused_total(now())});
  client.process->node->set_now(client.process->clock.now(now()));
  client.stream->submit(as_bytes(request.bytes), read);
}

void Simulation::Impl::client_act(Client& client) {
  if (stopped() || !clients_on_) return;
  Random& random = client_random_;
  if (client.stream && random.chance(1)) drop(client);
  if (!client.stream && client.outstanding.empty() && random.chance(20)) {
    client.process = processes_[random.below(processes_.size())].get();
  }
  Process& p = *client.process;
  if (p.up() && !p.paused) {
    if (!client.stream) open(client);
    size_t burst = random.chance(20) ? random.between(2, 20) : 1;
    const bool one_by_one = calm_ || !faults_on_;
    if (one_by_one) burst = 1;
    const size_t limit = one_by_one ? 1 : kMaxOutstanding;
    for (size_t i = 0; i < burst && client.outstanding.size() < limit; ++i) submit(client);
    schedule_turn(p, now());
  }
  // Behind the safety phase less is asked than the smallest limits can bear: what is demanded then
  // is an end to the faults' effects, not to a queue.
  const int slower = faults_on_ ? 1 : 10;
  timeline_.after(slower * draw(random, microseconds(500), milliseconds(30)),
                  [this, at = &client] { client_act(*at); });
}

void Simulation::Impl::replied(Client& client, const node::Reply& reply) {
  CHECK(!client.outstanding.empty());
  const size_t at = client.outstanding.front();
  client.outstanding.pop_front();
  Operation& operation = history_[at];
  operation.returned = now();
  operation.return_order = next_order_++;
  operation.reply = as_text(reply.bytes);
  operation.status = reply.status;
  operation.index = reply.index;
  timeline_.note('R', at, static_cast<uint64_t>(reply.code), reply.index.value());
  timeline_.trace("client {} at node {}: {} -> {} {} index={}", client.number, client.process->id,
                  quoted(operation.request), node::reply_code_name(reply.code),
                  quoted(operation.reply), reply.index);
  const Waiting& waiting = waiting_[at];
  Duration took = client.process->clock.local(now()) - waiting.local;
  Duration paused =
      (client.process->paused_total(now()) - waiting.paused) * 2;  // rates are up to 2
  if (took > kRequestTimeout + kAnswerSlack + paused) {
    checkers_.fail(fmt::format("answered in time: {} took {} ms", quoted(operation.request),
                               took / milliseconds(1)));
  }
  switch (reply.code) {
    case node::ReplyCode::kOk:
      operation.outcome = reply.plugin_refused ? OutcomeKind::kRefused : OutcomeKind::kOk;
      ++(operation.is_write ? report_.acknowledged : report_.reads);
      if (client.is_probe && operation.is_write) client.probe_done = true;
      break;
    case node::ReplyCode::kUnknown:
      operation.outcome = OutcomeKind::kUnknown;
      operation.returned = Time::max();
      operation.return_order = UINT64_MAX;
      ++report_.unknown;
      break;
    case node::ReplyCode::kDiskFull:
      if (client.process->disk_is_full) bite(*client.process, Fault::kDiskFull);
      [[fallthrough]];
    default:
      operation.outcome = OutcomeKind::kRefused;
      ++report_.refused;
  }
  checkers_.replied(operation);
}

void Simulation::Impl::look_for_late_answers() {
  for (auto* clients : {&clients_, &probes_}) {
    for (auto& client : *clients) {
      if (client->outstanding.empty() || !client->process->up()) continue;
      Process& p = *client->process;
      if (p.paused) continue;
      const Waiting& waiting = waiting_[client->outstanding.front()];
      Duration took = p.clock.local(now()) - waiting.local;
      Duration paused = (p.paused_total(now()) - waiting.paused) * 2;
      if (took > kRequestTimeout + kAnswerSlack + paused) {
        checkers_.fail(fmt::format("answered in time: {} at node {} has no answer after {} ms",
                                   quoted(history_[client->outstanding.front()].request), p.id,
                                   took / milliseconds(1)));
      }
    }
  }
  timeline_.after(milliseconds(500), [this] {
    if (!stopped()) look_for_late_answers();
  });
}

// ---- phases
// ----------------------------------------------------------------------------------------

bool Simulation::Impl::run_until(Time end, const std::function<bool()>& done) {
  while (!stopped()) {
    if (done()) return true;
    if (!timeline_.run_next(end)) return done();
    // Nodes that answer one another for ever, at the speed of the network.
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

// Within `bound`, a write is acknowledged through each of these nodes.
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
    // A change that is under way may end a member.
    for (auto& probe : probes_) all &= probe->probe_done || (changes_ && probe->process->lost);
    if (all || now() < next_probe) return all;
    next_probe = now() + milliseconds(100);
    for (auto& probe : probes_) {
      if (probe->probe_done || !probe->process->up() || !probe->outstanding.empty()) continue;
      if (!probe->stream) open(*probe);
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
  // A quorum of nodes that can come back.
  std::vector<Process*> good;
  for (auto& p : processes_) {
    // Damage that has not shown yet shows now: it starts, or refuses to.
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
    for (Process* other : good) {
      if (p != other) network_.dial(p->id, other->id);
    }
  }
  if (stopped()) return;
  demand_progress(good, kElectionTimeout * kRecoveryTimeouts * 1000 / slowest);
}

// Which nodes are a quorum is not for the observer to say: all that can come back do. Within the
// bound a leader has brought the change that is under way to its end, and the members serve.
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
  for (Process* p : nodes) {
    for (Process* other : nodes) {
      if (p != other) network_.dial(p->id, other->id);
    }
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
  for (Process* p : good) {
    for (Process* other : good) {
      if (p != other) network_.dial(p->id, other->id);
    }
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
  // Nothing is asked any more: all that is outstanding is answered, and all come to the same end.
  bool settled = run_until(now() + kConvergence, [&] {
    for (auto& client : clients_) {
      if (!client->outstanding.empty()) return false;
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
}

// The second method, which believes no index: on the first part of a calm history.
void Simulation::Impl::search() {
  if (!calm_) return;
  std::unique_ptr<Model> model = make_model(options_.plugin->name());
  // Key by key comes to an end most often; what it cannot see, the witness does.
  if (std::string_view(options_.plugin->name()) == "kv")
    model = std::make_unique<KvModel>(KvModel::Keys::kEach);
  if (!model || !options_.requests.empty()) return;
  History part(history_.begin(), history_.begin() + static_cast<long>(std::min(
                                                        history_.size(), kSearchedOperations)));
  const uint64_t end = part.empty() ? 0 : part.back().call_order;
  std::erase_if(part, [](const Operation& operation) { return operation.is_stale; });
  std::erase_if(part, [&](Operation& operation) {
    if (operation.return_order <= end) return operation.outcome == OutcomeKind::kRefused;
    // What it became is not known yet.
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
  arm_faults();
  arm_settings();
  arm_tests_of_leases();
  for (auto& p : processes_) start(*p);
  for (auto& client : clients_) {
    timeline_.after(draw(client_random_, milliseconds(0), milliseconds(500)),
                    [this, at = client.get()] { client_act(*at); });
  }
  look_for_late_answers();
  safety();
  if (!stopped()) liveness();
  if (!stopped()) finish();
  if (!stopped()) checkers_.check_history(history_, genesis_, options_.plugin);
  if (!stopped()) search();
  report_.failure = checkers_.violation();
  if (stopped()) {
    report_.failed_at = timeline_.events();
    timeline_.trace("VIOLATION: {}", report_.failure);
  }
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
