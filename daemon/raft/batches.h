// The batches that were given to the log writer, and what their completion says: which term and
// vote are durable, and up to where the log was when a batch left. The writer makes batches durable
// in order. Owner: the core.
#pragma once

#include <cstdint>
#include <deque>
#include <optional>

#include "raft/types.h"

namespace connectd::raft {

class Batches final {
 public:
  // The log's end at the batch's submission: what the batch vouches for (Core::on(AppendDone)).
  struct Batch {
    uint64_t id;
    Term term;
    Index last_index;
    Term last_term;
  };

  // As recovery found them on the disk.
  Batches(Term term, NodeId vote) : term_(term), vote_(vote) {}

  // A batch leaves with this hard state and this end of the log: its number, which rises by one.
  uint64_t submit(Term term, NodeId vote, Index last_index, Term last_term);
  // The writer has completed this one, and so all before it.
  void complete(uint64_t id);
  // The oldest that is completed and was not taken yet.
  std::optional<Batch> take_completed();

  // This term and vote are in a batch, completed or not.
  bool is_submitted(Term term, NodeId vote) const { return term_ == term && vote_ == vote; }
  bool is_durable(Term term, NodeId vote) const {
    return is_submitted(term, vote) && completed_ >= hard_state_batch_;
  }
  bool any_in_flight() const { return !batches_.empty(); }

 private:
  friend class InvariantChecker;
  friend class Fingerprint;

  uint64_t last_ = 0;
  uint64_t completed_ = 0;
  std::deque<Batch> batches_;  // submitted, and not taken as completed
  Term term_;                  // as in the last batch
  NodeId vote_;
  uint64_t hard_state_batch_ = 0;  // the batch that brought term_ and vote_
};

}  // namespace connectd::raft
