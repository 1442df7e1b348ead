// A line of the log is an event of a table (log_events.inc), which gives it a stable name, a level
// and an area:
//
//   log_event(LogEvent::kRaftRole, "{} term={} leader={}", role, term, leader);
//   log_event_of(LogEvent::kPeerLost, peer, "lost the connection node={} address={}", ...);
//
// As text: the level, the area, the text. As JSON: one object a line, with the name of the event,
// and as fields each value that follows `key=` in the format: never what a stranger wrote.
//
// In the daemon the lines of an event are limited; those that say which member they are about
// (log_event_of), for each member. What is not written, because of that or of its level, is in the
// flight recorder (flight_recorder.h) nevertheless. Any thread.
#pragma once

#include <fmt/format.h>

#include <cstdint>
#include <string_view>

#include "base/clock.h"
#include "base/log.h"
#include "base/log_limiter.h"
#include "base/types.h"

namespace connectd {

#define LOG_EVENT_ROW(constant, ...) constant,
enum class LogEvent : uint16_t {
#include "base/log_events.inc"
};
#undef LOG_EVENT_ROW

// What the flight recorder keeps of an event.
enum class LogKept : uint8_t { kText, kName, kNothing };

struct LogEventRow {
  std::string_view name;
  LogLevel level;
  std::string_view area;
  LogLimit limit;
  LogKept kept;
  std::string_view meaning;
  std::string_view advice;
};
const LogEventRow& row_of(LogEvent event);

void vlog_event(LogEvent event, uint64_t key, fmt::string_view format, fmt::format_args args);

template <class... Args>
void log_event(LogEvent event, fmt::format_string<Args...> format, Args&&... args) {
  vlog_event(event, 0, format, fmt::make_format_args(args...));
}
// `key`: a member, or another small number that no stranger chooses; 0: none.
template <class... Args>
void log_event_of(LogEvent event, uint64_t key, fmt::format_string<Args...> format,
                  Args&&... args) {
  vlog_event(event, key, format, fmt::make_format_args(args...));
}
template <class... Args>
void log_event_of(LogEvent event, NodeId member, fmt::format_string<Args...> format,
                  Args&&... args) {
  vlog_event(event, member.value(), format, fmt::make_format_args(args...));
}

// The key of nodes that are no members: they choose their ids.
inline constexpr uint64_t kStrangers = UINT64_MAX;

// What each JSON line says of its origin. Once, or again with the same values.
void set_log_origin(NodeId node, std::string_view cluster);

// Limits the lines from now on, with the counts of before forgotten. `clock`: null for the
// machine's. Without a call all are written.
void limit_log_lines(Time (*clock)() = nullptr);
// Logs how many lines were suppressed in the windows that have ended. From time to time.
void report_suppressed_lines();

}  // namespace connectd
