// Starting a thread of this process, with an error instead of an exception when the system has no
// more of them. Any thread.
#pragma once

#include <functional>
#include <string_view>
#include <thread>

#include "base/error.h"

namespace connectd {

// Signals are blocked in it, but for those of a crash: the watchdog takes them (app/watchdog.h).
// kCannotCreate names the limits on the number of threads.
Result<std::thread> start_thread(std::string_view name, std::function<void()> body);

}  // namespace connectd
