#include "raft/batches.h"

#include <algorithm>

#include "base/log.h"

namespace connectd::raft {

uint64_t Batches::submit(Term term, NodeId vote, Index last_index, Term last_term) {
  ++last_;
  if (!is_submitted(term, vote)) {
    term_ = term;
    vote_ = vote;
    hard_state_batch_ = last_;
  }
  batches_.push_back({last_, term, last_index, last_term});
  return last_;
}

void Batches::complete(uint64_t id) {
  CHECK(id <= last_) << "a batch was completed that was never submitted";
  completed_ = std::max(completed_, id);
}

std::optional<Batches::Batch> Batches::take_completed() {
  if (batches_.empty() || batches_.front().id > completed_) return {};
  const Batch batch = batches_.front();
  batches_.pop_front();
  return batch;
}

}  // namespace connectd::raft
