// Lets a log line through unless one of the same kind went through a short time ago. One thread.
#pragma once

#include <chrono>
#include <cstddef>
#include <map>
#include <string>

#include "base/clock.h"

namespace connectd::transport {

class LogGate final {
 public:
  bool opens(const std::string& kind, Time now) {
    auto [last, is_new] = last_.try_emplace(kind, now);
    if (!is_new && now - last->second < kRepeatAfter) return false;
    last->second = now;
    if (last_.size() > kKindsMax) last_.clear();
    return true;
  }
  void reset() { last_.clear(); }

 private:
  static constexpr Duration kRepeatAfter = std::chrono::seconds(30);
  static constexpr size_t kKindsMax = 64;
  std::map<std::string, Time> last_;
};

}  // namespace connectd::transport
