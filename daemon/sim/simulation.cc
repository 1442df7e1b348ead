#include "sim/simulation.h"

#include <charconv>
#include <deque>
#include <tuple>

#include "base/checksum.h"
#include "base/log.h"

namespace connectd::sim {
namespace {
using std::chrono::microseconds;
using std::chrono::milliseconds;
using std::chrono::seconds;

constexpr int64_t kWallStart = 1'700'000'000'000'000'000;
}  // namespace

struct Simulation::Client final : node::ReplyHandler {
  Simulation* simulation = nullptr;
  size_t id = 0;
  Process* process = nullptr;
  std::unique_ptr<node::RequestStream> stream;
  struct Outstanding {
    bool write = false;
    uint64_t floor = 0;  // a read must not show less
  };
  std::deque<Outstanding> outstanding;
  uint64_t seen = 0;  // the highest value any reply showed this client

  void on_reply(const node::Reply& reply) override { simulation->client_replied(*this, reply); }
  void on_replies_end() override {}
};

struct Simulation::Process final : wire::Transport {
  Simulation* simulation = nullptr;
  NodeId id;
  std::unique_ptr<SimulatedDisk> disk;
  std::unique_ptr<node::Node> node;
  bool has_run = false;
  uint64_t life = 0;  // rises at each start and crash: old events are void
  int64_t wall_skew_ns = 0;
  Time turn_at = Time::max();
  bool writer_scheduled = false;
  bool applier_scheduled = false;
  bool worker_scheduled = false;
  Duration disk_low{};
  Duration disk_high{};
  Index commit;
  Term term;
  Index snapshot;
  uint64_t installed = 0;
  std::optional<Error> fatal;
  raft::InvariantChecker invariants;  // of this life

  bool up() const { return node != nullptr; }
  void send(NodeId to, wire::PeerMessage message) override {
    simulation->send(id, to, std::move(message));
  }
  void flush() override {}
};

Simulation::Simulation(SimOptions options) : options_(std::move(options)), random_(options_.seed) {
  time_ = Time(seconds(1000));
  genesis_.cluster_id.bytes[0] = 1;
  genesis_.cluster_name = "sim";
  genesis_.max_request = 1 << 16;
  genesis_.plugin_name = options_.plugin->name();
  genesis_.plugin_level = options_.plugin->level_max();
  for (size_t i = 1; i <= options_.nodes; ++i) {
    node::GenesisMember member;
    member.id = NodeId(i);
    member.disk_id.bytes[0] = static_cast<uint8_t>(i);
    genesis_.members.push_back(member);
  }
  loss_percent_ = random_.chance(30) ? 0 : static_cast<double>(random_.below(20));
  double_percent_ = random_.chance(50) ? 0 : static_cast<double>(random_.below(30));
  delay_low_ = microseconds(random_.between(20, 500));
  delay_high_ =
      delay_low_ + microseconds(random_.between(10, random_.chance(30) ? 100'000 : 3'000));
  for (const node::GenesisMember& member : genesis_.members) {
    auto process = std::make_unique<Process>();
    process->simulation = this;
    process->id = member.id;
    process->disk = options_.make_disk(random_.next());
    process->wall_skew_ns = (static_cast<int64_t>(random_.below(2'000)) - 1'000) * 1'000'000;
    process->disk_low = microseconds(random_.between(20, 200));
    process->disk_high =
        process->disk_low + microseconds(random_.between(10, random_.chance(20) ? 200'000 : 5'000));
    processes_.push_back(std::move(process));
  }
  for (size_t i = 0; i < options_.clients; ++i) {
    auto client = std::make_unique<Client>();
    client->simulation = this;
    client->id = i;
    client->process = processes_[i % processes_.size()].get();
    clients_.push_back(std::move(client));
  }
}

Simulation::~Simulation() {
  for (auto& client : clients_) client->stream.reset();
}

void Simulation::at(Time time, std::function<void()> action) {
  events_.push(Event{std::max(time, time_), next_order_++, std::move(action)});
}

Duration Simulation::draw(Duration low, Duration high) {
  return low + Duration(random_.below(static_cast<uint64_t>((high - low).count()) + 1));
}

void Simulation::fail(std::string text) {
  if (report_.failure.empty()) {
    report_.failure = fmt::format("seed {} at {} ms, event {}: {}", options_.seed,
                                  (time_.time_since_epoch() - seconds(1000)) / milliseconds(1),
                                  report_.events, text);
  }
  stopped_ = true;
}

void Simulation::trace(const std::string& text) {
  report_.trace_hash = checksum64(
      as_bytes(text), report_.trace_hash ^ static_cast<uint64_t>(time_.time_since_epoch().count()));
  if (options_.trace) {
    fmt::print(stderr, "{:>12} us  {}\n",
               (time_.time_since_epoch() - seconds(1000)) / microseconds(1), text);
  }
}

// ---- nodes
// -----------------------------------------------------------------------------------------

void Simulation::start(Process& process) {
  ++process.life;
  node::NodeOptions options;
  options.id = process.id;
  options.may_begin_log = !process.has_run;
  options.seed = random_.next();
  options.incarnation = random_.next();
  options.raft.election_timeout = milliseconds(500);
  options.raft.heartbeat_interval = milliseconds(50);
  options.apply_inline = random_.chance(50);
  options.apply_inline_ns_max = INT64_MAX;  // a busy machine must not decide where a run goes
  options.holder.request_timeout = seconds(5);
  options.log.segment_bytes = random_.chance(50) ? 8 << 10 : 64 << 10;
  options.snapshot.log_min_bytes = random_.chance(50) ? 2 << 10 : 64 << 10;
  options.snapshot.trailing_entries = random_.below(20);
  options.chunk_bytes = random_.chance(50) ? 64 : 4096;
  if (random_.chance(30)) {
    options.raft.max_append_bytes = 1;
    options.raft.max_append_entries = 1 + random_.below(3);
    options.raft.inflight_bytes = 300;
  }
  if (random_.chance(30)) options.raft.cache_bytes = 200;
  if (random_.chance(30)) options.raft.apply_bytes = 1;
  Process* p = &process;
  options.wall_clock = [this, p] {
    return kWallStart + time_.time_since_epoch().count() + p->wall_skew_ns;
  };
  node::Node::Host host;
  host.files = &process.disk->files();
  host.data_dir = "data";
  host.plugin = options_.plugin;
  host.transport = &process;
  host.wake = [this, p] { schedule_turn(*p, time_ + microseconds(1)); };
  host.fatal = [p](Error error) {
    if (!p->fatal) p->fatal = std::move(error);
  };
  process.fatal.reset();
  auto node = node::Node::open(options, genesis_, std::move(host), clocks(process));
  if (!node) {
    fail(fmt::format("node {} does not start: {}", process.id, node.error().text));
    return;
  }
  process.node = std::move(*node);
  process.has_run = true;
  process.commit = Index();
  process.invariants = raft::InvariantChecker();
  process.installed = 0;
  process.term = process.node->core().term();
  process.turn_at = Time::max();
  process.writer_scheduled = process.applier_scheduled = process.worker_scheduled = false;
  trace(fmt::format("node {} up term={} last={}", process.id, process.node->core().term(),
                    process.node->core().last_index()));
  for (auto& other : processes_) {
    if (other.get() != &process) {
      try_connect(process.id, other->id);
      try_connect(other->id, process.id);
    }
  }
  schedule_turn(process, time_);
}

void Simulation::crash(Process& process, bool power_loss) {
  if (!process.up()) return;
  trace(fmt::format("node {} crashes", process.id));
  ++report_.crashes;
  ++process.life;
  for (auto& client : clients_) {
    if (client->process != &process) continue;
    for (const auto& outstanding : client->outstanding) {
      if (outstanding.write) {
        ++report_.unknown;
        ++possible_writes_;
      }
    }
    client->outstanding.clear();
    client->stream.reset();
  }
  process.node.reset();
  if (power_loss) process.disk->crash();
  for (auto& other : processes_) {
    if (other.get() != &process) break_connection(process.id, other->id);
  }
}

Now Simulation::clocks(const Process& process) const {
  return {time_, kWallStart + time_.time_since_epoch().count() + process.wall_skew_ns};
}

void Simulation::schedule_turn(Process& process, Time time) {
  if (!process.up() || process.turn_at <= time) return;
  process.turn_at = time;
  at(time, [this, &process, life = process.life, time] {
    if (process.life != life || process.turn_at != time) return;
    process.turn_at = Time::max();
    turn(process);
  });
}

void Simulation::turn(Process& process) {
  process.node->turn(clocks(process));
  check(process);
  if (stopped_ || !process.up()) return;
  schedule_workers(process);
  schedule_turn(process, std::max(process.node->next_deadline(), time_ + microseconds(1)));
}

void Simulation::schedule_workers(Process& process) {
  auto arrange = [&](bool& scheduled, bool has_work, Duration low, Duration high, auto poll) {
    if (scheduled || !has_work) return;
    scheduled = true;
    after(draw(low, high), [this, &process, &scheduled, life = process.life, poll] {
      if (process.life != life) return;
      scheduled = false;
      poll();
      if (process.fatal) {
        fail(fmt::format("node {} stops: {}", process.id, process.fatal->text));
        return;
      }
      schedule_workers(process);
      schedule_turn(process, time_);
    });
  };
  arrange(process.writer_scheduled, process.node->writer().has_work(), process.disk_low,
          process.disk_high, [&process] { process.node->writer().poll_once(); });
  arrange(process.applier_scheduled, process.node->applier().has_work(), microseconds(1),
          microseconds(200), [&process] { process.node->applier().poll_once(); });
  arrange(process.worker_scheduled, process.node->worker().has_work(), process.disk_low,
          process.disk_high, [&process] { process.node->worker().poll_once(); });
}

// ---- checkers
// --------------------------------------------------------------------------------------

void Simulation::check(Process& process) {
  const raft::Core& core = process.node->core();
  if (process.fatal) return fail(fmt::format("node {} stops: {}", process.id, process.fatal->text));
  if (std::string broken = process.invariants.after_step(core); !broken.empty()) {
    return fail(fmt::format("node {}: {}", process.id, broken));
  }
  if (core.term() < process.term) return fail(fmt::format("node {}: term went back", process.id));
  process.term = core.term();
  if (core.role() == raft::Role::kLeader) {
    auto [leader, fresh] = leaders_.try_emplace(core.term(), process.id);
    if (fresh) {
      ++report_.elections;
      trace(fmt::format("node {} leads term {}", process.id, core.term()));
    } else if (leader->second != process.id) {
      return fail(fmt::format("two leaders in term {}: {} and {}", core.term(), leader->second,
                              process.id));
    }
  }
  if (core.commit_index() < process.commit) {
    return fail(fmt::format("node {}: commit index went back", process.id));
  }
  for (Index i = process.commit + 1; i <= core.commit_index(); ++i) {
    Term term = core.term_at(i);
    if (!term) continue;  // compacted
    if (committed_terms_.size() <= i.value()) committed_terms_.resize(i.value() + 1);
    Term& known = committed_terms_[i.value()];
    if (known && known != term) {
      return fail(fmt::format("committed entry {} changed: term {} on node {}, was {}", i, term,
                              process.id, known));
    }
    known = term;
  }
  process.commit = core.commit_index();
  Index applied = process.node->applied_index();
  if (applied > core.commit_index()) {
    return fail(fmt::format("node {} applied what is not committed", process.id));
  }
  if (applied) {
    auto [known, fresh] = digests_.try_emplace(applied, process.node->digest());
    if (!fresh && known->second != process.node->digest()) {
      return fail(fmt::format("node {}: another digest at index {}", process.id, applied));
    }
  }
  if (process.node->snapshots_installed() > process.installed) {
    process.installed = process.node->snapshots_installed();
    process.snapshot = process.node->snapshot_index();
    ++report_.snapshots_installed;
  } else if (process.node->snapshot_index() > process.snapshot) {
    process.snapshot = process.node->snapshot_index();
    ++report_.snapshots_taken;
  }
}

// ---- network
// ---------------------------------------------------------------------------------------

bool Simulation::link_up(NodeId from, NodeId to) const {
  auto found = connection_.find({from, to});
  return found != connection_.end() && found->second % 2 == 1;
}

void Simulation::try_connect(NodeId a, NodeId b) {
  after(draw(milliseconds(1), milliseconds(100)), [this, a, b] {
    Process& from = *processes_[a.value() - 1];
    Process& to = *processes_[b.value() - 1];
    if (link_up(a, b)) return;
    // The dialler tries for as long as it lives.
    if (!from.up()) return;
    if (!to.up() || cut_.contains({a, b}) || cut_.contains({b, a})) {
      try_connect(a, b);
      return;
    }
    ++connection_[{a, b}];
    from.node->set_now(clocks(from));
    from.node->on_peer_reached(b, wire::Hello{});
    schedule_turn(from, time_);
  });
}

void Simulation::break_connection(NodeId a, NodeId b) {
  for (auto [from, to] : {std::pair(a, b), std::pair(b, a)}) {
    bool was_up = link_up(from, to);
    if (was_up) {
      ++connection_[{from, to}];
      ++report_.connections_broken;
    }
    // Each side notices by itself, a little later, or much later when the link is cut.
    Process& process = *processes_[from.value() - 1];
    if (!process.up() || !was_up) continue;
    Duration notice = cut_.empty() ? draw(microseconds(50), milliseconds(5))
                                   : draw(milliseconds(1), milliseconds(2000));
    after(notice, [this, &process, from, to, life = process.life] {
      if (process.life != life) return;
      process.node->set_now(clocks(process));
      process.node->on_peer_lost(to);
      schedule_turn(process, time_);
      try_connect(from, to);
    });
  }
}

void Simulation::send(NodeId from, NodeId to, wire::PeerMessage message) {
  if (!link_up(from, to)) return;
  // Raft bears any loss and any doubling. The rest rides on an ordered connection: losing one
  // breaks it.
  bool raft_message = std::holds_alternative<raft::Envelope>(message);
  if (cut_.contains({from, to})) {
    if (!raft_message) break_connection(from, to);
    return;
  }
  if (!healed_ && random_.chance(loss_percent_)) {
    ++report_.messages_lost;
    if (!raft_message && random_.chance(20)) break_connection(from, to);
    if (raft_message) return;
  }
  int copies = 1;
  if (raft_message && !healed_ && random_.chance(double_percent_)) {
    ++report_.messages_doubled;
    copies = 2;
  }
  uint64_t connection = connection_[{from, to}];
  for (int i = 0; i < copies; ++i) {
    Time arrival = time_ + draw(delay_low_, delay_high_);
    if (!raft_message) {
      Time& last = last_delivery_[{from, to}];
      arrival = std::max(arrival, last + Duration(1));
      last = arrival;
    }
    auto copy = std::make_shared<wire::PeerMessage>(message);
    at(arrival, [this, from, to, copy, connection, raft_message] {
      Process& process = *processes_[to.value() - 1];
      if (!process.up() || connection_[{from, to}] != connection) return;
      if (cut_.contains({from, to})) {
        if (!raft_message) break_connection(from, to);
        return;
      }
      process.node->set_now(clocks(process));
      process.node->on_message(from, std::move(*copy));
      schedule_turn(process, time_);
    });
  }
}

// ---- faults
// ----------------------------------------------------------------------------------------

void Simulation::fault() {
  if (healed_ || stopped_) return;
  Process& victim = *processes_[random_.below(processes_.size())];
  switch (random_.below(6)) {
    case 0:
    case 1:  // one dies, and comes back
      crash(victim, true);
      break;
    case 2:  // all die at once
      if (random_.chance(20)) {
        for (auto& process : processes_) crash(*process, true);
      }
      break;
    case 3: {  // one is cut off, both ways
      ++report_.partitions;
      for (auto& other : processes_) {
        if (other.get() == &victim) continue;
        cut_.insert({victim.id, other->id});
        cut_.insert({other->id, victim.id});
        break_connection(victim.id, other->id);
      }
      break;
    }
    case 4: {  // one direction of one link
      Process& other = *processes_[random_.below(processes_.size())];
      if (&other != &victim) {
        ++report_.partitions;
        cut_.insert({victim.id, other.id});
      }
      break;
    }
    case 5:  // links heal; a wall clock jumps
      cut_.clear();
      victim.wall_skew_ns += (static_cast<int64_t>(random_.below(20'000)) - 10'000) * 1'000'000;
      break;
  }
  for (auto& process : processes_) {
    if (process->up()) continue;
    after(draw(milliseconds(10), milliseconds(3000)), [this, p = process.get()] {
      if (!p->up() && !stopped_) start(*p);
    });
  }
  after(draw(milliseconds(100), milliseconds(2500)), [this] { fault(); });
}

void Simulation::heal_all() {
  trace("all faults heal");
  healed_ = true;
  cut_.clear();
  delay_high_ = delay_low_ + microseconds(500);
  for (auto& process : processes_) {
    process->disk_high = process->disk_low + microseconds(200);
    if (!process->up()) start(*process);
    for (auto& other : processes_) {
      if (other != process) try_connect(process->id, other->id);
    }
  }
}

// ---- clients
// ---------------------------------------------------------------------------------------

void Simulation::client_act(Client& client) {
  if (stopped_ || healed_) return;
  if (client.process->up()) {
    if (!client.stream) client.stream = client.process->node->open_stream(client);
    size_t burst = random_.chance(20) ? random_.between(2, 20) : 1;
    for (size_t i = 0; i < burst && client.outstanding.size() < 40; ++i) {
      bool write = random_.chance(70);
      // Pushed first: the reply may come from within submit().
      uint64_t floor = std::max(client.seen, highest_acknowledged_);
      client.outstanding.push_back({write, floor});
      client.stream->submit(as_bytes(write ? "incr" : "get"));
    }
    schedule_turn(*client.process, time_);
  }
  after(draw(microseconds(500), milliseconds(30)), [this, &client] { client_act(client); });
}

void Simulation::client_replied(Client& client, const node::Reply& reply) {
  CHECK(!client.outstanding.empty());
  Client::Outstanding request = client.outstanding.front();
  client.outstanding.pop_front();
  if (reply.code == node::ReplyCode::kUnknown) {
    if (request.write) {
      ++report_.unknown;
      ++possible_writes_;
    }
    return;
  }
  if (reply.code != node::ReplyCode::kOk) {
    ++report_.refused;
    return;
  }
  uint64_t value = 0;
  std::string_view text = as_text(reply.bytes);
  std::from_chars(text.data(), text.data() + text.size(), value);
  trace(fmt::format("client {} {} -> {}", client.id, request.write ? "incr" : "get", value));
  if (request.write) {
    ++report_.acknowledged;
    ++possible_writes_;
    if (!acknowledged_values_.insert(value).second) {
      return fail(fmt::format("client {}: the value {} was acknowledged twice", client.id, value));
    }
    highest_acknowledged_ = std::max(highest_acknowledged_, value);
    if (value <= request.floor) {
      return fail(fmt::format("client {}: an increment gave {}, after {} was seen", client.id,
                              value, request.floor));
    }
  } else {
    ++report_.reads;
    if (value < request.floor) {
      return fail(fmt::format("client {}: a read gave {}, after {} was acknowledged", client.id,
                              value, request.floor));
    }
  }
  if (value < client.seen) {
    return fail(
        fmt::format("client {}: replies went back from {} to {}", client.id, client.seen, value));
  }
  client.seen = value;
}

void Simulation::final_check() {
  // Every node answers a linearizable read with the same value.
  struct Reader final : node::ReplyHandler {
    std::optional<uint64_t> value;
    std::string error;
    void on_reply(const node::Reply& reply) override {
      std::string_view text = as_text(reply.bytes);
      if (reply.code != node::ReplyCode::kOk) {
        error = fmt::format("{} {}", node::reply_code_name(reply.code), text);
        return;
      }
      uint64_t number = 0;
      std::from_chars(text.data(), text.data() + text.size(), number);
      value = number;
    }
    void on_replies_end() override {}
  };
  std::vector<std::unique_ptr<Reader>> readers;
  std::vector<std::unique_ptr<node::RequestStream>> streams;
  for (auto& process : processes_) {
    readers.push_back(std::make_unique<Reader>());
    streams.push_back(process->node->open_stream(*readers.back()));
    streams.back()->submit(as_bytes("get"));
    schedule_turn(*process, time_);
  }
  Time end = time_ + seconds(10);
  while (!stopped_ && !events_.empty() && events_.top().time < end) {
    Event event = events_.top();
    events_.pop();
    time_ = event.time;
    ++report_.events;
    event.action();
    bool all = true;
    for (auto& reader : readers) all &= reader->value.has_value();
    if (all) break;
  }
  if (stopped_) return;
  uint64_t final_value = readers.front()->value.value_or(0);
  for (size_t i = 0; i < readers.size(); ++i) {
    if (!readers[i]->value) {
      for (auto& process : processes_) {
        const raft::Core& core = process->node->core();
        trace(fmt::format("node {}: {} term={} leader={} last={} durable={} commit={} applied={}",
                          process->id, raft::role_name(core.role()), core.term(), core.leader(),
                          core.last_index(), core.durable_index(), core.commit_index(),
                          process->node->applied_index()));
        for (auto& other : processes_) {
          trace(fmt::format("  to {}: connected={}", other->id, link_up(process->id, other->id)));
        }
        for (const raft::PeerStatus& peer : core.peers()) {
          trace(fmt::format("  peer {}: match={} next={} state={} inflight={} active={}", peer.id,
                            peer.match, peer.next, static_cast<int>(peer.state),
                            peer.inflight_bytes, peer.active));
        }
      }
      return fail(fmt::format("node {} does not answer after all faults healed: {}", i + 1,
                              readers[i]->error));
    }
    if (*readers[i]->value != final_value) return fail("nodes differ at the end");
  }
  if (final_value < report_.acknowledged || final_value < highest_acknowledged_) {
    return fail(fmt::format("acknowledged writes are lost: {} acknowledged, the value is {}",
                            report_.acknowledged, final_value));
  }
  if (final_value > possible_writes_) {
    return fail(
        fmt::format("writes were applied twice: {} acknowledged or unknown, the value is {}",
                    possible_writes_, final_value));
  }
}

SimReport Simulation::run() {
  for (auto& process : processes_) start(*process);
  for (auto& client : clients_) {
    after(draw(milliseconds(0), milliseconds(500)), [this, c = client.get()] { client_act(*c); });
  }
  after(draw(milliseconds(500), milliseconds(3000)), [this] { fault(); });
  Time heal_at = time_ + options_.faulty_time;
  Time end = heal_at + options_.settle_time;
  at(heal_at, [this] { heal_all(); });
  // Without requests the cluster must settle: every outstanding one is answered.
  Time begin = time_;
  while (!stopped_ && !events_.empty()) {
    Event event = events_.top();
    if (event.time > end) break;
    events_.pop();
    time_ = event.time;
    ++report_.events;
    event.action();
    if (healed_ && time_ > heal_at + seconds(5)) {
      bool settled = true;
      for (auto& client : clients_) settled &= client->outstanding.empty();
      if (settled) break;
    }
  }
  if (!stopped_) {
    for (auto& client : clients_) {
      if (!client->outstanding.empty()) {
        fail(fmt::format("client {}: {} requests without an answer", client->id,
                         client->outstanding.size()));
      }
    }
  }
  if (!stopped_) final_check();
  report_.simulated = time_ - begin;
  return report_;
}

}  // namespace connectd::sim
