// The queue between two threads: bounded, and drained whole. That is where batching comes from,
// with no timer and no delay: while the consumer works on one batch, the next one gathers.
#pragma once

#include <chrono>
#include <cstddef>
#include <utility>
#include <vector>

#include "base/mutex.h"

namespace connectd {

// Any number of producers, one consumer.
template <class T>
class BoundedQueue {
 public:
  explicit BoundedQueue(size_t limit) : limit_(limit) {}

  // False, and the item is untouched, when the queue is full or closed. Never waits.
  [[nodiscard]] bool push(T&& item) {
    bool was_empty = false;
    if (!put(std::move(item), was_empty)) return false;
    if (was_empty) ready_.notify_one();
    return true;
  }

  // As push(), but the consumer sleeps on until wake_consumer(): for a producer that may yet do the
  // work itself.
  [[nodiscard]] bool push_quietly(T&& item) {
    bool was_empty = false;
    return put(std::move(item), was_empty);
  }
  void wake_consumer() { ready_.notify_one(); }

  // Moves everything into `out` (whose old content is dropped). False when there was nothing.
  bool drain(std::vector<T>& out) {
    out.clear();
    MutexLock lock(mutex_);
    out.swap(items_);
    return !out.empty();
  }

  // As drain(), but waits for an item, for at most `timeout`; then returns true with nothing in
  // `out`. False when the queue is closed and empty.
  template <class Timeout>
  bool wait_and_drain_for(std::vector<T>& out, Timeout timeout) {
    out.clear();
    const auto deadline = std::chrono::steady_clock::now() + timeout;
    MutexLock lock(mutex_);
    while (!closed_ && items_.empty() && ready_.wait_until(lock, deadline)) {
    }
    out.swap(items_);
    return !out.empty() || !closed_;
  }

  // Waits until there is something to drain. False when the queue is closed and empty.
  bool wait() {
    MutexLock lock(mutex_);
    while (!closed_ && items_.empty()) ready_.wait(lock);
    return !items_.empty();
  }

  // push() fails from now on; what is queued can still be drained.
  void close() {
    {
      MutexLock lock(mutex_);
      closed_ = true;
    }
    ready_.notify_all();
  }

  bool empty() const {
    MutexLock lock(mutex_);
    return items_.empty();
  }

 private:
  bool put(T&& item, bool& was_empty) {
    MutexLock lock(mutex_);
    if (closed_ || items_.size() >= limit_) return false;
    was_empty = items_.empty();
    items_.push_back(std::move(item));
    return true;
  }

  const size_t limit_;
  mutable Mutex mutex_;
  Condition ready_;
  std::vector<T> items_ GUARDED_BY(mutex_);
  bool closed_ GUARDED_BY(mutex_) = false;
};

}  // namespace connectd
