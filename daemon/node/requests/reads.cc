#include "node/requests/reads.h"

#include <fmt/format.h>

#include <algorithm>
#include <iterator>
#include <utility>

namespace connectd::node {
namespace {
// Maximum of read indexes that are known and not reached yet; beyond it the newest one is merged
// into the last.
constexpr size_t kMaxComing = 64;

// Moves expired reads out of `tasks`.
std::vector<ReadTask> take_late(std::vector<ReadTask>& tasks, Time now) {
  auto late = std::stable_partition(tasks.begin(), tasks.end(),
                                    [&](const ReadTask& task) { return task.deadline > now; });
  std::vector<ReadTask> taken(std::make_move_iterator(late), std::make_move_iterator(tasks.end()));
  tasks.erase(late, tasks.end());
  return taken;
}

void expire_unconfirmed(std::vector<ReadTask>& tasks, Time now, std::vector<Refused>& out) {
  for (ReadTask& task : take_late(tasks, now)) {
    out.push_back({std::move(task.ref), ReplyCode::kNoLeader,
                   "no leader confirmed the read within client.request_timeout"});
  }
}
}  // namespace

void Reads::add(ReadTask task, bool local) {
  if (local) {
    indexed_reads_[Index()].push_back(std::move(task));
    return;
  }
  switch (task.options.level) {
    case ReadLevel::kLinearizable:
      new_reads_.push_back(std::move(task));
      break;
    case ReadLevel::kLease:
      new_lease_reads_.push_back(std::move(task));
      break;
    case ReadLevel::kStale:
      stale_reads_.push_back(std::move(task));
      look_at_stale_reads_ = true;
      break;
  }
}

// ---- read indexes

void Reads::ask(bool has_leader, Time now, Effects& out) {
  for (auto& [context, batch] : batches_) {
    // The request or its answer was lost.
    if (has_leader && now - batch.asked >= options_.retry_interval) {
      batch.asked = now;
      out.events.push_back(raft::ReadRequest{context, batch.lease});
    }
  }
  for (ReadTask& task : stale_reads_) task.came = std::min(task.came, now);
  if (!has_leader) return;
  if (options_.checks_ready && ready_check_.is_due(now)) {
    ready_check_.asked(next_context_, now);
    out.events.push_back(raft::ReadRequest{next_context_++, false});
  }
  // Lease reads first: the answer to a later round is valid for them, too.
  if (!new_lease_reads_.empty()) ask_for(std::exchange(new_lease_reads_, {}), true, now, out);
  if (!new_reads_.empty()) ask_for(std::exchange(new_reads_, {}), false, now, out);
  bool too_old = false;
  for (ReadTask& task : stale_reads_) too_old |= !is_fresh(task);
  if (age_context_ != 0 || !too_old) return;
  // One request for all of them; the state is fresh when it reaches the answer's index.
  age_context_ = next_context_;
  ask_for({}, false, now, out);
}

void Reads::ask_for(std::vector<ReadTask> tasks, bool lease, Time now, Effects& out) {
  const uint64_t context = next_context_++;
  batches_[context] = Batch{std::move(tasks), lease, now, now};
  out.events.push_back(raft::ReadRequest{context, lease});
}

void Reads::read_index(uint64_t context, Index index) {
  ready_check_.answered(context, index);
  auto found = batches_.find(context);
  if (found == batches_.end()) return;  // answered twice, or expired
  // An index that may come from a lease depends on clocks. It answers lease reads only: neither the
  // age of this state nor reads that wait for a round may depend on it.
  const bool lease = found->second.lease;
  if (!lease) {
    learn_age(found->second.first_asked, index);
    if (context >= age_context_) age_context_ = 0;
  }
  // An index is valid for all earlier batches, too. So reads are executed in the order in which
  // they arrived, and no stream sees an older state after a newer one.
  if (!indexed_reads_.empty()) index = std::max(index, indexed_reads_.rbegin()->first);
  std::vector<ReadTask> tasks;
  for (auto it = batches_.begin(); it != batches_.end() && it->first <= context;) {
    if (lease && !it->second.lease) {
      ++it;
      continue;
    }
    std::ranges::move(it->second.tasks, std::back_inserter(tasks));
    it = batches_.erase(it);
  }
  if (!tasks.empty()) std::ranges::move(tasks, std::back_inserter(indexed_reads_[index]));
}

void Reads::read_dropped(uint64_t context, Time now) {
  ready_check_.dropped(context, now, options_.retry_interval);
  auto found = batches_.find(context);
  if (found == batches_.end()) return;
  // Repeated at the next turn with a leader, after a short pause.
  found->second.asked = now - options_.retry_interval + options_.tick;
}

void Reads::take_reached(Index handed, std::vector<ReadTask>& out) {
  take_stale(handed, out);
  while (!indexed_reads_.empty() && indexed_reads_.begin()->first <= handed) {
    std::ranges::move(indexed_reads_.begin()->second, std::back_inserter(out));
    indexed_reads_.erase(indexed_reads_.begin());
  }
}

// ---- the age of the state

// Once `index` is reached, the state has every write that was acknowledged before `asked`.
void Reads::learn_age(Time asked, Index index) {
  if (coming_.size() >= kMaxComing || (!coming_.empty() && coming_.back().index >= index)) {
    // The later of the two covers both when it is reached.
    coming_.back() = {asked, std::max(coming_.back().index, index)};
  } else {
    coming_.push_back({asked, index});
  }
}

bool Reads::is_fresh(const ReadTask& task) const {
  return !task.options.max_age || fresh_at_ >= task.came - *task.options.max_age;
}

bool Reads::is_met(const ReadTask& task) const {
  return task.options.min_index <= handed_ && is_fresh(task);
}

void Reads::take_stale(Index handed, std::vector<ReadTask>& out) {
  look_at_stale_reads_ |= handed != handed_;
  handed_ = handed;
  for (; !coming_.empty() && coming_.front().index <= handed; coming_.pop_front()) {
    fresh_at_ = std::max(fresh_at_, coming_.front().asked);
    look_at_stale_reads_ = true;
  }
  if (!std::exchange(look_at_stale_reads_, false) || stale_reads_.empty()) return;
  auto waiting = std::stable_partition(stale_reads_.begin(), stale_reads_.end(),
                                       [&](const ReadTask& task) { return is_met(task); });
  out.insert(out.end(), std::make_move_iterator(stale_reads_.begin()),
             std::make_move_iterator(waiting));
  stale_reads_.erase(stale_reads_.begin(), waiting);
}

// ---- expiry

void Reads::expire(Time now, std::vector<Refused>& out) {
  expire_unconfirmed(new_reads_, now, out);
  expire_unconfirmed(new_lease_reads_, now, out);
  for (ReadTask& task : take_late(stale_reads_, now)) {
    std::string why = why_stale(task, now);
    out.push_back({std::move(task.ref), ReplyCode::kStale, std::move(why)});
  }
  expire_batches(now, out);
  for (auto it = indexed_reads_.begin(); it != indexed_reads_.end();) {
    expire_unconfirmed(it->second, now, out);
    it = it->second.empty() ? indexed_reads_.erase(it) : std::next(it);
  }
}

void Reads::expire_batches(Time now, std::vector<Refused>& out) {
  for (auto it = batches_.begin(); it != batches_.end();) {
    expire_unconfirmed(it->second.tasks, now, out);
    const bool is_for_age = it->first == age_context_ && !stale_reads_.empty();
    if (it->first == age_context_ && !is_for_age) age_context_ = 0;
    it = it->second.tasks.empty() && !is_for_age ? batches_.erase(it) : std::next(it);
  }
}

std::string Reads::why_stale(const ReadTask& task, Time now) const {
  auto ms = [](Duration time) { return time / std::chrono::milliseconds(1); };
  const ReadOptions& options = task.options;
  if (is_met(task)) return "earlier requests of this connection took client.request_timeout";
  if (options.min_index > handed_) {
    return fmt::format(
        "this node has applied up to {} and did not reach min-index {} within "
        "client.request_timeout; use another node",
        handed_, options.min_index);
  }
  const Duration max_age = options.max_age.value_or(Duration());
  if (fresh_at_ == Time::min()) {
    return fmt::format(
        "this node has not been up to date since it started, max-age is {} ms; use another node",
        ms(max_age));
  }
  return fmt::format("this node was last up to date {} ms ago, max-age is {} ms; use another node",
                     ms(now - fresh_at_), ms(max_age));
}

std::vector<RequestRef> Reads::take_unasked() {
  std::vector<RequestRef> taken;
  for (auto* reads : {&new_reads_, &new_lease_reads_, &stale_reads_}) {
    for (ReadTask& task : std::exchange(*reads, {})) taken.push_back(std::move(task.ref));
  }
  return taken;
}

}  // namespace connectd::node
