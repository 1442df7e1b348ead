#include "storage/watched_file_system.h"

#include <string_view>

namespace connectd::storage {
namespace {

WatchedPart part_of(std::string_view path) {
  const size_t slash = path.rfind('/');
  const std::string_view directory = path.substr(0, slash == std::string_view::npos ? 0 : slash);
  if (directory.ends_with("/log")) return WatchedPart::kLog;
  if (directory.ends_with("/snapshots")) return WatchedPart::kSnapshots;
  return WatchedPart::kOther;
}

class WatchedFile final : public File {
 public:
  WatchedFile(std::unique_ptr<File> under, std::string path,
              std::shared_ptr<WatchedFileSystem::Counters> counters)
      : under_(std::move(under)),
        path_(std::move(path)),
        counters_(std::move(counters)),
        bytes_(counters_->bytes[static_cast<size_t>(part_of(path_))]) {}

  Result<size_t> read_at(uint64_t offset, std::span<uint8_t> to) const override {
    if (counters_->cancelled.load(std::memory_order_relaxed)) {
      return failure(ErrorKind::kCancelled, "reading " + path_ + " was cancelled");
    }
    auto read = under_->read_at(offset, to);
    if (read) bytes_.fetch_add(*read, std::memory_order_relaxed);
    return read;
  }
  Result<void> write_at(uint64_t offset, ByteView bytes) override {
    return under_->write_at(offset, bytes);
  }
  Result<void> fill_zeros(uint64_t offset, uint64_t bytes) override {
    return under_->fill_zeros(offset, bytes);
  }
  Result<void> sync() override { return under_->sync(); }
  Result<uint64_t> size() const override { return under_->size(); }

 private:
  const std::unique_ptr<File> under_;
  const std::string path_;
  const std::shared_ptr<WatchedFileSystem::Counters> counters_;
  std::atomic<uint64_t>& bytes_;
};

}  // namespace

Result<std::unique_ptr<File>> WatchedFileSystem::open(const std::string& path, OpenMode mode) {
  auto file = under_->open(path, mode);
  if (!file) return file;
  return std::make_unique<WatchedFile>(std::move(*file), path, counters_);
}

}  // namespace connectd::storage
