// A thread that waits for nobody: it takes the signals of the process, and watches the plugin's
// calls. So a call that does not come back is logged, shown in the status, and does not keep the
// process when it is told to end, whichever thread the call is in.
//
//   - A call of apply, on_tick, next_deadline, read or classify is stuck after 5 s; create,
//     restore, snapshot and the others, which move the whole state, after a minute. A snapshot,
//     which holds up the apply thread, is named after 5 s.
//   - SIGTERM and SIGINT go to the daemon's loop. After the second one, or when the drain timeout
//     is over, a call that still runs is named, and the process ends: with the code for failed
//     plugins if the call is stuck.
//   - A daemon that ends without a signal says so: end_within().
//   - Before the daemon runs, SIGTERM and SIGINT do what they do by default, and the others
//     nothing.
//   - When main() is about to return, functions for atexit() and destructors of static objects
//     still run, the plugin's too: end_process_within().
//
// Signals are taken by sigtimedwait(), not by handlers: a handler would need what a plugin's
// runtime expects of it (SA_ONSTACK), and could be replaced by a plugin.
#pragma once

#include <atomic>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "base/clock.h"
#include "base/error.h"
#include "base/mutex.h"
#include "node/status.h"
#include "plugin/call_watch.h"

namespace connectd::app {

class Watchdog final {
 public:
  // Blocks the signals in the calling thread and those that it starts from now on, and starts the
  // thread. On the main thread, before a plugin is loaded.
  static Result<std::unique_ptr<Watchdog>> start();
  ~Watchdog();
  Watchdog(const Watchdog&) = delete;
  Watchdog& operator=(const Watchdog&) = delete;

  // Whom signals go to, and who hears of a stuck call ("apply at 812") when it is noticed, both on
  // the watchdog's thread; and where stuck calls are shown.
  struct Daemon {
    std::function<void(int number)> on_signal;
    std::function<void(const std::string& call)> on_stuck;
    node::StatusBoard* board = nullptr;
    Duration drain_timeout{};
  };
  void follow(Daemon daemon);
  // When it returns, neither function is called any more.
  void unfollow() { follow({}); }
  // The process is about to end with `code`: a plugin's call that still runs after `patience` does
  // not keep it. The first call counts. Any thread.
  void end_within(Duration patience, int code);
  // The same for what runs after main(). `plugin`: who may be to blame. This object, and its
  // thread, must live on.
  void end_process_within(Duration patience, int code, std::string plugin);

 private:
  Watchdog() = default;
  void run();
  void take_signal(int number, Time now);
  void look_at_calls(Time now);
  void end_if_told(Time now);
  [[noreturn]] static void end_without(const plugin::RunningCall& call, std::optional<int> code);
  [[noreturn]] void wait_for_exit() const;

  Mutex mutex_;
  Daemon daemon_ GUARDED_BY(mutex_);
  Time end_by_ GUARDED_BY(mutex_) = Time::max();
  std::optional<int> end_code_ GUARDED_BY(mutex_);  // none: a plugin that failed
  std::atomic<bool> stopping_{false};
  std::thread thread_;

  // Of the thread.
  plugin::CallWatch watch_;
  std::vector<plugin::RunningCall> calls_;
  struct Stuck {
    plugin::RunningCall call;
    Time next_line{};
    bool is_stuck = false;  // false: named only
  };
  std::map<size_t, Stuck> stuck_;  // by thread
  std::string shown_;
  int told_to_end_ = 0;

  // Set before exiting_, and not changed after it.
  Time exit_by_{};
  int exit_code_ = 0;
  std::string exit_plugin_;
  std::atomic<bool> exiting_{false};
};

}  // namespace connectd::app
