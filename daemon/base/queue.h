// The queue between two threads: bounded, and drained whole. That is where batching comes from,
// with no timer and no delay: while the consumer works on one batch, the next one gathers.
#pragma once

#include <condition_variable>
#include <cstddef>
#include <mutex>
#include <utility>
#include <vector>

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
    std::lock_guard lock(mutex_);
    out.swap(items_);
    return !out.empty();
  }

  // As drain(), but waits for an item, for at most `timeout`; then returns true with nothing in
  // `out`. False when the queue is closed and empty.
  template <class Timeout>
  bool wait_and_drain_for(std::vector<T>& out, Timeout timeout) {
    out.clear();
    std::unique_lock lock(mutex_);
    ready_.wait_for(lock, timeout, [this] { return closed_ || !items_.empty(); });
    out.swap(items_);
    return !out.empty() || !closed_;
  }

  // Waits until there is something to drain. False when the queue is closed and empty.
  bool wait() {
    std::unique_lock lock(mutex_);
    ready_.wait(lock, [this] { return closed_ || !items_.empty(); });
    return !items_.empty();
  }

  // push() fails from now on; what is queued can still be drained.
  void close() {
    {
      std::lock_guard lock(mutex_);
      closed_ = true;
    }
    ready_.notify_all();
  }

  bool empty() const {
    std::lock_guard lock(mutex_);
    return items_.empty();
  }

 private:
  bool put(T&& item, bool& was_empty) {
    std::lock_guard lock(mutex_);
    if (closed_ || items_.size() >= limit_) return false;
    was_empty = items_.empty();
    items_.push_back(std::move(item));
    return true;
  }

  const size_t limit_;
  mutable std::mutex mutex_;
  std::condition_variable ready_;
  std::vector<T> items_;
  bool closed_ = false;
};

}  // namespace connectd
