// `connectd --check`: what a start would meet outside of its configuration: the data directory and
// the ports. Waits for nothing.
#pragma once

#include <vector>

#include "base/error.h"
#include "config/config.h"
#include "plugin/plugin.h"

namespace connectd::app {

// All problems; a warning is printed. kMismatch: the data are of another node, cluster or plugin.
// `plugin`: null if it cannot be loaded.
std::vector<Error> check_environment(const config::Config& config, const plugin::Plugin* plugin);

}  // namespace connectd::app
