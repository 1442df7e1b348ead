// The role of a thread as a capability for clang: "loop", "apply", "writer". A member that is
// GUARDED_BY a role belongs to that thread alone; a function that REQUIRES it is called there only.
// Where a thread enters, through a callback or its own loop, check() tells the analysis so.
//
// In debug builds, check() also binds the role to the first thread that calls it: another thread
// aborts the process. In other builds it costs nothing.
#pragma once

#include "base/build_options.h"
#include "base/thread_annotations.h"

#ifdef CONNECTD_CHECK_THREADS
#include <atomic>
#include <thread>

#include "base/log.h"
#endif

namespace connectd {

class CAPABILITY("role") ThreadRole final {
 public:
  explicit ThreadRole([[maybe_unused]] const char* name)
#ifdef CONNECTD_CHECK_THREADS
      : name_(name)
#endif
  {
  }
  ThreadRole(const ThreadRole&) = delete;
  ThreadRole& operator=(const ThreadRole&) = delete;

  void check() const ASSERT_CAPABILITY(this) {
#ifdef CONNECTD_CHECK_THREADS
    const std::thread::id caller = std::this_thread::get_id();
    std::thread::id owner;
    if (!owner_.compare_exchange_strong(owner, caller)) {
      CHECK(owner == caller) << "not on the thread of the role " << name_;
    }
#endif
  }
  // The role goes to the thread that calls check() next: a thread was joined, another takes over.
  void hand_over() {
#ifdef CONNECTD_CHECK_THREADS
    owner_.store(std::thread::id());
#endif
  }

 private:
#ifdef CONNECTD_CHECK_THREADS
  const char* const name_;
  mutable std::atomic<std::thread::id> owner_{};
#endif
};

}  // namespace connectd
