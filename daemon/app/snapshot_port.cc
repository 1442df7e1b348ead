#include "app/snapshot_port.h"

#include <algorithm>
#include <filesystem>

#include "base/thread.h"
#include "plugin/crash.h"

namespace connectd::app {
namespace {

tl::unexpected<admin::SnapshotRefusal> overloaded() {
  return refusal(429, "OVERLOADED", "too many snapshots are being read; try again");
}

// As the store names its files; nothing else can be read.
bool is_snapshot_name(std::string_view name) {
  constexpr std::string_view kSuffix = ".snapshot";
  return name.size() > kSuffix.size() && name.ends_with(kSuffix) &&
         name.substr(0, name.size() - kSuffix.size()).find_first_not_of("0123456789abcdef-") ==
             std::string_view::npos;
}

}  // namespace

tl::unexpected<admin::SnapshotRefusal> refusal(int http_status, std::string code,
                                               std::string text) {
  return tl::unexpected(admin::SnapshotRefusal{http_status, std::move(code), std::move(text)});
}

SnapshotPort::SnapshotPort(storage::FileSystem& files, std::string directory)
    : files_(files), directory_(std::move(directory)) {}

Result<void> SnapshotPort::start() {
  auto thread = start_thread("snapshot file", [this] { run(); });
  if (!thread) return failure(thread.error());
  thread_ = std::move(*thread);
  return {};
}

SnapshotPort::~SnapshotPort() {
  queue_.close();
  if (thread_.joinable()) thread_.join();
}

bool SnapshotPort::submit(Task task) { return queue_.push(std::move(task)); }

void SnapshotPort::list(admin::SnapshotList list,
                        const admin::SnapshotDone<admin::SnapshotList>& done) {
  const bool taken = submit([this, list = std::move(list), done]() mutable {
    for (admin::SnapshotList::Listed& snapshot : list.snapshots) {
      std::error_code ec;
      auto written = std::filesystem::last_write_time(directory_ + "/" + snapshot.name, ec);
      if (ec) continue;
      auto age = std::filesystem::file_time_type::clock::now() - written;
      snapshot.age_seconds =
          std::max<int64_t>(0, std::chrono::duration_cast<std::chrono::seconds>(age).count());
    }
    done(std::move(list));
  });
  if (!taken) done(overloaded());
}

void SnapshotPort::read(admin::SnapshotPiece piece, const admin::SnapshotDone<std::string>& done) {
  const bool taken = submit([this, piece = std::move(piece), done] { done(read_piece(piece)); });
  if (!taken) done(overloaded());
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

tl::expected<std::string, admin::SnapshotRefusal> SnapshotPort::read_piece(
    const admin::SnapshotPiece& piece) {
  auto reader = readers_.find(piece.name);
  if (reader == readers_.end()) {
    if (!is_snapshot_name(piece.name)) {
      return refusal(400, "REFUSED", "invalid snapshot name; use one as listed");
    }
    if (readers_.size() >= kMaxSnapshotReaders) {
      return refusal(429, "OVERLOADED",
                     fmt::format("{} snapshots are being read; try again when they are done",
                                 readers_.size()));
    }
    auto file = files_.open(directory_ + "/" + piece.name, storage::OpenMode::kRead);
    if (!file) {
      return refusal(file.error().kind == ErrorKind::kNotFound ? 404 : 500, "GONE",
                     fmt::format("{}; a newer snapshot may have replaced it: list them again",
                                 file.error().text));
    }
    reader = readers_.emplace(piece.name, Reader{std::move(*file)}).first;
  }
  reader->second.used = read_clocks().time;
  std::string bytes(piece.length, '\0');
  auto got = reader->second.file->read_at(piece.offset,
                                          {reinterpret_cast<uint8_t*>(bytes.data()), bytes.size()});
  if (!got) return refusal(500, "DISK", got.error().text);
  bytes.resize(*got);
  // The last piece, most likely.
  if (*got < piece.length) readers_.erase(reader);
  return bytes;
}

}  // namespace connectd::app
