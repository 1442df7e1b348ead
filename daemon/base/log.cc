#include "base/log.h"

#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <cstdlib>
#include <ctime>
#include <exception>
#include <limits>
#include <string>

#include "base/clock.h"
#include "base/flight_recorder.h"
#include "base/json_text.h"
#include "base/line_writer.h"
#include "base/log_format.h"
#include "base/log_record.h"
#include "base/utc_text.h"

namespace connectd {
namespace {

constexpr Duration kFinish = std::chrono::milliseconds(200);

enum class Reader : uint8_t { kTerminal, kOther, kJournal };

std::atomic<int> g_level{static_cast<int>(LogLevel::kInfo)};
std::atomic<Reader> g_reader{Reader::kTerminal};
std::atomic<LogFormat> g_format{LogFormat::kAuto};
std::atomic<void (*)(std::string_view)> g_follower{nullptr};
std::atomic<LineWriter*> g_writer{nullptr};  // lives as long as the process
std::atomic<Time::rep> g_finish_by{0};       // of the first call that ends the process; 0: none yet

struct Style {
  std::string_view name;
  std::string_view priority;  // sd-daemon(3)
};
constexpr Style kStyles[] = {
    {"debug", "<7>"}, {"info", "<6>"}, {"warning", "<4>"}, {"error", "<3>"}};

const Style& style_of(LogLevel level) { return kStyles[static_cast<int>(level)]; }

// Whoever reads JSON from a file or a pipe wants nothing but JSON.
std::string_view priority_of(LogLevel level) {
  const Reader reader = g_reader.load(std::memory_order_relaxed);
  const bool is_json = g_format.load(std::memory_order_relaxed) == LogFormat::kJson;
  const bool has = reader == Reader::kJournal || (reader == Reader::kOther && !is_json);
  return has ? style_of(level).priority : std::string_view();
}

// systemd names the device and the inode of the journal's stream.
Reader find_reader() {
  struct stat error {};
  const char* journal = std::getenv("JOURNAL_STREAM");
  if (journal != nullptr && ::fstat(STDERR_FILENO, &error) == 0 &&
      fmt::format("{}:{}", error.st_dev, error.st_ino) == journal) {
    return Reader::kJournal;
  }
  return isatty(STDERR_FILENO) == 1 ? Reader::kTerminal : Reader::kOther;
}

std::string header(const LogRecord& record) {
  std::string text(priority_of(record.level));
  if (g_reader.load(std::memory_order_relaxed) != Reader::kJournal) {
    text.append(UtcText(record.wall_ns).view()).append(" ");
  }
  return text + fmt::format("{:7} {}: ", style_of(record.level).name, record.area);
}

// A line must not be cut: these add up to less than LineWriter::kMaxLine.
constexpr size_t kJsonMessage = 7 << 10;
constexpr size_t kJsonValue = 512;
constexpr size_t kJsonLine = 14 << 10;
static_assert(kJsonLine < LineWriter::kMaxLine);

// Safe in a signal handler.
void put_json(JsonText& json, const LogRecord& record, std::string_view text) {
  const std::string_view priority = style_of(record.level).priority;
  json.raw(priority_of(record.level))
      .raw("{\"time\":\"")
      .raw(UtcText(record.wall_ns).view())
      .raw("\",\"level\":\"")
      .raw(style_of(record.level).name)
      .raw("\",\"priority\":")
      .raw(priority.substr(1, 1))
      .raw(",\"event\":\"")
      .raw(row_of(record.event).name)
      .raw("\",\"area\":")
      .string(record.area, kJsonValue)
      .raw(",")
      .raw(log_origin())
      .raw("\"message\":")
      .string(text, kJsonMessage);
}

std::string json_line(const LogRecord& record, const LogMessage& message) {
  std::string line(kJsonLine, 0);
  JsonText json(line.data(), line.size());
  std::string_view text = message.text();
  while (text.ends_with('\n')) text.remove_suffix(1);
  put_json(json, record, text);
  std::string_view between = ",\"fields\":{\"";
  for (const LogMessage::Field& field : message.fields()) {
    if (json.room() < kJsonValue + field.key.size() + 32) break;
    json.raw(between).raw(field.key).raw("\":");
    if (field.is_number) {
      json.raw(message.value_of(field));
    } else {
      json.string(message.value_of(field), kJsonValue);
    }
    between = ",\"";
  }
  if (!between.starts_with(",\"f")) json.raw("}");
  json.raw("}");
  line.resize(json.view().size());
  return line;
}

void write_line(LogLevel level, std::string_view line) {
  if (LineWriter* writer = g_writer.load()) return writer->put(line, level == LogLevel::kError);
  std::string bytes(line);
  bytes += '\n';
  write_until(STDERR_FILENO, bytes, Time::max());
}

template <class Work>
void for_each_line(std::string_view text, Work work) {
  while (text.ends_with('\n')) text.remove_suffix(1);
  while (true) {
    const size_t end = text.find('\n');
    work(text.substr(0, end));
    if (end == std::string_view::npos) return;
    text.remove_prefix(end + 1);
  }
}

template <class Work>
void for_each_line_of(const LogRecord& record, const LogMessage& message, Work work) {
  if (g_format.load(std::memory_order_relaxed) == LogFormat::kJson) {
    return work(json_line(record, message));
  }
  const std::string head = header(record);
  for_each_line(message.text(), [&](std::string_view line) { work(head + std::string(line)); });
}

// On the writer's thread, which does not queue it.
std::string note_of_dropped(uint64_t lines) {
  const LogEventRow& row = row_of(LogEvent::kLogDropped);
  const LogRecord record{LogEvent::kLogDropped, row.level, row.area, read_clocks().wall_ns};
  constexpr fmt::string_view kText =
      "dropped lines={}: nobody read standard error, or a write failed";
  const LogMessage message(kText, fmt::make_format_args(lines));
  flight_recorder().record(
      {record.wall_ns, record.event, record.level, FlightFate::kWritten, message.text()});
  std::string note;
  for_each_line_of(record, message, [&](std::string line) { note = std::move(line); });
  return note;
}

// The moment until which those who end the process wait for the reader: common to all.
Time finish_by() {
  Time::rep none = 0;
  const Time now = read_clocks().time;
  if (g_finish_by.compare_exchange_strong(none, (now + kFinish).time_since_epoch().count())) {
    return now + kFinish;
  }
  return Time(Time::duration(none));
}

// glog writes the stack of a failed CHECK to standard error itself: if nobody reads, that must not
// keep the process.
void abort_soon() {
  sigevent event{};
  event.sigev_notify = SIGEV_SIGNAL;
  event.sigev_signo = SIGABRT;
  timer_t timer{};
  if (::timer_create(CLOCK_MONOTONIC, &event, &timer) != 0) std::abort();
  itimerspec when{};
  when.it_value.tv_nsec = std::chrono::nanoseconds(kFinish).count();
  ::timer_settime(timer, 0, &when, nullptr);
}

// The text of a failed CHECK.
class FatalSink final : public google::LogSink {
 public:
  void send(google::LogSeverity severity, const char*, const char* file, int line, const tm*,
            const char* message, size_t size) override {
    if (severity != google::GLOG_FATAL) return;
    is_fatal_ = true;
    log_event(LogEvent::kProcessCheckFailed, "{}:{}: {}", file, line,
              std::string_view(message, size));
  }
  void WaitTillSent() override {
    if (!is_fatal_.exchange(false)) return;
    finish_log();
    abort_soon();
  }

 private:
  std::atomic<bool> is_fatal_{false};
};

[[noreturn]] void on_terminate() {
  std::string text = "uncaught exception";
  if (std::exception_ptr thrown = std::current_exception()) {
    try {
      std::rethrow_exception(thrown);
    } catch (const std::exception& error) {
      text += fmt::format(": {}", error.what());
    } catch (...) {
      text += " of an unknown type";
    }
  }
  log_event(LogEvent::kProcessException, "{}", text);
  finish_log();
  std::abort();
}

}  // namespace

void init_logging(const char* program) {
  FLAGS_logtostderr = true;
  FLAGS_log_prefix = false;
  google::InitGoogleLogging(program);
  g_reader = find_reader();
}

Result<void> start_log_thread() {
  auto* writer = new LineWriter(STDERR_FILENO, note_of_dropped);
  if (auto started = writer->start(); !started) {
    delete writer;
    return started;
  }
  g_writer = writer;
  // glog itself writes nothing but the stack of a failed CHECK.
  FLAGS_logtostderr = false;
  FLAGS_stderrthreshold = google::NUM_SEVERITIES;
  for (int severity = 0; severity < google::NUM_SEVERITIES; ++severity) {
    google::SetLogDestination(severity, "");
  }
  google::AddLogSink(new FatalSink);
  std::set_terminate(on_terminate);
  return {};
}

void set_log_level(LogLevel level) { g_level = static_cast<int>(level); }

bool log_enabled(LogLevel level) {
  return static_cast<int>(level) >= g_level.load(std::memory_order_relaxed);
}

void set_log_format(LogFormat format) { g_format = format; }

void write_record(const LogRecord& record, const LogMessage& message) {
  for_each_line_of(record, message,
                   [&](const std::string& line) { write_line(record.level, line); });
}

void log_line(LogLevel level, std::string_view component, std::string_view text) {
  const LogRecord record{LogEvent::kPluginLine, level, component, read_clocks().wall_ns};
  flight_recorder().record(
      {record.wall_ns, record.event, level, FlightFate::kWritten, std::string_view()});
  write_record(record, LogMessage(text));
}

void print_to_stderr(LogLevel level, std::string_view text) {
  if (g_format == LogFormat::kJson) {
    const LogEventRow& row = row_of(LogEvent::kProcessMessage);
    return write_record({LogEvent::kProcessMessage, level, row.area, read_clocks().wall_ns},
                        LogMessage(text));
  }
  const bool has_priority = g_reader == Reader::kJournal;  // others read what a command printed
  for_each_line(text, [&](std::string_view line) {
    std::string whole(has_priority ? style_of(level).priority : std::string_view());
    write_line(level, whole.append(line));
  });
}

void finish_log() {
  if (LineWriter* writer = g_writer.load()) writer->finish_until(finish_by());
}

void write_last_line(std::string_view line) {
  finish_log();
  const Time end = finish_by();
  std::string_view text = line;
  while (text.ends_with('\n')) text.remove_suffix(1);
  const LogEventRow& row = row_of(LogEvent::kProcessFatal);
  const LogRecord record{LogEvent::kProcessFatal, row.level, row.area, read_clocks().wall_ns};
  flight_recorder().record(
      {record.wall_ns, record.event, record.level, FlightFate::kWritten, text});
  if (g_format.load() == LogFormat::kJson) {
    char buffer[4096];
    JsonText json(buffer, sizeof buffer - 2);
    put_json(json, record, text.substr(0, 512));
    const size_t used = json.view().size();
    buffer[used] = '}';
    buffer[used + 1] = '\n';
    write_until(STDERR_FILENO, {buffer, used + 2}, end);
  } else {
    write_until(STDERR_FILENO, priority_of(LogLevel::kError), end);
    write_until(STDERR_FILENO, line, end);
  }
  if (auto* follower = g_follower.load()) follower(line);
}

void follow_last_lines(void (*follower)(std::string_view line)) { g_follower = follower; }

uint64_t dropped_log_lines() {
  LineWriter* writer = g_writer.load();
  return writer == nullptr ? 0 : writer->dropped();
}

}  // namespace connectd
