#include "raft/apply_window.h"

#include <algorithm>

namespace connectd::raft {

void ApplyWindow::handed_out(Index last, size_t weight) {
  batches_.push_back({last, weight});
  bytes_ += weight;
}

void ApplyWindow::applied_to(Index index) {
  applied_ = std::max(applied_, index);
  while (!batches_.empty() && batches_.front().last <= applied_) {
    bytes_ -= batches_.front().weight;
    batches_.pop_front();
  }
}

}  // namespace connectd::raft
