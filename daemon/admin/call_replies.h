// The bytes of replies to calls that are made and not sent yet, over all connections
// (docs/adr/0038-bytes-of-clients.md). The loop makes replies while there is room; the server's
// thread gives it back. Any thread.
#pragma once

#include <atomic>
#include <cstddef>
#include <functional>
#include <memory>

#include "admin/limits.h"
#include "base/mutex.h"

namespace connectd::admin {

class CallReplies final : public std::enable_shared_from_this<CallReplies> {
 public:
  // What one reply holds, until the last copy goes.
  using Held = std::shared_ptr<const void>;

  // May a call begin, and the read of one be executed?
  bool has_room() const { return bytes_ < kCallRepliesPause; }
  // For a reply that is made. Null: it must be dropped.
  Held hold(size_t bytes);
  // `on_room` is called when has_room() becomes true. Null: nobody is called any more.
  void follow(std::function<void()> on_room);

 private:
  void give_back(size_t bytes);

  std::atomic<size_t> bytes_{0};
  Mutex mutex_;
  std::function<void()> on_room_ GUARDED_BY(mutex_);
};

}  // namespace connectd::admin
