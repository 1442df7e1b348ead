// A whole cluster in one thread: N real nodes (consensus, log, snapshots, sessions, plugin) around
// a virtual network, virtual disks and virtual time. One seed determines everything, so a failing
// seed fails again, at the same event.
//
// What is replaced: sockets (sim/network.h between nodes, sim/client_link.h to clients), the disk
// (sim/faulty_file_system.h), clocks (each node has its own, at its own rate) and threads (each
// worker is turned by hand, at a time drawn from the seed). Everything else is the production code.
//
// A run has three phases. Safety: anything may be broken, checked after each event
// (sim/checkers.h). Liveness: a quorum is chosen and healed, the rest stays broken; within a bound
// it must have a leader and acknowledge writes. End: all heals, all nodes must agree, every request
// is answered, and the history of the clients is checked as a whole.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/clock.h"
#include "plugin/plugin.h"
#include "sim/copy_capture.h"
#include "sim/faults.h"

namespace connectd::sim {

struct SimOptions {
  uint64_t seed = 0;
  size_t nodes = 3;  // 1 to 9
  size_t clients = 6;
  // The length of the safety phase: `steps` events or, if 0, `faulty_time` of virtual time.
  uint64_t steps = 0;
  Duration faulty_time = std::chrono::seconds(20);
  FaultSet faults = FaultSet::all();  // those that may be drawn
  std::shared_ptr<const plugin::Plugin> plugin;
  std::vector<std::string> requests;  // sim/workload.h; empty: by the plugin's name
  // Receives each line of the trace; none: no trace.
  std::function<void(std::string_view line)> trace;
};

struct SimReport {
  std::string failure;     // empty: everything held. Begins with the rule's name.
  uint64_t failed_at = 0;  // event
  uint64_t events = 0;
  Duration simulated{};
  uint64_t trace_hash = 0;  // of every event: equal seeds, equal hashes
  FaultCounts faults;
  uint64_t elections = 0;  // terms that had a leader
  uint64_t crashes = 0;
  uint64_t partitions = 0;
  uint64_t connections_broken = 0;
  uint64_t snapshots_taken = 0;
  uint64_t snapshots_installed = 0;
  uint64_t snapshots_resumed = 0;  // streams that continued a broken one
  CaptureCounts captures;
  uint64_t log_cuts = 0;  // a suffix of a log that was replaced
  uint64_t acknowledged = 0;
  uint64_t unknown = 0;
  uint64_t refused = 0;
  uint64_t reads = 0;
  // Histories that the search found linearizable, and those that exhausted its budget.
  uint64_t searched = 0;
  uint64_t search_exhausted = 0;
  Duration slowest_recovery{};  // of the liveness phase
  // Leaders whose disk stalled without any other fault, and that had stepped down ten election
  // timeouts later.
  uint64_t stalled_leaders = 0;

  void add(const SimReport& other);
};

// One run. Not reentrant; two simulations in one process are independent.
class Simulation final {
 public:
  // `options.nodes` and `options.plugin` must be set, and the requests fit the plugin
  // (Workload::make).
  explicit Simulation(SimOptions options);
  ~Simulation();
  SimReport run();

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

// Shrinks a failing run: removes fault kinds one by one, and reduces the clients, as long as the
// run still breaks the same rule. At most `runs` runs.
SimOptions shrink(SimOptions options, const std::string& failure, size_t runs);

}  // namespace connectd::sim
