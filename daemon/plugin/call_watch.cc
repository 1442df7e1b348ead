#include "plugin/call_watch.h"

#include <fmt/format.h>

namespace connectd::plugin {

std::string escape_request(std::string_view bytes, uint64_t size) {
  std::string text;
  for (char c : bytes) {
    if (c == '\\' || c == '"') {
      text += '\\';
      text += c;
    } else if (c >= ' ' && c < 0x7f) {
      text += c;
    } else {
      text += fmt::format("\\x{:02x}", static_cast<uint8_t>(c));
    }
  }
  if (size > bytes.size()) text += "...";
  return text;
}

std::vector<RunningCall> CallWatch::poll(Time now) {
  std::vector<RunningCall> running;
  for (size_t i = 0; i < g_call_slots.size(); ++i) {
    const CallSlot& slot = g_call_slots[i];
    Seen& seen = seen_[i];
    const uint64_t before = slot.sequence.load(std::memory_order_acquire);
    if (before != seen.sequence || before % 2 != 0) {
      seen = {before, now};
      continue;
    }
    const char* name = slot.name.load(std::memory_order_relaxed);
    if (name == nullptr) continue;
    const char* version = slot.version.load(std::memory_order_relaxed);
    const char* function = slot.function.load(std::memory_order_relaxed);
    RunningCall call;
    call.index = slot.index.load(std::memory_order_relaxed);
    const uint64_t size = slot.request_size.load(std::memory_order_relaxed);
    char bytes[CallSlot::kRequestBytes];
    for (size_t word = 0; word < slot.request.size(); ++word) {
      const uint64_t value = slot.request[word].load(std::memory_order_relaxed);
      std::memcpy(bytes + word * sizeof value, &value, sizeof value);
    }
    std::atomic_thread_fence(std::memory_order_acquire);
    if (slot.sequence.load(std::memory_order_relaxed) != before) continue;
    // Names and versions are the plugin's own, which stays loaded; but for "load", whose name lives
    // as long as that call: it is read while the call is in progress, or nearly so.
    call.plugin = version[0] == '\0' ? name : fmt::format("{} {}", name, version);
    call.function = function;
    call.request = escape_request({bytes, std::min<size_t>(size, sizeof bytes)}, size);
    call.duration = now - seen.since;
    call.number = before;
    call.thread = i;
    running.push_back(std::move(call));
  }
  return running;
}

}  // namespace connectd::plugin
