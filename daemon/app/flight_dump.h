// Writes the flight recorder (base/flight_recorder.h) to its file when SIGUSR2 asks for it, on a
// thread that lives for that only: the disk may hang. Any thread.
#pragma once

#include <string>

namespace connectd::app {

// The directory of the file: the service's below /run, if systemd made one (RuntimeDirectory=),
// else the data directory.
std::string flight_directory(const std::string& data_dir);

// The outcome is logged. While one is in progress, another call has it done once more.
void dump_flight_recorder();

}  // namespace connectd::app
