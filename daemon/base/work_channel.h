// The two ends of a worker thread: a bounded queue of tasks in, and the results that wait until the
// other side collects them. A worker class owns one, keeps its own `submit`, `run` and
// `take_results` as its public interface, and has no queue, mutex or loop of its own.
//
// Thread roles: the owner submits and collects, the worker runs. close() is for any thread. In the
// simulator and in tests one thread plays both roles with poll().
#pragma once

#include <cstddef>
#include <utility>
#include <vector>

#include "base/mutex.h"
#include "base/queue.h"
#include "base/supervisor.h"
#include "base/thread_role.h"

namespace connectd {

// `Results` is a container, or a struct with clear() that merges what is put into it.
template <class Task, class Results>
class WorkChannel final {
 public:
  // `supervisor` is woken on the worker's thread when there may be results.
  WorkChannel(size_t limit, Supervisor& supervisor) : supervisor_(supervisor), queue_(limit) {}

  // ---- owner
  // False, and the task is untouched, when `limit` tasks wait or the channel is closed.
  [[nodiscard]] bool submit(Task&& task) { return queue_.push(std::move(task)); }
  // As submit(), but the worker sleeps on until wake_worker().
  [[nodiscard]] bool submit_quietly(Task&& task) { return queue_.push_quietly(std::move(task)); }
  void wake_worker() { queue_.wake_consumer(); }

  // The results since the last call, into `out`, whose old content is dropped. False: none.
  bool take_results(Results& out) {
    out.clear();
    MutexLock lock(mutex_);
    if (!has_results_) return false;
    std::swap(out, results_);
    has_results_ = false;
    return true;
  }
  bool has_results() const {
    MutexLock lock(mutex_);
    return has_results_;
  }
  bool has_work() const { return !queue_.empty(); }

  // ---- worker
  // Until close(): does each task with `work(Task&)`; what was queued before close() is still done.
  template <class Work>
  void run(Work&& work) {
    worker_.hand_over();  // this thread is the worker now, not the one that polled
    while (queue_.wait()) poll(work);
    worker_.hand_over();
  }
  // Does all that is queued, and wakes the owner after each task. False when there was nothing.
  template <class Work>
  bool poll(Work&& work) {
    worker_.check();
    if (!queue_.drain(tasks_)) return false;
    for (Task& task : tasks_) {
      work(task);
      supervisor_.wake();
    }
    tasks_.clear();
    return true;
  }

  // As run(), for a worker that takes all that is queued at a time: `turn()` calls drain(), returns
  // whether there was anything, and the owner is woken once for it.
  template <class Turn>
  void run_batches(Turn&& turn) {
    while (queue_.wait()) {
      if (turn()) supervisor_.wake();
    }
  }
  // Moves everything that is queued into `out`. False when there was nothing.
  bool drain(std::vector<Task>& out) { return queue_.drain(out); }

  // Adds one result to a container.
  template <class Item>
  void put(Item&& item) {
    merge([&](Results& results, bool) { results.push_back(std::forward<Item>(item)); });
  }
  // `add(Results&, bool collected)`, under the lock; `collected`: the owner has taken all that was
  // there before, so that what the results still hold is of no interest.
  template <class Add>
  void merge(Add&& add) {
    MutexLock lock(mutex_);
    add(results_, !has_results_);
    has_results_ = true;
  }

  // ---- any thread
  // submit() fails from now on, and run() returns when what is queued is done.
  void close() { queue_.close(); }

 private:
  Supervisor& supervisor_;
  BoundedQueue<Task> queue_;
  ThreadRole worker_{"worker"};
  std::vector<Task> tasks_ GUARDED_BY(worker_);

  mutable Mutex mutex_;
  Results results_ GUARDED_BY(mutex_){};
  bool has_results_ GUARDED_BY(mutex_) = false;
};

}  // namespace connectd
