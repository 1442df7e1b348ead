// A file system that counts what is read of a node's log and snapshots, for those who watch how far
// a start has come, and that can make all further reads fail, to end it. Everything goes through to
// the file system under it.
//
// Any thread.
#pragma once

#include <array>
#include <atomic>
#include <memory>

#include "storage/file_system.h"

namespace connectd::storage {

// By the directory that a file is in: DATA_DIR/log, DATA_DIR/snapshots, or another.
enum class WatchedPart : uint8_t { kLog, kSnapshots, kOther };

class WatchedFileSystem final : public FileSystem {
 public:
  explicit WatchedFileSystem(std::unique_ptr<FileSystem> under) : under_(std::move(under)) {}

  uint64_t bytes_read(WatchedPart part) const {
    return counters_->bytes[static_cast<size_t>(part)].load(std::memory_order_relaxed);
  }
  // From now on reads fail with kCancelled.
  void cancel_reads() { counters_->cancelled = true; }

  Result<std::unique_ptr<File>> open(const std::string& path, OpenMode mode) override;
  Result<void> rename(const std::string& from, const std::string& to) override {
    return under_->rename(from, to);
  }
  Result<void> remove(const std::string& path) override { return under_->remove(path); }
  Result<void> sync_directory(const std::string& path) override {
    return under_->sync_directory(path);
  }
  Result<void> make_directory(const std::string& path) override {
    return under_->make_directory(path);
  }
  Result<std::vector<std::string>> list(const std::string& path) override {
    return under_->list(path);
  }
  Result<bool> exists(const std::string& path) override { return under_->exists(path); }
  Result<uint64_t> free_bytes(const std::string& path) override { return under_->free_bytes(path); }
  Result<std::unique_ptr<FileLock>> lock(const std::string& path) override {
    return under_->lock(path);
  }

  struct Counters {
    std::array<std::atomic<uint64_t>, 3> bytes{};
    std::atomic<bool> cancelled{false};
  };

 private:
  const std::unique_ptr<FileSystem> under_;
  const std::shared_ptr<Counters> counters_ = std::make_shared<Counters>();
};

}  // namespace connectd::storage
