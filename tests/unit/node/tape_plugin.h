// A plugin for these tests: a tape. A write is appended to it, "<text>;", and answers with its
// place; a read answers with the whole tape. Some texts misbehave: "fault" makes apply fail, "slow"
// makes it compute for a while, "sleep" makes it sleep, and "gate" waits until the gate is open;
// the reads "r-bad" and "r-corrupt" fail, and "r-sleep" sleeps.
#pragma once

#include <gtest/gtest.h>
#include <time.h>

#include <atomic>
#include <chrono>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <thread>

#include "plugin/plugin.h"

namespace connectd::node {

namespace tape {

struct Tape {
  const connectd_host* host;
  std::string text;
  uint64_t writes = 0;
};

inline std::atomic<bool> gate_is_open{true};
inline std::atomic<int> reads_executed{0};
inline std::function<void()> on_snapshot;

inline std::string_view view(connectd_bytes bytes) {
  return {reinterpret_cast<const char*>(bytes.ptr), bytes.len};
}
inline int32_t create(const connectd_host* host, void** self) {
  *self = new Tape{host, {}};
  return CONNECTD_OK;
}
inline void destroy(void* self) { delete static_cast<Tape*>(self); }
inline int32_t classify(const void*, connectd_bytes request, const connectd_sink*) {
  return view(request).starts_with("r") ? CONNECTD_READ : CONNECTD_WRITE;
}
inline int32_t read(const void* self, const connectd_read_context*, connectd_bytes request,
                    const connectd_sink* reply) {
  const auto* tape = static_cast<const Tape*>(self);
  ++reads_executed;
  if (view(request) == "r-sleep") std::this_thread::sleep_for(std::chrono::milliseconds(10));
  if (view(request) == "r-bad")
    return tape->host->fail(tape->host, CONNECTD_E_FAULT, "bad read", 8);
  if (view(request) == "r-corrupt") return CONNECTD_E_CORRUPT;
  return reply->write(reply->ctx, tape->text.data(), tape->text.size());
}
inline int32_t apply(void* self, const connectd_apply_context*, connectd_bytes command,
                     const connectd_sink* reply) {
  auto* tape = static_cast<Tape*>(self);
  if (view(command) == "fault") {
    return tape->host->fail(tape->host, CONNECTD_E_FAULT, "on purpose", 10);
  }
  if (view(command) == "slow") {
    timespec begin{};
    timespec now{};
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &begin);
    do {
      clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    } while ((now.tv_sec - begin.tv_sec) * 1'000'000'000 + (now.tv_nsec - begin.tv_nsec) <
             2'000'000);
  }
  if (view(command) == "sleep") std::this_thread::sleep_for(std::chrono::milliseconds(120));
  if (view(command) == "gate") gate_is_open.wait(false);
  tape->text += std::string(view(command)) + ";";
  std::string place = std::to_string(++tape->writes);
  reply->write(reply->ctx, place.data(), place.size());
  return view(command) == "status" ? 7 : 0;
}
inline int32_t snapshot(void* self, const connectd_snapshot*, const connectd_sink* out) {
  auto* tape = static_cast<Tape*>(self);
  if (on_snapshot) on_snapshot();
  if (int32_t result = out->write(out->ctx, &tape->writes, sizeof tape->writes); result != 0) {
    return result;
  }
  return out->write(out->ctx, tape->text.data(), tape->text.size());
}
inline int32_t restore(void* self, const connectd_snapshot* context, const connectd_source* in) {
  auto* tape = static_cast<Tape*>(self);
  if (context->length < sizeof tape->writes) return CONNECTD_E_CORRUPT;
  if (in->read(in->ctx, &tape->writes, sizeof tape->writes) != sizeof tape->writes) {
    return CONNECTD_E_CORRUPT;
  }
  tape->text.resize(context->length - sizeof tape->writes);
  int64_t got = in->read(in->ctx, tape->text.data(), tape->text.size());
  return got == static_cast<int64_t>(tape->text.size()) ? CONNECTD_OK : CONNECTD_E_CORRUPT;
}

inline const connectd_plugin kTable = {
    CONNECTD_PLUGIN_HEAD("tape", "1.0.0", 1, 1, 0, CONNECTD_FRAMING_LINE),
    create,
    destroy,
    classify,
    read,
    apply,
    snapshot,
    restore,
    nullptr};

// The same, with the permission to compare states by their snapshots.
inline const connectd_plugin kCanonicalTable = {
    CONNECTD_PLUGIN_HEAD("tape", "1.0.0", 1, 1, CONNECTD_F_CANONICAL_SNAPSHOT,
                         CONNECTD_FRAMING_LINE),
    create,
    destroy,
    classify,
    read,
    apply,
    snapshot,
    restore,
    nullptr};

}  // namespace tape

inline std::shared_ptr<const plugin::Plugin> tape_plugin(bool canonical = false) {
  auto plugin = plugin::Plugin::wrap(canonical ? &tape::kCanonicalTable : &tape::kTable);
  if (!plugin) {
    ADD_FAILURE() << plugin.error().text;
    std::abort();
  }
  return *plugin;
}

}  // namespace connectd::node
