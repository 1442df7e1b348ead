// The lines of the log on their way to a descriptor whose reader may be slow, stuck or gone: a
// bounded buffer, and a thread that writes it. A caller never waits for the reader: a line without
// room is dropped and counted.
//
// The descriptor keeps its flags, because other processes may share it; so a write may block, and
// only this thread does. The buffer is allocated once and the thread allocates nothing, so that it
// still works after a crash in the allocator. Any thread, but for start().
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "base/clock.h"
#include "base/error.h"
#include "base/mutex.h"

namespace connectd {

class LineWriter final {
 public:
  static constexpr size_t kMaxLine = 16 << 10;        // a longer line is cut
  static constexpr size_t kBufferBytes = 1 << 20;     // of lines that are not written yet
  static constexpr size_t kReservedBytes = 64 << 10;  // of it, for urgent lines

  // `make_note`: the line that reports how many lines were dropped; on the writer's thread.
  using MakeNote = std::string (*)(uint64_t lines);
  LineWriter(int descriptor, MakeNote make_note);
  // Lines that are not written are lost. A thread that is stuck in a write is left behind.
  ~LineWriter();
  LineWriter(const LineWriter&) = delete;
  LineWriter& operator=(const LineWriter&) = delete;

  // Starts the thread. Once.
  Result<void> start();
  // Queues one line, without its line end. An urgent one may use the reserve. Never waits for the
  // reader.
  void put(std::string_view line, bool urgent);
  // True when all that was queued before the call is written or lost; waits for that until
  // `deadline`. Safe in a signal handler.
  bool finish_until(Time deadline) const;
  // Lines that found no room, or whose write failed.
  uint64_t dropped() const;

 private:
  struct State;
  static void run(State& state);

  // Shared with the thread, which may outlive this object.
  const std::shared_ptr<State> state_;
};

// Writes to the descriptor what it takes until `deadline` without blocking. Between the question
// and the write another process may fill a shared pipe: a small risk, so this is for the end of a
// process only. Safe in a signal handler.
void write_until(int descriptor, std::string_view bytes, Time deadline);

}  // namespace connectd
