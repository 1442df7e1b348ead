// What the log says of a reload. Loop thread.
#pragma once

#include <string>

#include "base/error.h"
#include "config/load.h"

namespace connectd::app {

// Logs what has changed, a line each; returns the same lines, for `connectctl reload`.
std::string log_reload(const config::Reloaded& reloaded);
// Logs that `connectctl reload` cannot see this node's reloads, if so. At most once a minute.
void log_reload_report(const Result<void>& written);

}  // namespace connectd::app
