#include "base/log.h"

#include <unistd.h>

#include <atomic>
#include <chrono>
#include <ctime>
#include <string>

namespace connectd {
namespace {
std::atomic<int> g_level{static_cast<int>(LogLevel::kInfo)};
std::atomic<bool> g_terminal{true};

struct Style {
  const char* name;
  int priority;  // syslog(3)
};
constexpr Style kStyles[] = {{"debug", 7}, {"info", 6}, {"warning", 4}, {"error", 3}};
}  // namespace

void init_logging(const char* program) {
  FLAGS_logtostderr = true;
  FLAGS_log_prefix = false;
  google::InitGoogleLogging(program);
  g_terminal = isatty(STDERR_FILENO) == 1;
}

void set_log_level(LogLevel level) { g_level = static_cast<int>(level); }

bool log_enabled(LogLevel level) {
  return static_cast<int>(level) >= g_level.load(std::memory_order_relaxed);
}

void log_line(LogLevel level, std::string_view component, std::string_view text) {
  const Style& style = kStyles[static_cast<int>(level)];
  std::string line;
  if (!g_terminal.load(std::memory_order_relaxed)) line += fmt::format("<{}>", style.priority);
  auto now = std::chrono::system_clock::now();
  auto micros =
      std::chrono::duration_cast<std::chrono::microseconds>(now.time_since_epoch()).count();
  time_t seconds = static_cast<time_t>(micros / 1'000'000);
  tm utc{};
  gmtime_r(&seconds, &utc);
  line += fmt::format("{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{:06}Z {:7} {}: {}", utc.tm_year + 1900,
                      utc.tm_mon + 1, utc.tm_mday, utc.tm_hour, utc.tm_min, utc.tm_sec,
                      micros % 1'000'000, style.name, component, text);
  // Everything passes glog at its INFO severity or above, so that sinks and tests see it; the level
  // in the line is ours.
  switch (level) {
    case LogLevel::kDebug:
    case LogLevel::kInfo:
      LOG(INFO) << line;
      break;
    case LogLevel::kWarning:
      LOG(WARNING) << line;
      break;
    case LogLevel::kError:
      LOG(ERROR) << line;
      break;
  }
}

}  // namespace connectd
