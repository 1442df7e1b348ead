#include "plugin/file_watch.h"

#include <sys/stat.h>

#include <atomic>
#include <cerrno>
#include <chrono>
#include <string>

#include "base/bytes.h"
#include "base/log_event.h"
#include "base/mutex.h"
#include "base/sha256.h"
#include "base/thread.h"
#include "plugin/file.h"

namespace connectd::plugin {

enum class SeenFile : uint8_t { kAsLoaded, kChanged, kRemoved };

struct FileWatch::State {
  State(LoadedFile from, std::string plugin, Duration between)
      : file(std::move(from)), name(std::move(plugin)), interval(between), stamp(file.stamp) {}

  const LoadedFile file;
  const std::string name;
  const Duration interval;
  std::atomic<SeenFile> seen{SeenFile::kAsLoaded};
  FileStamp stamp;  // the thread's: of the file that was compared last

  Mutex mutex;
  Condition stop;
  bool stopped GUARDED_BY(mutex) = false;

  // May wait for a disk.
  SeenFile look() {
    struct stat status {};
    if (::stat(file.path.c_str(), &status) != 0) {
      // Else it cannot be looked at now, which is not news of the file.
      return errno == ENOENT || errno == ENOTDIR ? SeenFile::kRemoved : seen.load();
    }
    const FileStamp now = stamp_of(status);
    if (now == stamp && seen != SeenFile::kRemoved) return seen;
    FileStamp read;
    auto bytes = read_plugin_file(file.path, read, nullptr);
    if (!bytes) return SeenFile::kChanged;
    stamp = read;
    return sha256_hex(as_bytes(*bytes)) == file.sha256 ? SeenFile::kAsLoaded : SeenFile::kChanged;
  }
};

FileWatch::FileWatch(const Plugin& plugin, Duration interval)
    : state_(std::make_shared<State>(
          plugin.file(), fmt::format("{} {}", plugin.name(), plugin.version()), interval)) {}

Result<void> FileWatch::start() {
  if (state_->file.sha256.empty()) return {};  // built in
  auto thread = start_thread("plugin file", [state = state_] { run(*state); });
  if (!thread) return failure(thread.error());
  thread->detach();
  return {};
}

FileWatch::~FileWatch() {
  MutexLock lock(state_->mutex);
  state_->stopped = true;
  state_->stop.notify_all();
}

void FileWatch::run(State& state) {
  while (true) {
    {
      const auto next = std::chrono::steady_clock::now() + state.interval;
      MutexLock lock(state.mutex);
      while (!state.stopped && state.stop.wait_until(lock, next)) {
      }
      if (state.stopped) return;
    }
    const SeenFile seen = state.look();
    if (state.seen.exchange(seen) == seen) continue;
    if (seen == SeenFile::kAsLoaded) {
      log_event(LogEvent::kPluginFileRestored, "plugin file is the loaded one again path={}",
                state.file.path);
    } else {
      log_event(LogEvent::kPluginFileChanged,
                "plugin file {} since start path={} plugin={}: the loaded one is used until a "
                "restart",
                seen == SeenFile::kChanged ? "changed" : "removed", state.file.path, state.name);
    }
  }
}

std::string_view FileWatch::warning() const {
  switch (state_->seen) {
    case SeenFile::kChanged:
      return "file changed since start";
    case SeenFile::kRemoved:
      return "file removed since start";
    case SeenFile::kAsLoaded:
      break;
  }
  return "";
}

}  // namespace connectd::plugin
