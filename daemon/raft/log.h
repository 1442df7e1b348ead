// The log as the core sees it: the term of every index, and the entries at its end.
//
//   first_index           memory_from              durable        last_index
//        |------ terms only ---|---- entries in memory ---|--- unstable ---|
//
// Terms are stored as runs, of which any log has a handful. Entries stay in memory until they are
// durable and handed out to apply, and then as long as the cache has room.
// Owner: the core.
#pragma once

#include <cstdint>
#include <deque>
#include <optional>
#include <vector>

#include "raft/options.h"
#include "raft/ready.h"
#include "raft/types.h"

namespace connectd::raft {

class Log final {
 public:
  // Memory that an entry takes here: its payload, and the overhead of the object and its block.
  static size_t memory_cost(const Entry& entry);

  Log(const Initial& initial, size_t cache_bytes);

  Index first_index() const { return first_; }
  Index last_index() const { return last_; }
  Term last_term() const { return runs_.empty() ? before_first_term_ : runs_.back().term; }
  // None if the log does not know it: before first_index - 1, or past the end.
  Term term_at(Index index) const;
  // Whether the log has this position; the last entry of a snapshot counts.
  bool holds(Index index, Term term) const;
  // Where the log may match another log that ends or conflicts at `index` with `term`: the largest
  // position at or below `index` whose term is not higher (thesis §3.5, fast back-off).
  Index last_at_most(Index index, Term term) const;
  int64_t last_stamp_ns() const { return entry_count() ? entries_.back().stamp_ns : stamp_before_; }

  // -- change. `entry.index` is last_index + 1.
  void append(Entry entry);
  // Drops everything from `from` on; CHECKs that none of it is committed.
  void truncate_from(Index from);
  // Empties the log; it begins after the snapshot.
  void reset(SnapshotMark mark, int64_t stamp_ns);
  void compact(Index first_index);

  // -- entries in memory
  bool in_memory(Index index) const { return index >= memory_from_ && index <= last_; }
  Index memory_from() const { return memory_from_; }
  const Entry& at(Index index) const { return entries_[head_ + (index - memory_from_)]; }
  // Appends the entries of [from, to] to `out`, as many as fit both limits but at least one.
  // Returns their weight.
  size_t copy(Index from, Index to, size_t max_bytes, size_t max_entries,
              std::vector<Entry>& out) const;

  // -- the writer
  // There are entries, or a truncation, that no batch has yet.
  bool has_unwritten() const { return unwritten_from_ <= last_ || replaces_from_.has_value(); }
  // Moves them to `batch`.
  void take_unwritten(AppendBatch& batch);
  Index durable_index() const { return durable_; }
  void durable_to(Index index);
  size_t unstable_bytes() const { return unstable_bytes_; }

  // -- commit and apply
  Index commit_index() const { return commit_; }
  void commit_to(Index index);
  Index handed_out() const { return handed_out_; }
  void hand_out_to(Index index);

 private:
  friend class InvariantChecker;
  friend class Fingerprint;
  size_t entry_count() const { return entries_.size() - head_; }
  void evict();
  void drop_front();

  Index first_;
  Index last_;
  Term before_first_term_;
  std::deque<TermRun> runs_;

  // entries_[head_] has index memory_from_. The slots before head_ are empty and are erased when
  // they are half of the vector: no allocation per entry.
  std::vector<Entry> entries_;
  size_t head_ = 0;
  Index memory_from_;
  size_t memory_bytes_ = 0;
  const size_t cache_bytes_;
  int64_t stamp_before_;  // of the entry before memory_from_

  Index unwritten_from_;
  std::optional<Index> replaces_from_;
  Index durable_;
  size_t unstable_bytes_ = 0;
  Index commit_;
  Index handed_out_;
};

}  // namespace connectd::raft
