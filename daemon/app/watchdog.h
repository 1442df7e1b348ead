// A thread that waits for nobody: it takes the signals of the process, and watches the plugin's
// calls. So a call that does not come back is logged, shown in the status, and does not keep the
// process when it is told to end, whichever thread the call is in.
//
//   - A call of apply, on_tick, next_deadline, read or classify is stuck after 5 s; create,
//     restore, snapshot and the others, which move the whole state, after a minute.
//   - SIGTERM and SIGINT go to the daemon's loop. After the second one, or when the drain timeout
//     is over, a call that still runs is named, and the process ends with the code for failed
//     plugins.
//   - Before the daemon runs, SIGTERM and SIGINT do what they do by default, and the others
//     nothing.
//
// Signals are taken by sigtimedwait(), not by handlers: a handler would need what a plugin's
// runtime expects of it (SA_ONSTACK), and could be replaced by a plugin.
#pragma once

#include <atomic>
#include <functional>
#include <map>
#include <memory>
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

  // Whom signals go to, on the watchdog's thread; and where stuck calls are shown.
  struct Daemon {
    std::function<void(int number)> on_signal;
    node::StatusBoard* board = nullptr;
    Duration drain_timeout{};
  };
  void follow(Daemon daemon);
  // When it returns, `on_signal` is not called any more.
  void unfollow() { follow({}); }

 private:
  Watchdog() = default;
  void run();
  void take_signal(int number, Time now);
  void look_at_calls(Time now);
  void end_if_told(Time now);

  Mutex mutex_;
  Daemon daemon_ GUARDED_BY(mutex_);
  std::atomic<bool> stopping_{false};
  std::thread thread_;

  // Of the thread.
  plugin::CallWatch watch_;
  std::vector<plugin::RunningCall> calls_;
  struct Stuck {
    plugin::RunningCall call;
    Time next_line{};
  };
  std::map<size_t, Stuck> stuck_;  // by thread
  int told_to_end_ = 0;
  Time end_by_ = Time::max();
};

}  // namespace connectd::app
