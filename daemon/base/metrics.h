// Counters and histograms that one thread writes and others read: no lock, no locked instruction,
// so that they may stand on the path of a request. Values only; nothing knows a name here.
//
// Writes are by one thread at a time (two that take turns by a lock count as one), but for those of
// a SharedCounter, which cost a locked instruction. Reads are by any thread: each value is whole,
// and a histogram's may be some observations apart from each other.
#pragma once

#include <algorithm>
#include <array>
#include <atomic>
#include <bit>
#include <cstddef>
#include <cstdint>

#include "base/clock.h"

namespace connectd {

class Counter final {
 public:
  void add(uint64_t more = 1) {
    value_.store(value_.load(std::memory_order_relaxed) + more, std::memory_order_relaxed);
  }
  uint64_t value() const { return value_.load(std::memory_order_relaxed); }

 private:
  std::atomic<uint64_t> value_{0};
};

// One that several threads write at the same time.
class SharedCounter final {
 public:
  void add(uint64_t more = 1) { value_.fetch_add(more, std::memory_order_relaxed); }
  uint64_t value() const { return value_.load(std::memory_order_relaxed); }

 private:
  std::atomic<uint64_t> value_{0};
};

// Of whole numbers, in buckets whose upper bounds are `kFirst` times powers of two; the last one
// has no bound. The place of a number costs no search.
template <uint64_t kFirst, size_t kBounds, class Count = Counter>
class Histogram final {
 public:
  static constexpr size_t kBuckets = kBounds + 1;
  static constexpr uint64_t bound(size_t bucket) { return kFirst << bucket; }

  void observe(uint64_t number) {
    const uint64_t quotient = number == 0 ? 0 : (number - 1) / kFirst;
    counts_[std::min<size_t>(std::bit_width(quotient), kBounds)].add();
    sum_.add(number);
  }
  uint64_t count(size_t bucket) const { return counts_[bucket].value(); }
  uint64_t sum() const { return sum_.value(); }

 private:
  std::array<Count, kBuckets> counts_;
  Count sum_;
};

// Of nanoseconds: 100 us to 13 s.
template <class Count>
using TimeBuckets = Histogram<100'000, 18, Count>;

class TimeHistogram final {
 public:
  using Buckets = TimeBuckets<Counter>;

  void observe(Duration time) {
    buckets_.observe(static_cast<uint64_t>(std::max<int64_t>(time.count(), 0)));
  }
  const Buckets& buckets() const { return buckets_; }

 private:
  Buckets buckets_;
};

// Of sizes: 1 to 65,536.
using SizeHistogram = Histogram<1, 17>;

}  // namespace connectd
