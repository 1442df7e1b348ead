// Which plugin call a thread is in: the crash handler names it, fail() texts find their call, and
// CallWatch (plugin/call_watch.h) sees from another thread how long it takes.
//
// A CallScope lies on the stack around every call into a plugin; making one is some twenty stores,
// no allocation. A signal handler on the same thread may read it at any time.
#pragma once

#include <algorithm>
#include <array>
#include <atomic>
#include <cstdint>
#include <cstring>
#include <string>

#include "base/bytes.h"

namespace connectd::plugin {

// What other threads see of the call that a thread is in. Written by that thread alone; a reader
// compares `sequence` before and after.
struct CallSlot {
  static constexpr size_t kRequestBytes = 64;

  std::atomic<bool> taken{false};  // by a thread
  std::atomic<uint64_t> sequence{0};
  std::atomic<const char*> name{nullptr};  // null: in no call
  std::atomic<const char*> version{nullptr};
  std::atomic<const char*> function{nullptr};
  std::atomic<uint64_t> index{0};
  std::atomic<uint64_t> request_size{0};
  std::array<std::atomic<uint64_t>, kRequestBytes / sizeof(uint64_t)> request{};
};

// More threads than these call a plugin in no process; what they call is not watched.
inline constinit std::array<CallSlot, 16> g_call_slots{};

class CallScope {
 public:
  // The texts must outlive the scope. `index` is the log index the call is about; 0 for none.
  CallScope(const char* name, const char* version, const char* function, uint64_t index = 0,
            ByteView request = {})
      : name_(name),
        version_(version),
        function_(function),
        index_(index),
        request_(request),
        outer_(current_) {
    std::atomic_signal_fence(std::memory_order_seq_cst);
    current_ = this;
    show();
  }
  ~CallScope() {
    current_ = outer_;
    std::atomic_signal_fence(std::memory_order_seq_cst);
    if (outer_ != nullptr) {
      outer_->show();
    } else {
      hide();
    }
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
  // The calling thread's slot, or nullptr when there are no more. Given back when the thread ends.
  static CallSlot* slot() {
    struct Lease {
      Lease() {
        for (CallSlot& candidate : g_call_slots) {
          if (candidate.taken.exchange(true)) continue;
          slot = &candidate;
          return;
        }
      }
      ~Lease() {
        if (slot != nullptr) slot->taken = false;
      }
      CallSlot* slot = nullptr;
    };
    static thread_local Lease lease;
    return lease.slot;
  }
  void show() const {
    CallSlot* to = slot();
    if (to == nullptr) return;
    constexpr auto kRelaxed = std::memory_order_relaxed;
    to->sequence.fetch_add(1, std::memory_order_acq_rel);  // odd: being written
    to->name.store(name_, kRelaxed);
    to->version.store(version_, kRelaxed);
    to->function.store(function_, kRelaxed);
    to->index.store(index_, kRelaxed);
    to->request_size.store(request_.size(), kRelaxed);
    const size_t shown = std::min(request_.size(), CallSlot::kRequestBytes);
    for (size_t at = 0; at < shown; at += sizeof(uint64_t)) {
      uint64_t word = 0;
      std::memcpy(&word, request_.data() + at, std::min(shown - at, sizeof word));
      to->request[at / sizeof word].store(word, kRelaxed);
    }
    to->sequence.fetch_add(1, std::memory_order_release);
  }
  static void hide() {
    CallSlot* to = slot();
    if (to == nullptr) return;
    to->sequence.fetch_add(1, std::memory_order_acq_rel);
    to->name.store(nullptr, std::memory_order_relaxed);
    to->sequence.fetch_add(1, std::memory_order_release);
  }

  static inline constinit thread_local CallScope* current_ = nullptr;

  const char* name_;
  const char* version_;
  const char* function_;
  uint64_t index_;
  ByteView request_;
  CallScope* outer_;
  std::string fail_text_;
};

}  // namespace connectd::plugin
