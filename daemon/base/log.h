// The only user of glog: the lines of the log, and CHECK for invariants.
//
//   CHECK(a <= b) << "why this cannot be";
//
// What is logged is an event of a table: base/log_event.h. A line has a time stamp, the level, the
// area, the text. A text of several lines becomes several lines. Unless standard error is a
// terminal, each begins with a priority, "<6>", as in sd-daemon(3). If it is the journal, which has
// its own time stamps, there is no other. With log.format: json a line is one object.
//
// After start_log_thread() nobody who logs waits for the reader of standard error (line_writer.h).
// Whatever ends the process then calls finish_log() first, or ends by a CHECK or a signal that the
// crash handler reports. Before that, and in other programs, a line is written at once. Any thread.
// Nothing logs per entry or per request.
#pragma once

#include <fmt/format.h>
#include <glog/logging.h>

#include <cstdint>
#include <string_view>

#include "base/error.h"

namespace connectd {

enum class LogLevel : int { kDebug = 0, kInfo = 1, kWarning = 2, kError = 3 };

// Once, at the start of main(), before any other thread. `program` is argv[0] and must stay alive.
void init_logging(const char* program);
// Once, later. Also reports uncaught exceptions and failed CHECKs through the log.
Result<void> start_log_thread();
// Lines below `level` are dropped. Any thread.
void set_log_level(LogLevel level);
bool log_enabled(LogLevel level);
void log_line(LogLevel level, std::string_view component, std::string_view text);  // of a plugin
// The text as it is, for what is printed rather than logged; in the journal each line has the
// priority of `level`.
void print_to_stderr(LogLevel level, std::string_view text);

// Before the process ends: writes what is queued. Waits for the reader for at most 200 ms, in all
// calls of this and the next function together.
void finish_log();
// The same, then one more line. Safe in a signal handler.
void write_last_line(std::string_view line);
// `follower` gets each last line, too; null: nobody. It must be safe in a signal handler.
void follow_last_lines(void (*follower)(std::string_view line));
// Lines that were lost because nobody read them, since the start of the process.
uint64_t dropped_log_lines();

}  // namespace connectd
