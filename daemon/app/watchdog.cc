#include "app/watchdog.h"

#include <pthread.h>
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <ctime>
#include <utility>

#include "base/exit_code.h"
#include "base/log.h"
#include "base/log_event.h"
#include "base/thread.h"
#include "plugin/signal_line.h"

namespace connectd::app {
namespace {

using std::chrono::seconds;

constexpr Duration kInterval = std::chrono::milliseconds(100);
constexpr Duration kStuck = seconds(5);
constexpr Duration kStuckWithState = seconds(60);
constexpr Duration kLineInterval = seconds(60);
// A call that takes this long when the process must end is not waited for.
constexpr Duration kPatience = seconds(1);
// How long the loop gets to end by itself after the second signal, or after the drain timeout.
constexpr Duration kOwnEnd = seconds(2);

sigset_t our_signals() {
  sigset_t set;
  sigemptyset(&set);
  for (int number : {SIGTERM, SIGINT, SIGHUP, SIGUSR1, SIGUSR2}) sigaddset(&set, number);
  return set;
}

bool is_of_log(const plugin::RunningCall& call) {
  return call.function == "apply" || call.function == "on_tick";
}

Duration limit_of(const plugin::RunningCall& call) {
  const bool is_short = is_of_log(call) || call.function == "next_deadline" ||
                        call.function == "read" || call.function == "classify";
  return is_short ? kStuck : kStuckWithState;
}

// When it is named in the log.
Duration notice_of(const plugin::RunningCall& call) {
  return call.function == "snapshot" ? kStuck : limit_of(call);
}

bool is_stuck(const plugin::RunningCall& call) { return call.duration >= limit_of(call); }

int64_t in_seconds(Duration duration) { return duration / seconds(1); }

// "apply at index 812"
std::string place_of(const plugin::RunningCall& call) {
  return call.index == 0 ? call.function : fmt::format("{} at index {}", call.function, call.index);
}

std::string skip_hint(const plugin::RunningCall& call) {
  return fmt::format(
      "if this happens on every member, and none has applied it, the entry can be skipped, on "
      "every "
      "member, while it is stopped: connectctl recover --data-dir DIR --skip-entry {}",
      call.index);
}

void log_long(const plugin::RunningCall& call) {
  if (!is_stuck(call)) {
    log_event(LogEvent::kPluginLongCall,
              "plugin {} is still in {} seconds={}: no request is executed meanwhile", call.plugin,
              place_of(call), in_seconds(call.duration));
    return;
  }
  log_event(LogEvent::kPluginStuck, "plugin {} is STUCK in {} seconds={}", call.plugin,
            place_of(call), in_seconds(call.duration));
  // A line of its own: the flight recorder keeps no requests.
  if (!call.request.empty()) {
    log_event(LogEvent::kPluginStuckRequest, "plugin {} is STUCK in {} request=\"{}\"", call.plugin,
              place_of(call), call.request);
  }
  if (is_of_log(call)) log_event(LogEvent::kPluginSkipHint, "{}", skip_hint(call));
}

}  // namespace

Result<std::unique_ptr<Watchdog>> Watchdog::start() {
  const sigset_t set = our_signals();
  CHECK_EQ(::pthread_sigmask(SIG_BLOCK, &set, nullptr), 0);
  std::unique_ptr<Watchdog> watchdog(new Watchdog);
  auto thread = start_thread("watchdog", [self = watchdog.get()] { self->run(); });
  if (!thread) return failure(thread.error());
  watchdog->thread_ = std::move(*thread);
  return watchdog;
}

Watchdog::~Watchdog() {
  stopping_ = true;
  if (thread_.joinable()) thread_.join();
}

void Watchdog::follow(Daemon daemon) {
  MutexLock lock(mutex_);
  daemon_ = std::move(daemon);
}

void Watchdog::run() {
  const sigset_t set = our_signals();
  while (!stopping_) {
    const timespec wait{0, std::chrono::nanoseconds(kInterval).count()};
    const int number = ::sigtimedwait(&set, nullptr, &wait);
    const Time now = read_clocks().time;
    if (number > 0) take_signal(number, now);
    look_at_calls(now);
    end_if_told(now);
    if (exiting_) wait_for_exit();
  }
}

void Watchdog::end_within(Duration patience, int code) {
  MutexLock lock(mutex_);
  end_by_ = std::min(end_by_, read_clocks().time + patience + kOwnEnd);
  if (!end_code_) end_code_ = code;
}

void Watchdog::end_process_within(Duration patience, int code, std::string plugin) {
  exit_by_ = read_clocks().time + patience;
  exit_code_ = code == 0 ? exit_status(ErrorKind::kPluginFailed) : code;
  exit_plugin_ = std::move(plugin);
  exiting_ = true;
}

// Destructors of static objects, connectd's too, run meanwhile: nothing here may need one.
void Watchdog::wait_for_exit() const {
  const sigset_t set = our_signals();
  while (read_clocks().time < exit_by_) {
    const timespec wait{0, std::chrono::nanoseconds(kInterval).count()};
    const int number = ::sigtimedwait(&set, nullptr, &wait);
    if (number == SIGTERM || number == SIGINT) break;
  }
  plugin::SignalLine()
      .text("plugin ")
      .text(exit_plugin_)
      .text(
          " hangs in a function for atexit() or in a destructor of a static object, and the "
          "process must end: it ends without it")
      .write_to_stderr();
  ::_exit(exit_code_);
}

void Watchdog::take_signal(int number, Time now) {
  const bool ends = number == SIGTERM || number == SIGINT;
  MutexLock lock(mutex_);
  if (daemon_.on_signal) {
    if (ends) {
      const Duration patience = told_to_end_++ == 0 ? daemon_.drain_timeout : Duration::zero();
      end_by_ = std::min(end_by_, now + patience + kOwnEnd);
    }
    daemon_.on_signal(number);
  } else if (ends) {
    finish_log();
    ::signal(number, SIG_DFL);
    sigset_t only;
    sigemptyset(&only);
    sigaddset(&only, number);
    ::pthread_sigmask(SIG_UNBLOCK, &only, nullptr);
    ::raise(number);
    ::_exit(128 + number);  // the first process of a container does not die so
  }
}

void Watchdog::look_at_calls(Time now) {
  calls_ = watch_.poll(now);
  auto runs = [&](const Stuck& stuck) {
    return std::ranges::any_of(calls_, [&](const plugin::RunningCall& call) {
      return call.thread == stuck.call.thread && call.number == stuck.call.number;
    });
  };
  for (auto at = stuck_.begin(); at != stuck_.end();) {
    if (runs(at->second)) {
      ++at;
      continue;
    }
    log_event(LogEvent::kPluginReturned, "plugin {} came back from {} seconds={}",
              at->second.call.plugin, place_of(at->second.call),
              in_seconds(at->second.call.duration));
    at = stuck_.erase(at);
  }
  std::string shown;
  for (const plugin::RunningCall& call : calls_) {
    if (call.duration < notice_of(call)) continue;
    Stuck& stuck = stuck_[call.thread];
    if (now >= stuck.next_line || stuck.is_stuck != is_stuck(call)) {
      stuck.next_line = now + kLineInterval;
      log_long(call);
    }
    stuck.call = call;
    stuck.is_stuck = is_stuck(call);
    if (!stuck.is_stuck) continue;
    if (shown.empty() || is_of_log(call)) {
      shown = call.index == 0 ? call.function : fmt::format("{} at {}", call.function, call.index);
    }
  }
  MutexLock lock(mutex_);
  if (daemon_.board != nullptr) daemon_.board->set_stuck(shown);
  if (std::exchange(shown_, shown) != shown && !shown.empty() && daemon_.on_stuck) {
    daemon_.on_stuck(shown);
  }
}

void Watchdog::end_without(const plugin::RunningCall& call, std::optional<int> code) {
  if (is_stuck(call)) {
    log_event(LogEvent::kPluginHangs,
              "plugin {} hangs in {} seconds={}: the process ends without it", call.plugin,
              place_of(call), in_seconds(call.duration));
    if (is_of_log(call)) log_event(LogEvent::kPluginSkipHint, "{}", skip_hint(call));
    if (!code) code = exit_status(ErrorKind::kPluginFailed);
  } else {
    log_event(LogEvent::kProcessStoppedEarly,
              "stopped while plugin {} is in {} seconds={}: the time for it is over", call.plugin,
              place_of(call), in_seconds(call.duration));
  }
  finish_log();
  ::_exit(code.value_or(0));
}

void Watchdog::end_if_told(Time now) {
  std::optional<int> code;
  {
    MutexLock lock(mutex_);
    if (now < end_by_) return;
    code = end_code_;
  }
  bool saves_view = false;
  const plugin::RunningCall* longest = nullptr;
  for (const plugin::RunningCall& call : calls_) {
    saves_view = saves_view || call.function == "save of a view";
    // The daemon waits for a view itself, and knows for how long (stop_everything()).
    if (call.duration < kPatience || call.function == "save of a view") continue;
    if (longest == nullptr || std::pair(is_stuck(call), call.duration) >
                                  std::pair(is_stuck(*longest), longest->duration)) {
      longest = &call;
    }
  }
  if (longest != nullptr) end_without(*longest, code);
  if (told_to_end_ < 2 || saves_view) return;
  log_event(LogEvent::kProcessStoppedEarly, "stopped at once: a disk or a thread does not return");
  finish_log();
  ::_exit(0);
}

}  // namespace connectd::app
