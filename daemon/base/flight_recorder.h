// The last 4,096 events of the log, in memory: also those below the level of the log, and those
// that were not written because there were too many of them. It is written to a file when SIGUSR2
// comes, and when the process crashes.
//
// A fixed ring without locks: who records takes the next number, marks its slot, fills it and gives
// it the number; a reader skips a slot whose number is another one before or after it was read.
// Nothing allocates. A crash that interrupts a record() loses that event only. Any thread; also
// safe in a signal handler.
//
// It has no bytes of requests: the text of events that may have such (log_events.inc) is left out.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "base/log_event.h"

namespace connectd {

enum class FlightFate : uint8_t { kWritten, kBelowLevel, kSuppressed };

class FlightRecorder final {
 public:
  static constexpr size_t kEvents = 4096;
  static constexpr size_t kTextMax = 232;  // a longer text is cut

  struct Entry {
    int64_t wall_ns = 0;
    LogEvent event{};
    LogLevel level{};
    FlightFate fate{};
    std::string_view text;
  };

  void record(const Entry& entry);
  // Since the process began.
  uint64_t recorded() const { return next_.load(std::memory_order_relaxed); }
  // One JSON object, an event a line, the oldest first. `reason`: why it is written. False: it
  // cannot be written, errno has why.
  bool write_to(int descriptor, std::string_view reason) const;

 private:
  static constexpr uint64_t kBusy = UINT64_MAX;
  static constexpr size_t kWords = kTextMax / sizeof(uint64_t);
  struct Slot {
    std::atomic<uint64_t> number{0};  // of its event, from 1; 0: none yet
    std::atomic<int64_t> wall_ns{0};
    std::atomic<uint64_t> facts{0};  // event, level, fate, bytes of the text
    std::array<std::atomic<uint64_t>, kWords> text{};
  };
  struct Copy {
    Entry entry;
    std::array<uint64_t, kWords> text;
  };
  bool read(uint64_t number, Copy& copy) const;

  std::atomic<uint64_t> next_{0};
  std::array<Slot, kEvents> slots_{};
};

// Of this process.
FlightRecorder& flight_recorder();

// Which file it is written to; a crash does not overwrite the one that was asked for.
enum class FlightFile : uint8_t { kAsked, kCrash };
// flight.json and flight-crash.json in that directory, from now on.
void set_flight_directory(std::string_view directory);
// Writes it for this process, not for a forked child, through a temporary file. Safe in a signal
// handler. Null: there is no directory, or it cannot be written, errno has why; else the path.
const char* write_flight_file(FlightFile file, std::string_view reason);

}  // namespace connectd
