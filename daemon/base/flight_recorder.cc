#include "base/flight_recorder.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>

#include "base/json_text.h"
#include "base/log_record.h"
#include "base/utc_text.h"
#include "base/version.h"

namespace connectd {
namespace {

constexpr size_t kChunkBytes = 8 << 10;  // on the stack of a signal handler
// Of an event whose text has to be escaped byte by byte, with what is around it.
constexpr size_t kEventBytesMax = 6 * FlightRecorder::kTextMax + 512;
static_assert(kEventBytesMax < kChunkBytes);

constexpr std::string_view kLevels[] = {"debug", "info", "warning", "error"};
constexpr std::string_view kFates[] = {"written", "below_level", "suppressed"};

constinit FlightRecorder g_recorder;

struct Paths {
  std::string asked;
  std::string asked_part;
  std::string crash;
  std::string crash_part;
  pid_t process;
  const Paths* former;  // kept: a signal handler may be reading it
};
std::atomic<const Paths*> g_paths{nullptr};  // lives as long as the process

bool write_all(int descriptor, std::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t written = ::write(descriptor, bytes.data(), bytes.size());
    if (written < 0 && errno != EINTR) return false;
    if (written > 0) bytes.remove_prefix(static_cast<size_t>(written));
  }
  return true;
}

}  // namespace

void FlightRecorder::record(const Entry& entry) {
  const uint64_t number = next_.fetch_add(1, std::memory_order_relaxed) + 1;
  Slot& slot = slots_[(number - 1) % kEvents];
  // A writer that has slept through a whole round, or one that this one interrupted in a signal
  // handler, keeps its slot.
  const uint64_t before = slot.number.exchange(kBusy, std::memory_order_acquire);
  if (before == kBusy) return;
  if (before > number) {  // this one has slept so long
    slot.number.store(before, std::memory_order_release);
    return;
  }
  // A reader that sees one of these sees that the slot is busy, or more.
  constexpr auto kAfter = std::memory_order_release;
  const std::string_view text = entry.text.substr(0, kTextMax);
  slot.wall_ns.store(entry.wall_ns, kAfter);
  slot.facts.store(static_cast<uint64_t>(entry.event) | static_cast<uint64_t>(entry.level) << 16 |
                       static_cast<uint64_t>(entry.fate) << 24 | uint64_t{text.size()} << 32,
                   kAfter);
  for (size_t at = 0; at < text.size(); at += sizeof(uint64_t)) {
    uint64_t word = 0;
    std::memcpy(&word, text.data() + at, std::min(sizeof word, text.size() - at));
    slot.text[at / sizeof word].store(word, kAfter);
  }
  slot.number.store(number, std::memory_order_release);
}

bool FlightRecorder::read(uint64_t number, Copy& copy) const {
  const Slot& slot = slots_[(number - 1) % kEvents];
  if (slot.number.load(std::memory_order_acquire) != number) return false;
  const uint64_t facts = slot.facts.load(std::memory_order_acquire);
  copy.entry.wall_ns = slot.wall_ns.load(std::memory_order_acquire);
  for (size_t i = 0; i < kWords; ++i) copy.text[i] = slot.text[i].load(std::memory_order_acquire);
  if (slot.number.load(std::memory_order_relaxed) != number) return false;
  copy.entry.event = static_cast<LogEvent>(facts & 0xffff);
  copy.entry.level = static_cast<LogLevel>(facts >> 16 & 0xff);
  copy.entry.fate = static_cast<FlightFate>(facts >> 24 & 0xff);
  copy.entry.text = {reinterpret_cast<const char*>(copy.text.data()),
                     std::min<size_t>(facts >> 32, kTextMax)};
  return true;
}

bool FlightRecorder::write_to(int descriptor, std::string_view reason) const {
  char chunk[kChunkBytes];
  JsonText json(chunk, sizeof chunk);
  const uint64_t last = recorded();
  json.raw("{\"format\":1,\"connectd\":")
      .string(kVersion, 64)
      .raw(",\"pid\":")
      .number(static_cast<uint64_t>(::getpid()))
      .raw(",")
      .raw(log_origin())
      .raw("\"time\":\"")
      .raw(UtcText(read_clocks().wall_ns).view())
      .raw("\",\"reason\":")
      .string(reason, 200)
      .raw(",\"recorded\":")
      .number(last)
      .raw(",\"events\":[");
  bool is_first = true;
  Copy copy;
  for (uint64_t number = last > kEvents ? last - kEvents + 1 : 1; number <= last; ++number) {
    if (!read(number, copy)) continue;
    const LogEventRow& row = row_of(copy.entry.event);
    if (json.room() < kEventBytesMax) {
      if (!write_all(descriptor, json.view())) return false;
      json.clear();
    }
    json.raw(is_first ? "\n{\"number\":" : ",\n{\"number\":")
        .number(number)
        .raw(",\"time\":\"")
        .raw(UtcText(copy.entry.wall_ns).view())
        .raw("\",\"level\":\"")
        .raw(kLevels[static_cast<size_t>(copy.entry.level) % std::size(kLevels)])
        .raw("\",\"event\":\"")
        .raw(row.name)
        .raw("\",\"area\":\"")
        .raw(row.area)
        .raw("\",\"fate\":\"")
        .raw(kFates[static_cast<size_t>(copy.entry.fate) % std::size(kFates)])
        .raw("\"");
    if (!copy.entry.text.empty()) {
      json.raw(",\"message\":").string(copy.entry.text, 6 * kTextMax);
    }
    json.raw("}");
    is_first = false;
  }
  json.raw("\n]}\n");
  return write_all(descriptor, json.view());
}

FlightRecorder& flight_recorder() { return g_recorder; }

void set_flight_directory(std::string_view directory) {
  const std::string base(directory);
  g_paths = new Paths{base + "/flight.json",
                      base + "/flight.json.part",
                      base + "/flight-crash.json",
                      base + "/flight-crash.json.part",
                      ::getpid(),
                      g_paths.load()};
}

const char* write_flight_file(FlightFile file, std::string_view reason) {
  const Paths* paths = g_paths.load();
  if (paths == nullptr || paths->process != ::getpid()) return nullptr;
  const bool is_crash = file == FlightFile::kCrash;
  const char* part = (is_crash ? paths->crash_part : paths->asked_part).c_str();
  const char* path = (is_crash ? paths->crash : paths->asked).c_str();
  const int descriptor =
      ::open(part, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, S_IRUSR | S_IWUSR);
  if (descriptor < 0) return nullptr;
  const bool is_written = g_recorder.write_to(descriptor, reason);
  const int error = errno;
  ::close(descriptor);
  if (is_written && ::rename(part, path) == 0) return path;
  if (!is_written) errno = error;
  return nullptr;
}

}  // namespace connectd
