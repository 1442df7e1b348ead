#include "base/log_event.h"

#include <array>
#include <atomic>
#include <chrono>
#include <string>

#include "base/flight_recorder.h"
#include "base/json_text.h"
#include "base/log_record.h"
#include "base/mutex.h"

namespace connectd {
namespace {

// For events that happen a limited number of times, or have an interval of their own.
constexpr LogLimit kEach{};
// Against the unforeseen.
constexpr LogLimit kMany{60, std::chrono::minutes(1)};
// What strangers cause, over all of them.
constexpr LogLimit kSome{4, std::chrono::minutes(1), true};
constexpr LogLimit kRare{1, std::chrono::minutes(1), true};
constexpr LogLimit kRefusals{60, std::chrono::minutes(1), true};
constexpr LogLimit kHalfMinute{1, std::chrono::seconds(30), true};
// Of each member: one that comes and goes, one that is down.
constexpr LogLimit kPeer{4, std::chrono::minutes(1)};
constexpr LogLimit kFew{2, std::chrono::minutes(1)};

using enum LogKept;
using enum LogLevel;
#define LOG_EVENT_ROW(constant, name, level, area, limit, kept, meaning, advice) \
  LogEventRow{name, level, area, limit, kept, meaning, advice},
constexpr LogEventRow kRows[] = {
#include "base/log_events.inc"
};
#undef LOG_EVENT_ROW

struct Limits {
  Mutex mutex;
  LogLimiter limiter GUARDED_BY(mutex);
  Time (*clock)() GUARDED_BY(mutex) = nullptr;
};
std::atomic<Limits*> g_limits{nullptr};  // lives as long as the process
std::atomic<const std::string*> g_origin{nullptr};

Time machine_time() { return read_clocks().time; }

// Not through the limiter, whose mutex is held.
void log_suppressed(uint32_t event, uint64_t key, uint64_t lines, Duration window) {
  const LogEventRow& row = row_of(LogEvent::kLogSuppressed);
  const auto write = [&](const LogMessage& message) {
    const LogRecord record{LogEvent::kLogSuppressed, row.level, row.area, read_clocks().wall_ns};
    flight_recorder().record({record.wall_ns, record.event, record.level, {}, message.text()});
    if (log_enabled(row.level)) write_record(record, message);
  };
  const std::string_view name = row_of(static_cast<LogEvent>(event)).name;
  const int64_t seconds = window / std::chrono::seconds(1);
  if (key == 0 || key == kStrangers) {
    constexpr fmt::string_view kText = "suppressed event={} lines={} seconds={}";
    write({kText, fmt::make_format_args(name, lines, seconds)});
  } else {
    constexpr fmt::string_view kText = "suppressed event={} key={} lines={} seconds={}";
    write({kText, fmt::make_format_args(name, key, lines, seconds)});
  }
}

bool passes(LogEvent event, uint64_t key, const LogLimit& limit) {
  Limits* limits = g_limits.load();
  if (limits == nullptr || limit.lines == 0) return true;
  MutexLock lock(limits->mutex);
  const Time now = limits->clock();
  limits->limiter.report(now, log_suppressed);
  return limits->limiter.passes(static_cast<uint32_t>(event), key, limit, now);
}

}  // namespace

const LogEventRow& row_of(LogEvent event) { return kRows[static_cast<size_t>(event)]; }

void vlog_event(LogEvent event, uint64_t key, fmt::string_view format, fmt::format_args args) {
  const LogEventRow& row = row_of(event);
  const bool is_enabled = log_enabled(row.level);
  const bool is_written = is_enabled && passes(event, key, row.limit);
  // A flood of strangers' events would push out what happened before: of those that are suppressed
  // the recorder has the number only.
  const bool is_of_strangers = row.limit.is_of_strangers || key == kStrangers;
  if (is_enabled && !is_written && is_of_strangers) return;
  const LogMessage message(format, args);
  const LogRecord record{event, row.level, row.area, read_clocks().wall_ns};
  if (row.kept != kNothing) {
    const FlightFate fate = is_written   ? FlightFate::kWritten
                            : is_enabled ? FlightFate::kSuppressed
                                         : FlightFate::kBelowLevel;
    flight_recorder().record({record.wall_ns, event, row.level, fate,
                              row.kept == kText ? message.text() : std::string_view()});
  }
  if (is_written) write_record(record, message);
}

void set_log_origin(NodeId node, std::string_view cluster) {
  std::array<char, 512> buffer;
  JsonText json(buffer.data(), buffer.size());
  json.raw("\"node\":").number(node.value()).raw(",\"cluster\":").string(cluster, 400).raw(",");
  auto* text = new std::string(json.view());
  const std::string* expected = nullptr;
  if (!g_origin.compare_exchange_strong(expected, text)) delete text;
}

std::string_view log_origin() {
  const std::string* origin = g_origin.load();
  return origin == nullptr ? std::string_view() : *origin;
}

void limit_log_lines(Time (*clock)()) {
  static auto* limits = new Limits;
  MutexLock lock(limits->mutex);
  limits->limiter = LogLimiter();
  limits->clock = clock == nullptr ? machine_time : clock;
  g_limits = limits;
}

void report_suppressed_lines() {
  Limits* limits = g_limits.load();
  if (limits == nullptr) return;
  MutexLock lock(limits->mutex);
  limits->limiter.report(limits->clock(), log_suppressed);
}

}  // namespace connectd
