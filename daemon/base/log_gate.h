// Limits log lines about other nodes, whose texts they choose in part. A text that was let through
// a short time ago is not repeated, and each kind of line has a budget, whatever its texts are: who
// sends a new text each time costs no more lines than that, and takes no other kind's. One thread.
#pragma once

#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <string_view>

#include "base/clock.h"

namespace connectd {

class LogGate final {
 public:
  // Of each kind, in kRepeatAfter.
  static constexpr size_t kLinesMax = 8;
  static constexpr Duration kRepeatAfter = std::chrono::seconds(30);

  // `Kind`: an enum, or a small number that no other node chooses.
  template <class Kind>
  bool opens(Kind kind, std::string_view text, Time now) {
    return opens_for(static_cast<uint32_t>(kind), std::hash<std::string_view>{}(text), now);
  }
  // The next line is news, whatever it says. The budget stays.
  void forget_texts() {
    for (auto& [kind, lines] : kinds_) {
      for (Line& line : lines) line.has_text = false;
    }
  }

 private:
  struct Line {
    size_t text = 0;  // hash
    Time at{};
    bool has_text = false;
    bool is_used = false;
  };
  using Lines = std::array<Line, kLinesMax>;

  bool opens_for(uint32_t kind, size_t text, Time now) {
    Line* free = nullptr;
    for (Line& line : kinds_[kind]) {
      const bool is_over = !line.is_used || now - line.at >= kRepeatAfter;
      if (!is_over && line.has_text && line.text == text) return false;
      if (is_over) free = &line;
    }
    if (free == nullptr) return false;
    *free = {text, now, true, true};
    return true;
  }

  std::map<uint32_t, Lines> kinds_;
};

}  // namespace connectd
