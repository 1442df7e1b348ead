// The entries that are handed out and not yet applied, by weight. Bounds how much of the log waits
// for the state machine. Owner: the core.
#pragma once

#include <cstddef>
#include <deque>

#include "raft/types.h"

namespace connectd::raft {

class ApplyWindow final {
 public:
  explicit ApplyWindow(Index applied) : applied_(applied) {}

  Index applied() const { return applied_; }
  // Entries up to `last` are handed out.
  void handed_out(Index last, size_t weight);
  // Everything up to here is applied, or covered by a snapshot that was installed.
  void applied_to(Index index);
  // One Ready::committed may always leave.
  bool is_full(size_t bytes) const { return !batches_.empty() && bytes_ >= bytes; }

 private:
  struct Batch {
    Index last;
    size_t weight;
  };
  Index applied_;
  std::deque<Batch> batches_;
  size_t bytes_ = 0;
};

}  // namespace connectd::raft
