// A stage for scenarios about a few cores: nothing happens unless a command says so. Messages wait
// until they are delivered, batches until they are persisted, and time stands still. What the cores
// do is written down for people. The commands are described in tests/scenarios/README.md.
#pragma once

#include <deque>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "raft/core.h"
#include "raft/invariants.h"

namespace connectd::raft {

// "Append term 2: 3/2..4/2 after 2/1, commit 2".
std::string describe(const Envelope& envelope);

class Stage final {
 public:
  // Runs one command line; its trace, lines that end in '\n'.
  std::string run(const std::string& line);
  // What broke an invariant; empty: nothing did.
  const std::string& broken() const { return broken_; }

 private:
  struct Arguments {
    std::vector<std::string> words;
    std::map<std::string, std::string> named;
  };
  struct Disk {
    HardState hard_state;
    std::vector<Entry> log;  // log[i] has index first + i
    Index first{1};
    Term before_first;
    SnapshotMark snapshot;
    Index last() const { return first + log.size() - 1; }
  };
  struct Node {
    Options options;
    Disk disk;
    std::unique_ptr<Core> core;
    std::deque<AppendBatch> writing;
    int clock_percent = 100;  // of true time
    Duration clock_base{0};   // what it showed, since boot,
    Duration clock_since{0};  // when true time was this
    Duration wall_skew{0};
    bool has_run = false;
    bool disk_is_slow = false;  // settle() leaves its batches alone
    Role told_role = Role::kFollower;
    Term told_term;
    NodeId told_leader;
    Index told_commit;
    Index told_conf;
    Index told_settings;
  };

  void cluster(const Arguments& arguments);
  void start(NodeId id, const Arguments& arguments);
  void deliver(const Arguments& arguments);
  bool persist(NodeId id, size_t count);
  void settle();
  void run_for(Duration duration);
  void install(NodeId to, NodeId from);
  void print_log(NodeId id);
  void print_status();

  void step(NodeId id, Event event);
  void turn(NodeId id);
  void send(const Envelope& envelope);
  void say(std::string_view line);
  void detail(std::string_view line);  // not while run() is at work
  Node& node(NodeId id);
  Now now() const;
  // By the node's own clock, which may be fast or slow, and may have been set.
  Now now_of(const Node& n) const;
  Duration until(const Node& n, Time deadline) const;  // of true time, since the scenario began

  ConfState conf_;
  std::map<NodeId, Node> nodes_;
  std::deque<Envelope> wire_;
  std::vector<std::pair<NodeId, NodeId>> cut_;
  Duration elapsed_{0};
  Settings founding_;
  InvariantChecker checker_;
  std::string out_;
  std::string broken_;
  bool terse_ = false;
};

}  // namespace connectd::raft
