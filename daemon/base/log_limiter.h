// Limits the lines of repeated events: each event, or each event of one member, has a number of
// lines in a window of time; those beyond it are counted, and the count is reported when the window
// has ended. The key is never a text, and never a number that a stranger chooses. Not thread-safe.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <map>
#include <utility>

#include "base/clock.h"

namespace connectd {

struct LogLimit {
  uint32_t lines = 0;  // 0: all of them
  Duration window{};
  bool is_of_strangers = false;  // anybody who reaches a port can cause it
};

class LogLimiter final {
 public:
  // Of all events together; the members beyond it share a window.
  static constexpr size_t kKeysMax = 1024;

  // Whether this line is written.
  bool passes(uint32_t event, uint64_t member, const LogLimit& limit, Time now) {
    if (limit.lines == 0) return true;
    Window& window = window_of({event, member});
    if (window.lines == 0 || now - window.begin >= limit.window) {
      // What it suppressed was reported before: report() comes first.
      window = Window{now, now + limit.window, 0, 0};
    }
    if (window.lines < limit.lines) {
      ++window.lines;
      return true;
    }
    if (window.suppressed++ == 0) next_report_ = std::min(next_report_, window.end);
    return false;
  }

  // Calls suppressed(event, member, lines, window) for each window that has ended and suppressed
  // some. To be called before passes() and from time to time.
  template <class Suppressed>
  void report(Time now, Suppressed suppressed) {
    if (now < next_report_) return;
    next_report_ = Time::max();
    for (auto& [key, window] : windows_) {
      if (window.suppressed == 0) continue;
      if (now >= window.end) {
        suppressed(key.first, key.second, window.suppressed, window.end - window.begin);
        window = Window{};
      } else {
        next_report_ = std::min(next_report_, window.end);
      }
    }
  }

 private:
  struct Window {
    Time begin{};
    Time end{};
    uint32_t lines = 0;  // 0: none was written yet
    uint64_t suppressed = 0;
  };
  using Key = std::pair<uint32_t, uint64_t>;

  Window& window_of(Key key) {
    if (auto found = windows_.find(key); found != windows_.end()) return found->second;
    if (windows_.size() >= kKeysMax) key.second = UINT64_MAX;
    return windows_[key];
  }

  std::map<Key, Window> windows_;
  Time next_report_ = Time::max();
};

}  // namespace connectd
