// The only user of glog: leveled lines for people, and CHECK for invariants.
//
//   LOG_INFO("raft", "became leader term={} last_index={}", term, index);
//   CHECK(a <= b) << "why this cannot be";
//
// A line goes to stderr as one write: a priority prefix "<6>" that journald understands (left out
// on a terminal), the level, the component, the text. glog's own prefix and files are off. Any
// thread. Nothing logs per entry or per request.
#pragma once

#include <fmt/format.h>
#include <glog/logging.h>

#include <string_view>

namespace connectd {

enum class LogLevel : int { kDebug = 0, kInfo = 1, kWarning = 2, kError = 3 };

// Once, at the start of main(), before any other thread. `program` is argv[0] and must stay alive.
void init_logging(const char* program);
// Lines below `level` are dropped. Any thread.
void set_log_level(LogLevel level);
bool log_enabled(LogLevel level);
void log_line(LogLevel level, std::string_view component, std::string_view text);

}  // namespace connectd

#define CONNECTD_LOG_(level, component, ...)                              \
  do {                                                                    \
    if (::connectd::log_enabled(level))                                   \
      ::connectd::log_line(level, component, ::fmt::format(__VA_ARGS__)); \
  } while (false)
#define LOG_DEBUG(component, ...) \
  CONNECTD_LOG_(::connectd::LogLevel::kDebug, component, __VA_ARGS__)
#define LOG_INFO(component, ...) CONNECTD_LOG_(::connectd::LogLevel::kInfo, component, __VA_ARGS__)
#define LOG_WARNING(component, ...) \
  CONNECTD_LOG_(::connectd::LogLevel::kWarning, component, __VA_ARGS__)
#define LOG_ERROR(component, ...) \
  CONNECTD_LOG_(::connectd::LogLevel::kError, component, __VA_ARGS__)
