// `connectd --check`: what a start would meet outside of its configuration: the data directory,
// the files of its credentials (app/own_files.h) and the ports. Waits for nothing.
#pragma once

#include <vector>

#include "base/error.h"
#include "config/config.h"
#include "plugin/plugin.h"

namespace connectd::app {

// All problems, in the order in which a start would meet them, and as it would end; warnings are
// printed. The whole log and the newest snapshot are read, unless the node runs; the plugin does
// not get its state.
// `plugin`: null if it cannot be loaded.
std::vector<Error> check_environment(const config::Config& config, const plugin::Plugin* plugin);

}  // namespace connectd::app
