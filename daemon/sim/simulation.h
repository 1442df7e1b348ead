// A whole cluster in one thread: N real nodes (consensus, log, snapshots, sessions, plugin) around
// a virtual network, virtual disks and virtual time. One seed decides everything, so a seed that
// fails fails again, at the same event.
//
// What is replaced: sockets (links that delay, lose, double and break), the disk (through
// SimulatedDisk), clocks (one monotonic time; a wall clock a node, skewed) and threads (each worker
// is turned by hand, at a time drawn from the seed). Everything else is the production code.
//
// Checked after every event: one leader a term; the core's own invariants; committed entries never
// change and are the same on all nodes; the digest chain is the same at equal index; no reply is
// wrong. Checked at the end: all faults healed, the cluster answers again, and the counter's value
// is explained by the replies.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <queue>
#include <set>
#include <string>
#include <tuple>
#include <vector>

#include "base/random.h"
#include "node/node.h"
#include "plugin/plugin.h"
#include "raft/core.h"
#include "storage/file_system.h"

namespace connectd::sim {

// One node's disk.
class SimulatedDisk {
 public:
  virtual ~SimulatedDisk() = default;
  virtual storage::FileSystem& files() = 0;
  // Power loss: what was not synced may be gone, whole or in part.
  virtual void crash() = 0;
};

struct SimOptions {
  uint64_t seed = 0;
  size_t nodes = 3;
  size_t clients = 6;
  Duration faulty_time = std::chrono::seconds(20);  // then everything heals
  Duration settle_time = std::chrono::seconds(30);  // within it the cluster must answer again
  bool trace = false;                               // lines on stderr
  std::shared_ptr<const plugin::Plugin> plugin;     // the counter
  std::function<std::unique_ptr<SimulatedDisk>(uint64_t seed)> make_disk;
};

struct SimReport {
  std::string failure;  // empty: everything held
  uint64_t events = 0;
  uint64_t crashes = 0;
  uint64_t partitions = 0;
  uint64_t messages_lost = 0;
  uint64_t messages_doubled = 0;
  uint64_t connections_broken = 0;
  uint64_t elections = 0;  // terms that had a leader
  uint64_t snapshots_taken = 0;
  uint64_t snapshots_installed = 0;
  uint64_t acknowledged = 0;
  uint64_t unknown = 0;
  uint64_t refused = 0;
  uint64_t reads = 0;
  uint64_t trace_hash = 0;  // of every event: equal seeds, equal hashes
  Duration simulated{};
};

class Simulation final {
 public:
  explicit Simulation(SimOptions options);
  ~Simulation();
  SimReport run();

 private:
  struct Client;
  struct Process;  // one node: its disk, and while it is up its Node
  struct Event {
    Time time;
    uint64_t order = 0;
    std::function<void()> action;
    bool operator>(const Event& other) const {
      return std::tie(time, order) > std::tie(other.time, other.order);
    }
  };

  void at(Time time, std::function<void()> action);
  void after(Duration delay, std::function<void()> action) { at(time_ + delay, std::move(action)); }
  Duration draw(Duration low, Duration high);
  void fail(std::string text);
  void trace(const std::string& text);

  void start(Process& process);
  void crash(Process& process, bool power_loss);
  void turn(Process& process);
  Now clocks(const Process& process) const;
  void schedule_turn(Process& process, Time time);
  void schedule_workers(Process& process);
  void check(Process& process);

  void send(NodeId from, NodeId to, wire::PeerMessage message);
  bool link_up(NodeId from, NodeId to) const;
  void break_connection(NodeId a, NodeId b);
  void try_connect(NodeId a, NodeId b);

  void fault();
  void heal_all();
  void client_act(Client& client);
  void client_replied(Client& client, const node::Reply& reply);
  void final_check();

  SimOptions options_;
  Random random_;
  SimReport report_;
  Time time_{};
  uint64_t next_order_ = 0;
  std::priority_queue<Event, std::vector<Event>, std::greater<>> events_;
  std::vector<std::unique_ptr<Process>> processes_;
  std::vector<std::unique_ptr<Client>> clients_;
  node::Genesis genesis_;
  bool healed_ = false;
  bool stopped_ = false;

  // The network of this seed.
  double loss_percent_ = 0;
  double double_percent_ = 0;
  Duration delay_low_{};
  Duration delay_high_{};
  std::set<std::pair<NodeId, NodeId>> cut_;  // directed
  std::map<std::pair<NodeId, NodeId>, uint64_t>
      connection_;  // directed: odd: up; rises with each change
  std::map<std::pair<NodeId, NodeId>, Time> last_delivery_;  // keeps the order of one connection

  // What the checkers know.
  std::map<Term, NodeId> leaders_;
  std::vector<Term> committed_terms_;  // by index
  std::map<Index, uint64_t> digests_;
  std::set<uint64_t> acknowledged_values_;
  uint64_t highest_acknowledged_ = 0;
  uint64_t possible_writes_ = 0;  // acknowledged or unknown
};

}  // namespace connectd::sim
