// Marks what runs on the loop, where nothing may wait for a disk or free a whole state. What may
// take long checks that it is not there: the simulator's disk and the end of a plugin's state in
// every build, the real disk in debug builds.
#pragma once

#include "base/build_options.h"
#include "base/log.h"

namespace connectd {

class LoopScope final {
 public:
  LoopScope() { ++depth_; }
  ~LoopScope() { --depth_; }
  LoopScope(const LoopScope&) = delete;
  LoopScope& operator=(const LoopScope&) = delete;

  static bool is_here() { return depth_ > 0; }

 private:
  static inline constinit thread_local int depth_ = 0;
};

inline void check_off_loop(const char* what) {
  CHECK(!LoopScope::is_here()) << what << " on the loop, which must not wait";
}

}  // namespace connectd
