// The reads of this node's clients: asks the leader for read indexes, one for all reads of a turn
// and level, and gives each read out when its index is reached here (thesis §6.4).
//
// An index is good for all reads that were asked for before it, so reads are executed in the order
// in which they came (ADR 6). An index that a lease may have given is worth what clocks are worth:
// it answers lease reads and tells nothing else (ADR 16). How old the state is, this node learns
// from the indexes that rounds give it; stale reads wait for their bounds only (ADR 17).
//
// Pure: events in, effects out. Owner: the loop thread.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <map>
#include <string>
#include <vector>

#include "base/clock.h"
#include "base/types.h"
#include "node/requests/limits.h"
#include "node/requests/request.h"

namespace connectd::node {

class Reads final {
 public:
  explicit Reads(const HolderLimits& limits) : limits_(limits) {}

  // ---- what happened
  // `local`: it asks the plugin as it is, at once.
  void add(ReadTask task, bool local);
  void read_index(uint64_t context, Index index);
  void read_dropped(uint64_t context, Time now);

  // ---- the turn
  void ask(bool has_leader, Time now, Outgoing& out);
  // Those that may be executed after the entry at `handed`, in order.
  void take_reached(Index handed, std::vector<ReadTask>& out);
  // What is over its time, with what each is told.
  void expire(Time now, std::vector<Refused>& out);
  // Those for which nobody was asked yet; they are to be refused.
  std::vector<RequestRef> take_unasked();

 private:
  struct Batch {
    std::vector<ReadTask> tasks;
    bool lease = false;  // a lease may give the index, and then it is good for lease reads only
    Time asked;
    Time first_asked;  // an answer may be to the first question: it is as fresh as that
  };
  // Every write that was acknowledged before `asked` is in the state after `index`.
  struct Fresh {
    Time asked;
    Index index;
  };
  void ask_for(std::vector<ReadTask> tasks, bool lease, Time now, Outgoing& out);
  void learn_age(Time asked, Index index);
  void take_stale(Index handed, std::vector<ReadTask>& out);
  bool is_fresh(const ReadTask& task) const;
  bool is_met(const ReadTask& task) const;
  void expire_batches(Time now, std::vector<Refused>& out);
  std::string why_stale(const ReadTask& task, Time now) const;

  const HolderLimits limits_;
  std::vector<ReadTask> new_reads_;                       // nobody was asked yet
  std::vector<ReadTask> new_lease_reads_;                 // likewise
  std::map<uint64_t, Batch> batches_;                     // by context: asked for an index
  std::map<Index, std::vector<ReadTask>> indexed_reads_;  // wait for this index
  uint64_t next_context_ = 1;

  std::vector<ReadTask> stale_reads_;  // wait for their bounds
  bool look_at_stale_reads_ = false;   // there are new ones, or the state is another
  uint64_t age_context_ = 0;           // the question that is out on their behalf; 0: none is
  std::deque<Fresh> coming_;           // indexes that were not reached yet, rising
  Time fresh_at_ = Time::min();        // what was acknowledged before that is in the state
  Index handed_;                       // the state that reads will meet
};

}  // namespace connectd::node
