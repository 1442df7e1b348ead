// The interface to the disk. Production uses RealFileSystem; tests and the simulator use a fake
// that loses unsynced data (sim/faulty_file_system.h).
//
// Every error names the operation, the path, and the operating system's reason. Kinds: kNotFound
// when the path does not exist, kPermission when access is denied, kNoSpace when the disk or a
// quota is full, kNoDescriptors when the process or the machine has none left, kSyncFailed for
// other failed syncs, kWrongData when a directory, a link to nothing, or the like has the name of a
// file (or the reverse), kDisk for everything else. Nothing is retried except interrupted calls and
// short writes.
//
// What runs short of descriptors changes nothing: only open() and list() need one. A directory that
// make_directory() was called for stays open, so that sync_directory() needs none.
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
  // Writes all bytes, or returns an error (then any part of them may be written).
  virtual Result<void> write_at(uint64_t offset, ByteView bytes) = 0;
  // Writes real zeros from `offset` on: later writes there need no new metadata.
  virtual Result<void> fill_zeros(uint64_t offset, uint64_t bytes) = 0;
  // Makes content and size durable. After an error, nothing is known about the writes since the
  // last success, not even if a retry succeeds.
  virtual Result<void> sync() = 0;
  virtual Result<uint64_t> size() const = 0;
};

// Held until destroyed. Not inherited by a forked child.
class FileLock {
 public:
  virtual ~FileLock() = default;
};

enum class OpenMode : uint8_t {
  kRead,    // must exist
  kWrite,   // must exist; read and write
  kCreate,  // read and write; created, or truncated if it exists
};

// Any thread. Paths are as given: '/' separates, none is resolved.
class FileSystem {
 public:
  virtual ~FileSystem() = default;
  virtual Result<std::unique_ptr<File>> open(const std::string& path, OpenMode mode) = 0;
  // Replaces `to` if it exists. Durable after sync_directory().
  virtual Result<void> rename(const std::string& from, const std::string& to) = 0;
  virtual Result<void> remove(const std::string& path) = 0;
  // Makes the names in the directory durable.
  virtual Result<void> sync_directory(const std::string& path) = 0;
  // Also creates missing parents (mode 0750), and syncs each new name; no error if it exists.
  virtual Result<void> make_directory(const std::string& path) = 0;
  // Names (not paths) of the files in it, sorted; without "." and "..".
  virtual Result<std::vector<std::string>> list(const std::string& path) = 0;
  virtual Result<bool> exists(const std::string& path) = 0;
  // Bytes that this process can still write there.
  virtual Result<uint64_t> free_bytes(const std::string& path) = 0;
  // Creates the file if it is missing. kLocked, with the holder's process id if known, when another
  // process or this one holds it.
  virtual Result<std::unique_ptr<FileLock>> lock(const std::string& path) = 0;
};

// POSIX. Create only one in a process: two would not see each other's locks.
std::unique_ptr<FileSystem> make_real_file_system();

// The error kind for an errno value; `otherwise` for unlisted values. Any thread.
ErrorKind io_error_kind(int error_number, ErrorKind otherwise);

// Reads the whole file; an error if it is larger than `limit` bytes. kNotFound when it does not
// exist.
Result<std::string> read_file(FileSystem& files, const std::string& path, size_t limit);
// Writes a temporary file, syncs it, renames it, and syncs the directory. After success the new
// content is durable; after a crash the file has the old or the new content. `directory` must
// exist.
Result<void> replace_file(FileSystem& files, const std::string& directory, const std::string& name,
                          ByteView content);

}  // namespace connectd::storage
