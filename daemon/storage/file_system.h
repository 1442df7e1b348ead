// The interface to the disk. Production uses RealFileSystem; tests and the simulator use a double
// that loses what was not synced (sim/faulty_file_system.h).
//
// Every operation says in its error what it was, on which path, and the operating system's reason.
// Kinds: kNotFound when the path does not exist, kPermission when access is denied, kNoSpace when
// the disk or a quota is full, kSyncFailed for other syncs, kDisk for all else. Nothing is retried,
// but for interrupted calls and short writes.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/bytes.h"
#include "base/error.h"

namespace connectd::storage {

// One open file. Reads from any thread, concurrently with a write to other bytes; writes and syncs
// from one thread at a time. The file may be renamed or removed while it is open.
class File {
 public:
  virtual ~File() = default;
  // Fills `to` from `offset`; fewer bytes only at the end of the file.
  virtual Result<size_t> read_at(uint64_t offset, std::span<uint8_t> to) const = 0;
  // All bytes, or an error (then any part of them may be there).
  virtual Result<void> write_at(uint64_t offset, ByteView bytes) = 0;
  // Zeros from `offset` on, really written: later writes there need no new metadata.
  virtual Result<void> fill_zeros(uint64_t offset, uint64_t bytes) = 0;
  // Content and size are on the disk. After an error nothing may be assumed of what was written
  // since the last success, not even when a repetition succeeds.
  virtual Result<void> sync() = 0;
  virtual Result<uint64_t> size() const = 0;
};

// Held until destroyed. A forked child does not hold it.
class FileLock {
 public:
  virtual ~FileLock() = default;
};

enum class OpenMode : uint8_t {
  kRead,    // must exist
  kWrite,   // must exist; read and write
  kCreate,  // read and write; created, and emptied if it was there
};

// Any thread. Paths are as given: '/' separates, none is resolved.
class FileSystem {
 public:
  virtual ~FileSystem() = default;
  virtual Result<std::unique_ptr<File>> open(const std::string& path, OpenMode mode) = 0;
  // Replaces `to` if it exists. Durable after sync_directory().
  virtual Result<void> rename(const std::string& from, const std::string& to) = 0;
  virtual Result<void> remove(const std::string& path) = 0;
  // The names in the directory are on the disk.
  virtual Result<void> sync_directory(const std::string& path) = 0;
  // With all missing parents (mode 0750), and each new name synced; no error when it exists.
  virtual Result<void> make_directory(const std::string& path) = 0;
  // Names (not paths) of the files in it, sorted; without "." and "..".
  virtual Result<std::vector<std::string>> list(const std::string& path) = 0;
  virtual Result<bool> exists(const std::string& path) = 0;
  // Bytes that this process may still write there.
  virtual Result<uint64_t> free_bytes(const std::string& path) = 0;
  // Creates the file when it is missing. kLocked with the holder's process id, where it is known,
  // when another process, or this one, holds it.
  virtual Result<std::unique_ptr<FileLock>> lock(const std::string& path) = 0;
};

// POSIX. Two of them in one process do not know of each other's locks: have one.
std::unique_ptr<FileSystem> make_real_file_system();

// What went wrong by an errno value; `otherwise` where that does not tell. Any thread.
ErrorKind io_error_kind(int error_number, ErrorKind otherwise);

// Whole file, refused over `limit` bytes. kNotFound when it does not exist.
Result<std::string> read_file(FileSystem& files, const std::string& path, size_t limit);
// Temporary name, sync, rename, sync of the directory: after success the file is durably the new
// content, after a crash it is the old or the new one. `directory` must exist.
Result<void> replace_file(FileSystem& files, const std::string& directory, const std::string& name,
                          ByteView content);

}  // namespace connectd::storage
