// Maps an index to its place in the log: a sparse map with one place per kAnchorBytes of records,
// so its size depends on the log's size on disk and not on the number of entries.
//
// An anchor {index, place} covers the indexes up to the next anchor: from its place on, the entries
// with these indexes follow each other in the same segment, without older versions of them in
// between. A truncation drops anchors from the end, and the next entry gets its own anchor.
//
// A plain value; guarded by its owner.
#pragma once

#include <algorithm>
#include <cstdint>
#include <deque>

#include "base/types.h"

namespace connectd::storage {

inline constexpr uint64_t kAnchorBytes = 64 << 10;

struct Anchor {
  Index index;
  uint64_t segment_id = 0;
  uint64_t offset = 0;  // of an entry record
};

class LogIndex {
 public:
  // Adds the entry after the last one.
  void add(Index index, uint64_t segment_id, uint64_t offset) {
    if (!truncated_ && !anchors_.empty()) {
      const Anchor& last = anchors_.back();
      if (last.segment_id == segment_id && offset - last.offset < kAnchorBytes) return;
    }
    truncated_ = false;
    anchors_.push_back({index, segment_id, offset});
  }
  // Forgets the entries from `index` on.
  void truncate(Index index) {
    truncated_ = true;
    while (!anchors_.empty() && anchors_.back().index >= index) anchors_.pop_back();
  }
  // Forgets anchors of segments below `segment_id`.
  void drop_segments_below(uint64_t segment_id) {
    while (!anchors_.empty() && anchors_.front().segment_id < segment_id) anchors_.pop_front();
  }
  void clear() { anchors_.clear(); }

  // Position of the last anchor at or before `index`; size() when there is none.
  size_t find(Index index) const {
    auto after = std::upper_bound(anchors_.begin(), anchors_.end(), index,
                                  [](Index i, const Anchor& a) { return i < a.index; });
    if (after == anchors_.begin()) return anchors_.size();
    return static_cast<size_t>(after - anchors_.begin()) - 1;
  }
  size_t size() const { return anchors_.size(); }
  const Anchor& at(size_t position) const { return anchors_[position]; }

 private:
  std::deque<Anchor> anchors_;
  bool truncated_ = false;  // the next entry does not follow the last one on the disk
};

}  // namespace connectd::storage
