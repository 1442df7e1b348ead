// How long the plugin calls of this process have taken so far: for a thread that calls no plugin
// and looks now and then. It measures from the moment it first saw the call, so that a call does
// not read a clock.
//
// Owned by the thread that polls.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "base/clock.h"
#include "plugin/call.h"

namespace connectd::plugin {

struct RunningCall {
  std::string plugin;    // "counter 1.0.0"
  std::string function;  // "apply"
  uint64_t index = 0;
  std::string request;  // its first 64 bytes, escaped; empty: the function has none
  Duration duration{};
  uint64_t number = 0;  // tells this call from the thread's next one
  size_t thread = 0;
};

class CallWatch final {
 public:
  // The calls in progress that were in progress at the last poll, too.
  std::vector<RunningCall> poll(Time now);

 private:
  struct Seen {
    uint64_t sequence = 0;
    Time since{};
  };
  std::array<Seen, g_call_slots.size()> seen_{};
};

// Printable characters as they are, others as "\x0a"; "..." when `size`, the whole, is more.
std::string escape_request(std::string_view bytes, uint64_t size);

}  // namespace connectd::plugin
