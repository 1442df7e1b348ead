// Which plugin call a thread is in: the crash handler names it, and fail() texts find their call.
//
// A CallScope lies on the stack around every call into a plugin; making one is a few stores, no
// allocation. A signal handler on the same thread may read it at any time.
#pragma once

#include <atomic>
#include <cstdint>
#include <string>

namespace connectd::plugin {

class CallScope {
 public:
  // The texts must outlive the scope. `index` is the log index the call is about; 0 for none.
  CallScope(const char* name, const char* version, const char* function, uint64_t index = 0)
      : name_(name), version_(version), function_(function), index_(index), outer_(current_) {
    std::atomic_signal_fence(std::memory_order_seq_cst);
    current_ = this;
  }
  ~CallScope() {
    current_ = outer_;
    std::atomic_signal_fence(std::memory_order_seq_cst);
  }
  CallScope(const CallScope&) = delete;
  CallScope& operator=(const CallScope&) = delete;

  // The innermost call this thread is in, or nullptr. Safe in a signal handler.
  static CallScope* current() { return current_; }

  const char* name() const { return name_; }
  const char* version() const { return version_; }
  const char* function() const { return function_; }
  uint64_t index() const { return index_; }
  // What the plugin said through host->fail() during this call; the last text counts.
  std::string& fail_text() { return fail_text_; }

 private:
  static inline constinit thread_local CallScope* current_ = nullptr;

  const char* name_;
  const char* version_;
  const char* function_;
  uint64_t index_;
  CallScope* outer_;
  std::string fail_text_;
};

}  // namespace connectd::plugin
