// connectctl: queries and controls running nodes over their HTTP ports, and inspects files offline.
#include <csignal>
#include <iostream>

#include "ctl/commands.h"

int main(int argc, char** argv) {
  std::signal(SIGPIPE, SIG_IGN);  // a closed pipe is a failed write
  std::vector<std::string> arguments(argv + 1, argv + argc);
  return static_cast<int>(
      connectd::ctl::run(arguments, connectd::ctl::Streams{std::cin, std::cout, std::cerr}));
}
