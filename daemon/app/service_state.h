// What systemd knows of this process: whether it is ready, stops or reloads, a line for people,
// and that it lives. Each change is told once. Loop thread, unless a function says otherwise.
#pragma once

#include <atomic>
#include <string>
#include <string_view>

#include "app/systemd.h"
#include "base/clock.h"
#include "base/error.h"

namespace connectd::app {

// How long a start may read nothing before /livez fails and systemd gives it up.
inline constexpr Duration kStartHangs = std::chrono::minutes(10);

// One at a time.
class ServiceState final {
 public:
  // Until it goes, systemd also hears the first of the last lines of this process (base/log.h), so
  // that a plugin that crashes or ends the process is named.
  ServiceState();
  ~ServiceState();
  ServiceState(const ServiceState&) = delete;
  ServiceState& operator=(const ServiceState&) = delete;

  // The start is still on its way: systemd's limit for it begins again.
  void start_moves(Time now);
  void ready();
  void stopping();
  // A reload begins and ends with a service that is ready: before ready() and after stopping()
  // these two do nothing.
  void reload_begins();
  void reload_ends();
  // One line without a line break.
  void set_status(std::string text);
  // Every 50 ms or so: what systemd did not take yet, and the watchdog.
  void advance(Time now);

  // Any thread. At once or not at all, because the loop may hang or the process ends.
  void stuck(const std::string& call);
  void failed(const Error& error) const;

 private:
  static void on_last_line(std::string_view line);

  Systemd systemd_;
  bool ready_ = false;
  std::string status_;
  std::atomic<bool> overwritten_{false};  // by another thread than the loop's
  Time next_extension_;
  Time next_watchdog_;
};

}  // namespace connectd::app
