// What the log says of a reload. Loop thread.
#pragma once

#include <string>
#include <vector>

#include "base/error.h"
#include "config/load.h"

namespace connectd::app {

// Logs what has changed, a line each; returns the same lines, for `connectctl reload`.
std::string log_reload(const config::Reloaded& reloaded);
// Warns of files that systemd handed over: a reload has read its copies of the start again, so a
// changed original, such as a token file without a removed token, does not count yet. Returns the
// warnings, a line each, for `connectctl reload`.
std::string log_copies_of_start(const std::vector<std::string>& files);
// Logs that `connectctl reload` cannot see this node's reloads, if so. At most once a minute.
void log_reload_report(const Result<void>& written);

}  // namespace connectd::app
