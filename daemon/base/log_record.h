// From an event to its line; between log_event.cc and log.cc.
#pragma once

#include <cstdint>
#include <string_view>

#include "base/log_event.h"
#include "base/log_message.h"

namespace connectd {

struct LogRecord {
  LogEvent event;
  LogLevel level;
  std::string_view area;
  int64_t wall_ns = 0;
};

// Queues the line of it, or writes it at once.
void write_record(const LogRecord& record, const LogMessage& message);

// `"node":1,"cluster":"orders",`, or nothing before it is known. Safe in a signal handler.
std::string_view log_origin();

}  // namespace connectd
