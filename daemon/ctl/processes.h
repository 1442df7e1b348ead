// The node processes of one directory that `cluster start` began: starting them, and knowing them
// again. A pid file holds the process id and the moment the process began, so that a pid that the
// system has given to somebody else is never taken for ours.
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

// Nothing: no such process, or it has ended and nobody has asked for its exit code yet.
std::optional<Process> look_at_process(int pid);

// Starts `program` with its output appended to `log_file`, in a session of its own, so that it
// outlives this one and its terminal.
Result<Process> start_process(const std::string& program, const std::vector<std::string>& arguments,
                              const std::string& log_file);

Result<void> write_pid_file(const std::string& path, const Process& process);
// The process that the file names, when it still runs.
std::optional<Process> running_process(const std::string& pid_file);

// Signals the process if it is still the same one; kNotFound when it has ended.
Result<void> signal_process(const Process& process, int signal);

}  // namespace connectd::ctl
