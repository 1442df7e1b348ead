#include "base/line_writer.h"

#include <poll.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <climits>
#include <cstring>
#include <ctime>

#include "base/thread.h"

namespace connectd {
namespace {

constexpr long kPollNs = 1'000'000;  // of finish_until()

// All of it, however long that takes. False: it cannot be written.
bool write_all_waiting(int descriptor, std::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t written = ::write(descriptor, bytes.data(), bytes.size());
    if (written >= 0) {
      bytes.remove_prefix(static_cast<size_t>(written));
    } else if (errno == EAGAIN) {  // whoever shares it made it non-blocking
      pollfd ready{descriptor, POLLOUT, 0};
      ::poll(&ready, 1, -1);
    } else if (errno != EINTR) {
      return false;
    }
  }
  return true;
}

}  // namespace

struct LineWriter::State {
  State(int to, MakeNote note)
      : descriptor(to), make_note(note), buffer(std::make_unique<char[]>(kBufferBytes)) {}

  const int descriptor;
  const MakeNote make_note;
  Mutex mutex;
  Condition ready;
  const std::unique_ptr<char[]> buffer;  // a ring of whole lines; GUARDED_BY the mutex
  size_t begin GUARDED_BY(mutex) = 0;
  size_t used GUARDED_BY(mutex) = 0;
  bool closed GUARDED_BY(mutex) = false;
  std::atomic<uint64_t> queued{0};    // bytes, ever
  std::atomic<uint64_t> finished{0};  // of them, written or lost
  std::atomic<uint64_t> dropped{0};   // lines

  void append(std::string_view bytes) REQUIRES(mutex) {
    const size_t end = (begin + used) % kBufferBytes;
    const size_t first = std::min(bytes.size(), kBufferBytes - end);
    std::memcpy(buffer.get() + end, bytes.data(), first);
    std::memcpy(buffer.get(), bytes.data() + first, bytes.size() - first);
    used += bytes.size();
  }
  // Moves whole lines into `chunk`: as many as go out in one piece, or one long one. Readers of a
  // pipe that several processes share see no mixed lines then.
  size_t take(char* chunk) REQUIRES(mutex) {
    size_t size = 0;
    for (size_t seen = 0; seen < used && (seen < PIPE_BUF || size == 0);) {
      chunk[seen] = buffer[(begin + seen) % kBufferBytes];
      if (chunk[seen++] == '\n') size = seen;
    }
    begin = (begin + size) % kBufferBytes;
    used -= size;
    return size;
  }
};

LineWriter::LineWriter(int descriptor, MakeNote make_note)
    : state_(std::make_shared<State>(descriptor, make_note)) {}

LineWriter::~LineWriter() {
  {
    MutexLock lock(state_->mutex);
    state_->closed = true;
  }
  state_->ready.notify_all();
}

Result<void> LineWriter::start() {
  auto thread = start_thread("log", [state = state_] { run(*state); });
  if (!thread) return failure(thread.error());
  thread->detach();
  return {};
}

void LineWriter::put(std::string_view line, bool urgent) {
  line = line.substr(0, kMaxLine);
  const size_t size = line.size() + 1;
  const size_t limit = urgent ? kBufferBytes : kBufferBytes - kReservedBytes;
  {
    MutexLock lock(state_->mutex);
    if (state_->used + size > limit) {
      ++state_->dropped;
      return;
    }
    state_->append(line);
    state_->append("\n");
    state_->queued += size;
  }
  state_->ready.notify_one();
}

void LineWriter::run(State& state) {
  char chunk[kMaxLine + 1];
  uint64_t reported = 0;
  while (true) {
    size_t size = 0;
    {
      MutexLock lock(state.mutex);
      while (state.used == 0 && !state.closed) state.ready.wait(lock);
      if (state.closed) return;
      size = state.take(chunk);
    }
    const bool written = write_all_waiting(state.descriptor, {chunk, size});
    if (!written) state.dropped += static_cast<uint64_t>(std::count(chunk, chunk + size, '\n'));
    // Behind the lines that were queued before those that were dropped.
    const uint64_t dropped = state.dropped;
    if (written && dropped > reported && state.finished + size == state.queued) {
      write_all_waiting(state.descriptor, state.make_note(dropped - reported) + "\n");
      reported = dropped;
    }
    state.finished += size;
  }
}

bool LineWriter::finish_until(Time deadline) const {
  const uint64_t goal = state_->queued;
  while (state_->finished < goal) {
    if (read_clocks().time >= deadline) return false;
    const timespec pause{0, kPollNs};
    ::nanosleep(&pause, nullptr);
  }
  return true;
}

uint64_t LineWriter::dropped() const { return state_->dropped; }

void write_until(int descriptor, std::string_view bytes, Time deadline) {
  while (!bytes.empty()) {
    const int64_t left_ms = (deadline - read_clocks().time) / std::chrono::milliseconds(1);
    pollfd ready{descriptor, POLLOUT, 0};
    const int events = ::poll(&ready, 1, static_cast<int>(std::clamp<int64_t>(left_ms, 0, 1000)));
    if (events < 0 && errno != EINTR) return;
    if (events <= 0) {
      if (left_ms <= 0) return;
      continue;
    }
    // A pipe that is writable has room for this much.
    const ssize_t written =
        ::write(descriptor, bytes.data(), std::min<size_t>(bytes.size(), PIPE_BUF));
    if (written < 0 && errno != EINTR && errno != EAGAIN) return;
    if (written > 0) bytes.remove_prefix(static_cast<size_t>(written));
  }
}

}  // namespace connectd
