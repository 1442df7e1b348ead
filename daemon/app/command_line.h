// The command line of connectd. Start-up only.
#pragma once

#include <string>

#include "base/error.h"
#include "config/load.h"

namespace connectd::app {

struct CommandLine {
  config::LoadRequest load;
  bool check = false;
  bool print_config = false;
  bool version = false;
  bool help = false;
};

// kUsage with a text that names the option.
Result<CommandLine> parse_command_line(int argc, const char* const* argv);
std::string help_text();
std::string version_text();

}  // namespace connectd::app
