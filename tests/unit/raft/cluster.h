// Some cores, a virtual network, virtual disks and virtual time in one thread: what a seed draws,
// happens, and happens again for the same seed. After every step of a core its invariants are
// checked, and what only an observer of all can see: election safety, log matching, leader
// completeness, committed entries never change, nothing leaves before it is durable, reads see all
// that was committed before they were asked, no lease outlasts its leadership.
#pragma once

#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <queue>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "base/random.h"
#include "raft/core.h"
#include "raft/invariants.h"

namespace connectd::raft {

struct Weather {
  double loss = 0;         // percent of messages
  double duplication = 0;  // percent
  Duration min_delay = std::chrono::microseconds(100);
  Duration max_delay = std::chrono::milliseconds(1);  // drawn for each message: reorders
  Duration max_sync = std::chrono::milliseconds(1);
  Duration max_apply = std::chrono::microseconds(100);
};

class Cluster final {
 public:
  // `others`: nodes that are no members, with empty logs. `settings`: those of the founding
  // document.
  Cluster(const ConfState& conf, uint64_t seed, const Options& model = {},
          const std::vector<NodeId>& others = {}, const std::optional<Settings>& settings = {});

  Weather weather;
  // Called when `index` was handed out to apply on `node`.
  std::vector<std::string> failures;  // what broke; the first one counts

  void run_for(Duration duration);
  // Until `condition` holds or `limit` has passed; whether it holds.
  template <class Condition>
  bool run_until(Duration limit, Condition&& condition) {
    Time end = time_ + limit;
    while (time_ < end && failures.empty()) {
      if (condition()) return true;
      advance(end);
    }
    return condition();
  }

  void crash(NodeId id);
  void restart(NodeId id);
  bool is_up(NodeId id) const { return nodes_.at(id).core != nullptr; }
  void cut(NodeId from, NodeId to) { cut_.insert({from, to}); }
  void cut_both(NodeId a, NodeId b) {
    cut(a, b);
    cut(b, a);
  }
  void heal() { cut_.clear(); }
  // Both ends of a cut or healed connection hear of it.
  void tell_lost(NodeId at, NodeId peer);
  void tell_reached(NodeId at, NodeId peer);

  void step(NodeId id, Event event);
  bool propose(NodeId id, std::string payload);
  bool change(NodeId id, const ConfState& conf);
  void read(NodeId id, bool lease = false);
  // Its clocks run at so many thousandths of the rate of time from now on.
  void set_clock_rate(NodeId id, uint64_t permille);
  void set_wall_clock(NodeId id, Duration forward) { nodes_.at(id).wall_offset += forward.count(); }
  // It does nothing for so long; then all that has come meanwhile, in order, or reads first.
  void pause(NodeId id, Duration duration, bool reads_first);
  void resume(NodeId id);
  // The node keeps its applied state as a snapshot and drops the log up to `trailing` before it.
  void snapshot(NodeId id, uint64_t trailing);

  Core& core(NodeId id) { return *nodes_.at(id).core; }
  std::vector<NodeId> ids() const;
  NodeId leader() const;  // the one of the highest term
  Time time() const { return time_; }
  Index committed() const { return max_committed_; }
  const std::vector<std::string>& applied(NodeId id) const { return nodes_.at(id).applied; }
  uint64_t messages_sent() const { return messages_; }
  uint64_t reads_served() const { return reads_served_; }
  uint64_t snapshots_installed() const { return snapshots_installed_; }
  Random& random() { return random_; }

 private:
  struct Disk {
    HardState hard_state;
    std::vector<Entry> log;  // log[i] has index first + i
    Index first{1};
    Term before_first;
    SnapshotMark snapshot;
    std::vector<std::string> snapshot_state;
    std::optional<Settings> snapshot_settings;
    ConfState snapshot_conf;
    int64_t snapshot_stamp = 0;

    Index last() const { return first + log.size() - 1; }
    bool holds(Index index) const { return index <= last() || index <= snapshot.index; }
    void write(const AppendBatch& batch);
  };
  struct Node {
    Options options;
    Disk disk;
    std::unique_ptr<Core> core;
    uint64_t life = 0;    // also rises when a snapshot voids what was in flight
    uint64_t starts = 0;  // a load is answered unless the process restarted
    int64_t wall_offset = 0;
    Time clock_base;  // what its clock said when its rate was set, and when that was
    Time clock_since;
    uint64_t clock_permille = 1000;
    Time paused_until;
    bool reads_first = false;
    std::vector<Event> held;  // arrived while it was paused
    std::deque<AppendBatch> writing;
    Time disk_free;
    std::vector<std::string> applied;  // payloads of commands
    ConfState applied_conf;
    std::optional<Settings> applied_settings;
    Index applied_index;
    std::deque<Entry> to_apply;
    std::map<uint64_t, Index> reads;  // context -> what must be seen
  };
  struct Action {
    Time at;
    uint64_t order;
    std::function<void()> run;
    bool operator<(const Action& other) const {
      return std::tie(other.at, other.order) < std::tie(at, order);
    }
  };

  Now now_of(const Node& node) const;
  bool is_paused(const Node& node) const { return time_ < node.paused_until; }
  Time deadline_of(const Node& node) const;
  void after(Duration delay, std::function<void()> run);
  void advance(Time limit);
  void turn(NodeId id);
  void send(Envelope envelope);
  void sync_one(NodeId id);
  void apply_some(NodeId id);
  void send_snapshot(NodeId from, NodeId to);
  void check(NodeId id);
  void check_leaving(const Node& node, const Envelope& envelope);
  void fail(std::string text);
  Duration drawn(Duration low, Duration high);

  Random random_;
  ConfState conf_;
  Time time_{std::chrono::seconds(1000)};
  std::map<NodeId, Node> nodes_;
  std::priority_queue<Action> actions_;
  uint64_t order_ = 0;
  std::set<std::pair<NodeId, NodeId>> cut_;
  InvariantChecker checker_;

  struct Committed {
    Term term;
    uint64_t checksum;
    Term committed_in;
  };
  std::map<std::pair<Index, Term>, std::pair<Term, uint64_t>> seen_entries_;  // -> prev term, sum
  std::vector<Committed> committed_;                                          // [index - 1]
  Index max_committed_;
  std::map<Term, NodeId> leaders_;
  std::map<std::pair<NodeId, Term>, NodeId> votes_;
  uint64_t next_context_ = 1;
  uint64_t messages_ = 0;
  uint64_t reads_served_ = 0;
  uint64_t snapshots_installed_ = 0;
};

}  // namespace connectd::raft
