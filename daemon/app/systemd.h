// What connectd tells systemd: the notification protocol of sd_notify(3), one datagram a message,
// without a library. Does nothing when the process was not started by systemd. Never waits for
// systemd: what it does not take yet is kept, and sent in order later. Loop thread.
#pragma once

#include <deque>
#include <string>
#include <string_view>

#include "base/clock.h"

namespace connectd::app {

// Whether a unit with Type=notify has started this process: by NOTIFY_SOCKET and INVOCATION_ID, of
// which a test or a container sets one at most. At start-up.
bool is_run_by_systemd();

// Where the files of LoadCredential= are, by CREDENTIALS_DIRECTORY: copies, made as the service
// starts. Empty: there are none. At start-up.
std::string credentials_directory();

class Systemd final {
 public:
  // Reads NOTIFY_SOCKET, WATCHDOG_USEC and WATCHDOG_PID.
  Systemd();
  ~Systemd();
  Systemd(const Systemd&) = delete;
  Systemd& operator=(const Systemd&) = delete;

  // "READY=1", "STATUS=...", "STOPPING=1"; several lines in one message.
  void notify(std::string message);
  // Sends what is kept, as far as systemd takes it. To be called now and then.
  void retry();
  // The same at once or not at all, for the last message of a process. Any thread.
  // In a signal handler, too.
  void notify_last(std::string_view message) const { (void)send(message); }
  // How often the watchdog wants to hear of us at the least; zero: it does not.
  Duration watchdog_timeout() const { return watchdog_; }

 private:
  // False, with errno: it does not take it.
  bool send(std::string_view message) const;

  int socket_ = -1;
  std::string address_;
  Duration watchdog_{};
  std::deque<std::string> unsent_;
};

}  // namespace connectd::app
