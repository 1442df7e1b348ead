#include "raft/log.h"

#include <algorithm>
#include <utility>

#include "base/log.h"

namespace connectd::raft {

size_t Log::memory_cost(const Entry& entry) {
  constexpr size_t kBlockOverhead = 48;
  return sizeof(Entry) + kBlockOverhead + entry.payload.size();
}

Log::Log(const Initial& initial, size_t cache_bytes)
    : first_(initial.first_index),
      last_(initial.last_index),
      before_first_term_(initial.before_first_term),
      runs_(initial.terms.begin(), initial.terms.end()),
      memory_from_(initial.last_index + 1),
      cache_bytes_(cache_bytes),
      stamp_before_(initial.last_stamp_ns),
      unwritten_from_(initial.last_index + 1),
      durable_(initial.last_index) {
  // A snapshot may be ahead of the durable log: the leader commits and applies entries that so far
  // only its followers have on their disks. Then the log restarts after the snapshot.
  if (last_ < initial.snapshot.index) reset(initial.snapshot, initial.last_stamp_ns);
  CHECK(first_ >= Index(1) && last_ + 1 >= first_);
  CHECK(runs_.empty() == (last_ < first_));
  CHECK(runs_.empty() || runs_.front().first == first_);
  // The stored commit index is a hint: it may point past a torn end.
  commit_ = std::max(std::min(initial.hard_state.commit, last_), initial.snapshot.index);
  handed_out_ = initial.applied;
  CHECK(handed_out_ + 1 >= first_ && handed_out_ <= commit_)
      << "the state machine must hold what the log no longer has, and nothing uncommitted";
}

Term Log::term_at(Index index) const {
  if (index > last_) return Term();
  if (index < first_) return index + 1 == first_ ? before_first_term_ : Term();
  if (runs_.back().first <= index) return runs_.back().term;
  auto after = std::upper_bound(runs_.begin(), runs_.end(), index,
                                [](Index i, const TermRun& run) { return i < run.first; });
  return std::prev(after)->term;
}

bool Log::holds(Index index, Term term) const {
  return index + 1 >= first_ && index <= last_ && term_at(index) == term;
}

Index Log::last_at_most(Index index, Term term) const {
  index = std::min(index, last_);
  if (index < first_) return index;
  auto run = std::upper_bound(runs_.begin(), runs_.end(), index,
                              [](Index i, const TermRun& r) { return i < r.first; });
  while (run != runs_.begin()) {
    --run;
    if (run->term <= term) return index;
    index = run->first - 1;
  }
  return index;
}

void Log::append(Entry entry) {
  CHECK(entry.index == last_ + 1 && entry.term >= last_term() && entry.term);
  if (runs_.empty() || runs_.back().term != entry.term) runs_.push_back({entry.index, entry.term});
  last_ = entry.index;
  memory_bytes_ += memory_cost(entry);
  unstable_bytes_ += entry.weight();
  entries_.push_back(std::move(entry));
}

void Log::truncate_from(Index from) {
  CHECK(from > commit_) << "truncation of committed entries: from " << from.value()
                        << ", commit index " << commit_.value();
  CHECK(from >= first_ && from <= last_);
  // If the writer has these entries, it must truncate them. Otherwise it never gets them.
  if (from < unwritten_from_) {
    replaces_from_ = replaces_from_ ? std::min(*replaces_from_, from) : from;
    unwritten_from_ = from;
  }
  while (entry_count() > 0 && entries_.back().index >= from) {
    memory_bytes_ -= memory_cost(entries_.back());
    if (entries_.back().index > durable_) unstable_bytes_ -= entries_.back().weight();
    entries_.pop_back();
  }
  memory_from_ = std::min(memory_from_, from);
  while (!runs_.empty() && runs_.back().first >= from) runs_.pop_back();
  last_ = from - 1;
  durable_ = std::min(durable_, last_);
}

void Log::reset(SnapshotMark mark, int64_t stamp_ns) {
  first_ = mark.index + 1;
  last_ = mark.index;
  before_first_term_ = mark.term;
  runs_.clear();
  entries_.clear();
  head_ = 0;
  memory_from_ = first_;
  memory_bytes_ = 0;
  stamp_before_ = stamp_ns;
  unwritten_from_ = first_;
  replaces_from_.reset();
  durable_ = mark.index;
  unstable_bytes_ = 0;
  commit_ = std::max(commit_, mark.index);
  handed_out_ = std::max(handed_out_, mark.index);
}

void Log::compact(Index first_index) {
  if (first_index <= first_) return;
  CHECK(first_index - 1 <= durable_ && first_index - 1 <= handed_out_)
      << "compaction passes what is durable or applied";
  before_first_term_ = term_at(first_index - 1);
  first_ = first_index;
  while (!runs_.empty() && (first_ > last_ || (runs_.size() > 1 && runs_[1].first <= first_))) {
    runs_.pop_front();
  }
  if (!runs_.empty()) runs_.front().first = std::max(runs_.front().first, first_);
  while (entry_count() > 0 && memory_from_ < first_) drop_front();
  if (entry_count() == 0) memory_from_ = last_ + 1;
  evict();
}

size_t Log::copy(Index from, Index to, size_t max_bytes, size_t max_entries,
                 std::vector<Entry>& out) const {
  to = std::min(to, last_);
  CHECK(in_memory(from) && from <= to);
  size_t weight = 0;
  size_t count = 0;
  Index end = from;
  do {
    weight += at(end).weight();
    ++end;
    ++count;
  } while (end <= to && count < max_entries && weight + at(end).weight() <= max_bytes);
  auto begin = entries_.begin() + static_cast<std::ptrdiff_t>(head_ + (from - memory_from_));
  out.insert(out.end(), begin, begin + static_cast<std::ptrdiff_t>(count));
  return weight;
}

void Log::take_unwritten(AppendBatch& batch) {
  batch.replaces_from = replaces_from_;
  replaces_from_.reset();
  if (unwritten_from_ <= last_) {
    copy(unwritten_from_, last_, SIZE_MAX, SIZE_MAX, batch.entries);
    unwritten_from_ = last_ + 1;
  }
}

void Log::durable_to(Index index) {
  CHECK(index <= last_);
  if (index <= durable_) return;
  for (Index i = durable_ + 1; i <= index; ++i) unstable_bytes_ -= at(i).weight();
  durable_ = index;
  evict();
}

void Log::commit_to(Index index) {
  CHECK(index >= commit_ && index <= last_) << "commit index " << index.value() << " is not in ["
                                            << commit_.value() << ", " << last_.value() << "]";
  commit_ = index;
}

void Log::hand_out_to(Index index) {
  CHECK(index >= handed_out_ && index <= commit_);
  handed_out_ = index;
  evict();
}

void Log::evict() {
  while (memory_bytes_ > cache_bytes_ && entry_count() > 0 && memory_from_ <= durable_ &&
         memory_from_ <= handed_out_) {
    drop_front();
  }
}

void Log::drop_front() {
  Entry& front = entries_[head_];
  memory_bytes_ -= memory_cost(front);
  stamp_before_ = front.stamp_ns;
  front = Entry();
  ++head_;
  ++memory_from_;
  if (head_ * 2 >= entries_.size()) {
    entries_.erase(entries_.begin(), entries_.begin() + static_cast<std::ptrdiff_t>(head_));
    head_ = 0;
  }
}

}  // namespace connectd::raft
