// A read-only view of a data directory as a starting node would see it, for `connectctl recover`,
// which must know how a log ends before it changes anything.
//
// Reads go through; all changes are accepted and dropped. That is enough to open a log or a
// snapshot store: recovery writes only bytes that exist already, zeros after the log's end, a seal,
// and new or removed files that it does not read again.
//
// Any thread. It must not outlive `under`.
#pragma once

#include "storage/file_system.h"

namespace connectd::storage {

class PreviewFileSystem final : public FileSystem {
 public:
  explicit PreviewFileSystem(FileSystem& under) : under_(under) {}

  Result<std::unique_ptr<File>> open(const std::string& path, OpenMode mode) override;
  Result<void> rename(const std::string&, const std::string&) override { return {}; }
  Result<void> remove(const std::string&) override { return {}; }
  Result<void> sync_directory(const std::string&) override { return {}; }
  Result<void> make_directory(const std::string&) override { return {}; }
  // A missing directory is listed as empty, as if it had just been created.
  Result<std::vector<std::string>> list(const std::string& path) override;
  Result<bool> exists(const std::string& path) override { return under_.exists(path); }
  Result<uint64_t> free_bytes(const std::string& path) override { return under_.free_bytes(path); }
  Result<std::unique_ptr<FileLock>> lock(const std::string& path) override {
    return under_.lock(path);
  }

 private:
  FileSystem& under_;
};

}  // namespace connectd::storage
