// The node processes that `cluster start` started for one directory: starts them and identifies
// them later. A pid file holds the process id alone, as scripts expect: kill $(cat node1.pid). The
// process is one of ours if its command line names the node's configuration, so that a reused pid
// is never taken for one.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/error.h"

namespace connectd::ctl {

struct Process {
  int pid = 0;
  uint64_t started = 0;  // clock ticks since boot, field 22 of /proc/PID/stat
};

// Nothing: no such process, or a zombie.
std::optional<Process> look_at_process(int pid);

// Starts `program` with its output appended to `log_file`, in a new session, so that it outlives
// this process and its terminal.
Result<Process> start_process(const std::string& program, const std::vector<std::string>& arguments,
                              const std::string& log_file);

Result<void> write_pid_file(const std::string& path, const Process& process);
// The process that the file names, if it still runs with `--config config_file`.
std::optional<Process> running_process(const std::string& pid_file, const std::string& config_file);

// Signals the process if it is still the same one; kNotFound when it has ended.
Result<void> signal_process(const Process& process, int signal);

}  // namespace connectd::ctl
