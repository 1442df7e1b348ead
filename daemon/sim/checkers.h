// The invariants that must hold in every run, whatever fails. Checks each node after each event,
// each vote and acknowledgement that it sends, each applied entry, and each reply.
//
// The text of a violation begins with the name of the rule, which tests and the table of mutants
// use.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "node/apply/applier.h"
#include "node/node.h"
#include "raft/core.h"
#include "raft/invariants.h"
#include "sim/history.h"
#include "sim/index_witness.h"

namespace connectd::sim {

// An entry as it was first applied.
struct AppliedEntry {
  raft::Entry entry;
  int32_t status = 0;  // negative: the sessions did not admit it
  std::string reply;
  uint64_t digest = 0;
  uint64_t state_hash = 0;  // sessions and membership, at some indexes; 0: not taken
  NodeId by;
};

class Checkers {
 public:
  explicit Checkers(size_t nodes) : nodes_(nodes) {}
  // No two writes of the run have the same bytes, so the log shows whether each is applied exactly
  // once.
  void set_writes_are_unique(bool unique) { writes_are_unique_ = unique; }

  // The first rule that was broken; empty: none.
  const std::string& violation() const { return violation_; }
  void fail(std::string text);

  // ---- nodes
  void started(NodeId id, const node::Node& node);
  void stopped(NodeId id);
  void after_step(NodeId id, const node::Node& node);
  // Before a message leaves `node`.
  void sending(NodeId id, const node::Node& node, const raft::Envelope& envelope);
  void sending(NodeId id, const node::Node& node, const wire::SnapshotAck& ack);
  // The disk was replaced: its promises are gone, and the cluster must not depend on them.
  void disk_lost(NodeId id);
  // The committed members name the new disk: it votes as another voter would. What its former disk
  // voted for cannot win any more without a node that has the replacement in its log.
  void disk_bound(NodeId id);

  // ---- applied entries
  void applied(NodeId id, const raft::Entry& entry, int32_t status, ByteView reply,
               const node::ReplicatedState& state);
  void restored(NodeId id, const node::ReplicatedState& state);

  // ---- clients
  // `operation` is about to be submitted: sets what it must see.
  void called(Operation& operation);
  // A stale read: it must see `min_index`, and everything shown to any client by `fresh_since`.
  void called_stale(Operation& operation, Index min_index, Time fresh_since);
  void replied(const Operation& operation);
  // After the run: checks the index witness (sim/index_witness.h), that replaying the log on a
  // fresh instance gives every reply of the first replica, and that its reads and `local_reads`
  // change nothing.
  void check_history(const History& history, const node::Genesis& genesis,
                     const std::shared_ptr<const plugin::Plugin>& plugin,
                     const std::vector<std::string>& local_reads);
  // After a violation: reads that change the state make replicas differ later. If a replay finds
  // one, it becomes the violation.
  void look_for_changing_reads(const History& history, const node::Genesis& genesis,
                               const std::shared_ptr<const plugin::Plugin>& plugin);

  // The applied entries, as the witness of the whole history.
  WitnessLog log() const;
  Index shown() const { return shown_; }
  Index highest_committed() const { return highest_committed_; }
  Index highest_applied() const { return Index(applied_.empty() ? 0 : applied_.size() - 1); }
  uint64_t elections() const { return elections_; }
  uint64_t log_cuts() const { return log_cuts_; }

 private:
  class ComparingReplayer;
  struct NodeView {
    bool up = false;
    raft::InvariantChecker invariants;
    Term term;
    Index commit;
    Index applied;
    // The log as it was last seen: its term at each index, from `log_first` on.
    std::vector<Term> log_terms;
    Index log_last;
    // Promised to other nodes, so it must survive a crash.
    Term promised_term;
    Index promised_index;
    Term promised_index_term;
    Index durable;
  };
  struct KnownEntry {
    uint64_t checksum = 0;
    Term before;  // the term of the entry before it
  };

  void look_at_log(NodeId id, NodeView& view, const raft::Core& core);
  static void promise(NodeView& view, const raft::Core& core, Index index);
  void look_at_commit(NodeId id, NodeView& view, const raft::Core& core);
  void look_at_leader(NodeId id, const raft::Core& core);
  void vote(NodeId voter, Term term, NodeId candidate);

  bool writes_are_unique_ = true;
  std::string violation_;
  std::vector<NodeView> nodes_;  // by id - 1
  std::map<Term, NodeId> leaders_;
  std::map<std::pair<NodeId, Term>, NodeId> votes_;
  std::map<std::pair<Index, Term>, KnownEntry> entries_;
  struct Committed {
    Term term;    // of the entry; none: not seen
    Term during;  // the term of the first node that reported it
  };
  std::vector<Committed> committed_;  // by index
  Index highest_committed_;
  std::vector<AppliedEntry> applied_;  // by index
  std::unordered_map<std::string, Index> commands_;
  // For each client, and over all of them, the highest index that a reply showed.
  Index shown_;
  std::vector<std::pair<Time, Index>> shown_at_;  // each rise of shown_
  std::unordered_map<uint64_t, Index> shown_to_;
  uint64_t elections_ = 0;
  uint64_t log_cuts_ = 0;
};

}  // namespace connectd::sim
