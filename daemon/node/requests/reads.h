// The reads of this node's clients: requests read indexes from the leader, one for all reads of a
// turn and level, and releases each read when this node has reached its index (thesis §6.4).
//
// An index is valid for all earlier reads too, so reads are executed in the order in which they
// came (ADR 6). An index that may come from a lease relies on clocks: it is used for lease reads
// only (ADR 16). This node derives the age of its state from the indexes that rounds returned;
// stale reads wait only for their bounds (ADR 17).
//
// Pure: events in, effects out. Owner: the loop thread.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "base/clock.h"
#include "base/types.h"
#include "node/effects.h"
#include "node/requests/ready_check.h"
#include "node/requests/request.h"

namespace connectd::node {

class Reads final {
 public:
  // As in HolderLimits.
  struct Options {
    Duration retry_interval{};
    Duration tick{};
    bool checks_ready = false;
  };

  explicit Reads(const Options& options) : options_(options) {}

  // ---- events
  // `local`: executed at once, on the current state.
  void add(ReadTask task, bool local);
  void read_index(uint64_t context, Index index);
  void read_dropped(uint64_t context, Time now);

  std::optional<Time> take_ready_question(Index handed) {
    return ready_check_.take_reached(handed);
  }

  // ---- the turn
  void ask(bool has_leader, Time now, Effects& out);
  // Moves out the reads that may be executed after the entry at `handed`, in order.
  void take_reached(Index handed, std::vector<ReadTask>& out);
  // Moves out the expired reads, each with its error text.
  void expire(Time now, std::vector<Refused>& out);
  // Moves out the reads without a read index request; the caller refuses them.
  std::vector<RequestRef> take_unasked();

 private:
  struct Batch {
    std::vector<ReadTask> tasks;
    bool lease = false;  // the index may come from a lease: valid for lease reads only
    Time asked;
    Time first_asked;  // the answer may be to the first request, and is only as fresh
  };
  // Every write that was acknowledged before `asked` is in the state after `index`.
  struct Fresh {
    Time asked;
    Index index;
  };
  void ask_for(std::vector<ReadTask> tasks, bool lease, Time now, Effects& out);
  void learn_age(Time asked, Index index);
  void take_stale(Index handed, std::vector<ReadTask>& out);
  bool is_fresh(const ReadTask& task) const;
  bool is_met(const ReadTask& task) const;
  void expire_batches(Time now, std::vector<Refused>& out);
  std::string why_stale(const ReadTask& task, Time now) const;

  const Options options_;
  std::vector<ReadTask> new_reads_;                       // index not requested yet
  std::vector<ReadTask> new_lease_reads_;                 // likewise
  std::map<uint64_t, Batch> batches_;                     // by context: index requested
  std::map<Index, std::vector<ReadTask>> indexed_reads_;  // wait for this index
  uint64_t next_context_ = 1;

  ReadyCheck ready_check_;

  std::vector<ReadTask> stale_reads_;  // wait for their bounds
  bool look_at_stale_reads_ = false;   // there are new ones, or the state changed
  uint64_t age_context_ = 0;           // their request in flight; 0: none
  std::deque<Fresh> coming_;           // indexes not reached yet, ascending
  Time fresh_at_ = Time::min();        // writes acknowledged before this are in the state
  Index handed_;                       // the state that reads will see
};

}  // namespace connectd::node
