// Text in a fixed buffer, by means that are safe in a signal handler. What does not fit is cut.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

#include "base/digits.h"
#include "base/log.h"
#include "plugin/call.h"

namespace connectd::plugin {

class SignalLine final {
 public:
  static constexpr size_t kMaxLine = 512;

  SignalLine& text(std::string_view text) {
    for (char c : text) {
      if (used_ < kMaxLine - 1) buffer_[used_++] = c;
    }
    return *this;
  }
  SignalLine& number(uint64_t value) { return text(Digits(value).view()); }
  // "plugin counter 1.0.0"
  SignalLine& plugin_of(const CallScope& call) {
    text("plugin ").text(call.name());
    if (call.version()[0] != '\0') text(" ").text(call.version());
    return *this;
  }
  // " in apply at index 812"
  SignalLine& place_of(const CallScope& call) {
    text(" in ").text(call.function());
    if (call.index() != 0) text(" at index ").number(call.index());
    return *this;
  }
  std::string_view view() const { return {buffer_, used_}; }
  void write_to_stderr() {
    buffer_[used_++] = '\n';
    write_last_line({buffer_, used_});
    used_ = 0;
  }

 private:
  char buffer_[kMaxLine];
  size_t used_ = 0;
};

// For a call that will end in the same way at each start: how to get past its entry.
inline void write_skip_hint(const CallScope& call) {
  const std::string_view function = call.function();
  if (function != "apply" && function != "on_tick") return;
  SignalLine()
      .text(
          "if this happens on every member, and none has applied it, the entry can be skipped, "
          "on every member: connectctl recover --data-dir DIR --skip-entry ")
      .number(call.index())
      .write_to_stderr();
}

}  // namespace connectd::plugin
