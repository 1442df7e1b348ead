#include "raft/progress.h"

#include <algorithm>

#include "base/log.h"

namespace connectd::raft {

bool Progress::may_send(size_t window_bytes) const {
  switch (state_) {
    case State::kProbe:
      return !probe_is_out_;
    case State::kReplicate:
      // An empty window always admits one message, whatever its size (an entry may be larger than
      // the window).
      return inflight_.empty() ||
             (inflight_bytes_ < window_bytes && inflight_.size() < kMaxInflightMessages);
    case State::kSnapshot:
      return false;
  }
  return false;
}

void Progress::sent_entries(Index last, size_t bytes, Time now) {
  CHECK(state_ == State::kReplicate && last >= next_);
  if (inflight_.empty()) progressed_at_ = now;
  inflight_.push_back({last, bytes});
  inflight_bytes_ += bytes;
  next_ = last + 1;
}

void Progress::accepted(Index index, Index first_index, Time now) {
  if (index > match_) {
    match_ = index;
    progressed_at_ = now;
  }
  next_ = std::max(next_, match_ + 1);
  while (!inflight_.empty() && inflight_.front().last <= match_) {
    inflight_bytes_ -= inflight_.front().bytes;
    inflight_.pop_front();
  }
  switch (state_) {
    case State::kProbe:
      become_replicate(now);
      break;
    case State::kReplicate:
      break;
    case State::kSnapshot:
      // It caught up before the end of the snapshot was reported.
      if (match_ + 1 >= first_index) {
        next_ = match_ + 1;
        become_replicate(now);
      }
      break;
  }
}

bool Progress::rejected(Index rejected, Index hint) {
  if (state_ == State::kSnapshot || rejected <= match_ || rejected >= next_) return false;
  // In probe state only the answer to the probe in flight counts: others are outdated.
  if (state_ == State::kProbe && rejected + 1 != next_) return false;
  next_ = std::max(match_ + 1, std::min(rejected, hint + 1));
  clear_inflight();
  become_probe();
  return true;
}

void Progress::answered_heartbeat(Index last_index, Time now, Duration stall) {
  switch (state_) {
    case State::kProbe:
      probe_is_out_ = false;
      break;
    case State::kReplicate:
      if (inflight_.empty() ? match_ + 1 < next_ : now - progressed_at_ >= stall) {
        become_probe();
      }
      break;
    case State::kSnapshot:
      break;
  }
  CHECK(match_ <= last_index);
}

void Progress::become_probe() {
  state_ = State::kProbe;
  probe_is_out_ = false;
}

void Progress::become_snapshot() {
  state_ = State::kSnapshot;
  probe_is_out_ = false;
  clear_inflight();
  loaded.clear();
  loading = Index();
}

void Progress::snapshot_ended(bool ok, Index mark) {
  if (ok) {
    match_ = std::max(match_, mark);
    next_ = std::max(next_, match_ + 1);
  }
  if (state_ != State::kSnapshot) return;
  if (ok) next_ = match_ + 1;
  become_probe();
  // After a failure wait for a message from the follower, so that streams are not restarted in a
  // loop.
  probe_is_out_ = !ok;
}

void Progress::become_replicate(Time now) {
  state_ = State::kReplicate;
  probe_is_out_ = false;
  progressed_at_ = now;
  sent_commit = Index();
}

void Progress::clear_inflight() {
  inflight_.clear();
  inflight_bytes_ = 0;
}

}  // namespace connectd::raft
