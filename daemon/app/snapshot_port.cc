#include "app/snapshot_port.h"

#include <algorithm>
#include <filesystem>

#include "plugin/crash.h"

namespace connectd::app {
namespace {

admin::SnapshotAnswer refusal(int status, std::string code, std::string text) {
  admin::SnapshotAnswer answer;
  answer.status = status;
  answer.code = std::move(code);
  answer.text = std::move(text);
  return answer;
}

// As the store names its files; nothing else can be read.
bool is_snapshot_name(std::string_view name) {
  constexpr std::string_view kSuffix = ".snapshot";
  return name.size() > kSuffix.size() && name.ends_with(kSuffix) &&
         name.substr(0, name.size() - kSuffix.size()).find_first_not_of("0123456789abcdef-") ==
             std::string_view::npos;
}

}  // namespace

SnapshotPort::SnapshotPort(storage::FileSystem& files, std::string directory)
    : files_(files), directory_(std::move(directory)), thread_([this] { run(); }) {}

SnapshotPort::~SnapshotPort() {
  queue_.close();
  thread_.join();
}

void SnapshotPort::submit(Task task, const std::function<void(admin::SnapshotAnswer)>& done) {
  if (queue_.push(std::move(task))) return;
  done(refusal(429, "OVERLOADED", "too many snapshots are being read; try again"));
}

void SnapshotPort::list(admin::SnapshotAnswer listed,
                        std::function<void(admin::SnapshotAnswer)> done) {
  submit(
      [this, listed = std::move(listed), done]() mutable {
        for (admin::SnapshotAnswer::Listed& snapshot : listed.snapshots) {
          std::error_code ec;
          auto written = std::filesystem::last_write_time(directory_ + "/" + snapshot.name, ec);
          if (ec) continue;
          auto age = std::filesystem::file_time_type::clock::now() - written;
          snapshot.age_seconds =
              std::max<int64_t>(0, std::chrono::duration_cast<std::chrono::seconds>(age).count());
        }
        done(std::move(listed));
      },
      done);
}

void SnapshotPort::read(admin::SnapshotRequest request,
                        std::function<void(admin::SnapshotAnswer)> done) {
  submit([this, request = std::move(request), done] { done(read_piece(request)); }, done);
}

void SnapshotPort::run() {
  plugin::install_crash_stack();
  std::vector<Task> tasks;
  while (queue_.wait_and_drain_for(tasks, kSnapshotReaderIdle)) {
    for (Task& task : tasks) task();
    tasks.clear();
    close_idle();
  }
}

void SnapshotPort::close_idle() {
  const Time now = read_clocks().time;
  std::erase_if(readers_,
                [&](const auto& reader) { return now - reader.second.used > kSnapshotReaderIdle; });
}

admin::SnapshotAnswer SnapshotPort::read_piece(const admin::SnapshotRequest& request) {
  auto reader = readers_.find(request.name);
  if (reader == readers_.end()) {
    if (!is_snapshot_name(request.name)) {
      return refusal(400, "REFUSED", "that is no name of a snapshot, as listed");
    }
    if (readers_.size() >= kMaxSnapshotReaders) {
      return refusal(429, "OVERLOADED",
                     fmt::format("{} snapshots are being read; try again when they are over",
                                 readers_.size()));
    }
    auto file = files_.open(directory_ + "/" + request.name, storage::OpenMode::kRead);
    if (!file) {
      return refusal(file.error().code == ExitCode::kNoInput ? 404 : 500, "GONE",
                     fmt::format("{}; newer ones take the place of older ones: list them again",
                                 file.error().text));
    }
    reader = readers_.emplace(request.name, Reader{std::move(*file)}).first;
  }
  reader->second.used = read_clocks().time;
  admin::SnapshotAnswer answer;
  answer.bytes.resize(request.length);
  auto got = reader->second.file->read_at(
      request.offset, {reinterpret_cast<uint8_t*>(answer.bytes.data()), answer.bytes.size()});
  if (!got) return refusal(500, "DISK", got.error().text);
  answer.bytes.resize(*got);
  // The last piece, most likely.
  if (*got < request.length) readers_.erase(reader);
  return answer;
}

}  // namespace connectd::app
