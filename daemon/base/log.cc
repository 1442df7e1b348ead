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
#include "base/line_writer.h"
#include "base/wall_clock.h"

namespace connectd {
namespace {

constexpr Duration kFinish = std::chrono::milliseconds(200);

enum class Reader : uint8_t { kTerminal, kOther, kJournal };

std::atomic<int> g_level{static_cast<int>(LogLevel::kInfo)};
std::atomic<Reader> g_reader{Reader::kTerminal};
std::atomic<void (*)(std::string_view)> g_follower{nullptr};
std::atomic<LineWriter*> g_writer{nullptr};  // lives as long as the process
std::atomic<Time::rep> g_finish_by{0};       // of the first call that ends the process; 0: none yet

struct Style {
  const char* name;
  const char* priority;  // sd-daemon(3)
};
constexpr Style kStyles[] = {
    {"debug", "<7>"}, {"info", "<6>"}, {"warning", "<4>"}, {"error", "<3>"}};

const Style& style_of(LogLevel level) { return kStyles[static_cast<int>(level)]; }

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

std::string header(LogLevel level, std::string_view component) {
  const Reader reader = g_reader.load(std::memory_order_relaxed);
  std::string text = reader == Reader::kTerminal ? "" : style_of(level).priority;
  if (reader != Reader::kJournal) text += time_text(read_clocks().wall_ns) + ' ';
  return text + fmt::format("{:7} {}: ", style_of(level).name, component);
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

std::string note_of_dropped(uint64_t lines) {
  return header(LogLevel::kWarning, "log") +
         fmt::format("dropped lines={}: nobody read standard error, or a write failed", lines);
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
    log_line(LogLevel::kError, "connectd",
             fmt::format("{}:{}: {}", file, line, std::string_view(message, size)));
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
  log_line(LogLevel::kError, "connectd", text);
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

void log_line(LogLevel level, std::string_view component, std::string_view text) {
  const std::string head = header(level, component);
  for_each_line(text, [&](std::string_view line) { write_line(level, head + std::string(line)); });
}

void print_to_stderr(LogLevel level, std::string_view text) {
  const bool has_priority = g_reader == Reader::kJournal;  // others read what a command printed
  for_each_line(text, [&](std::string_view line) {
    write_line(level, (has_priority ? style_of(level).priority : "") + std::string(line));
  });
}

void finish_log() {
  if (LineWriter* writer = g_writer.load()) writer->finish_until(finish_by());
}

void write_last_line(std::string_view line) {
  finish_log();
  const Time end = finish_by();
  if (g_reader.load() != Reader::kTerminal) {
    write_until(STDERR_FILENO, style_of(LogLevel::kError).priority, end);
  }
  write_until(STDERR_FILENO, line, end);
  if (auto* follower = g_follower.load()) follower(line);
}

void follow_last_lines(void (*follower)(std::string_view line)) { g_follower = follower; }

uint64_t dropped_log_lines() {
  LineWriter* writer = g_writer.load();
  return writer == nullptr ? 0 : writer->dropped();
}

}  // namespace connectd
