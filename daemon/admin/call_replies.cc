#include "admin/call_replies.h"

#include <utility>

namespace connectd::admin {

CallReplies::Held CallReplies::hold(size_t bytes) {
  size_t before = bytes_;
  do {
    // One of any size always has room, and so has a small one, such as an error.
    const bool is_free = before == 0 || bytes <= kSmallCallReply;
    if (!is_free && before + bytes > kCallRepliesMax) return nullptr;
  } while (!bytes_.compare_exchange_weak(before, before + bytes));
  return {this, [self = shared_from_this(), bytes](const void*) { self->give_back(bytes); }};
}

void CallReplies::follow(std::function<void()> on_room) {
  MutexLock lock(mutex_);
  on_room_ = std::move(on_room);
}

void CallReplies::give_back(size_t bytes) {
  const size_t before = bytes_.fetch_sub(bytes);
  if (before < kCallRepliesPause || before - bytes >= kCallRepliesPause) return;
  MutexLock lock(mutex_);
  if (on_room_) on_room_();
}

}  // namespace connectd::admin
