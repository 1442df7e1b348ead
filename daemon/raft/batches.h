// The batches in flight to the log writer, and what their completion attests: which term and vote
// are durable, and the end of the log as of a batch's submission. The writer makes batches durable
// in order. Owner: the core.
#pragma once

#include <cstdint>
#include <deque>
#include <optional>

#include "raft/types.h"

namespace connectd::raft {

class Batches final {
 public:
  // The end of the log at submission, which the batch attests (Core::on(AppendDone)).
  struct Batch {
    uint64_t id;
    Term term;
    Index last_index;
    Term last_term;
  };

  // The term and vote that recovery read from the disk.
  Batches(Term term, NodeId vote) : term_(term), vote_(vote) {}

  // Submits a batch with this hard state and end of the log; returns its number (the last plus
  // one).
  uint64_t submit(Term term, NodeId vote, Index last_index, Term last_term);
  // The writer has completed this batch, and so all earlier ones.
  void complete(uint64_t id);
  // The oldest completed batch that was not taken yet.
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
  uint64_t hard_state_batch_ = 0;  // the first batch with term_ and vote_
};

}  // namespace connectd::raft
