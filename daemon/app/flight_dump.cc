#include "app/flight_dump.h"

#include <atomic>
#include <cerrno>
#include <cstdlib>

#include "base/error.h"
#include "base/flight_recorder.h"
#include "base/log_event.h"
#include "base/thread.h"

namespace connectd::app {
namespace {

std::atomic<bool> g_runs{false};
std::atomic<bool> g_wanted{false};

void write_once() {
  if (const char* path = write_flight_file(FlightFile::kAsked, "SIGUSR2")) {
    log_event(LogEvent::kFlightWritten, "flight recorder written path={}", path);
  } else {
    log_event(LogEvent::kFlightFailed, "cannot write the flight recorder to flight.json: {}",
              errno_text(errno));
  }
}

void work() {
  do {
    while (g_wanted.exchange(false)) write_once();
    g_runs = false;
  } while (g_wanted && !g_runs.exchange(true));
}

}  // namespace

std::string flight_directory(const std::string& data_dir) {
  const char* value = std::getenv("RUNTIME_DIRECTORY");
  const std::string directories = value == nullptr ? "" : value;  // of several the first
  const std::string directory = directories.substr(0, directories.find(':'));
  return directory.empty() ? data_dir : directory;
}

void dump_flight_recorder() {
  g_wanted = true;
  if (g_runs.exchange(true)) return;
  auto thread = start_thread("flight", work);
  if (thread) return thread->detach();
  g_runs = false;
  log_event(LogEvent::kFlightFailed, "cannot write the flight recorder: {}", thread.error().text);
}

}  // namespace connectd::app
