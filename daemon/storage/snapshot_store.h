// The snapshot files of one node, in one directory: taken here or received from the leader,
// checksummed and compressed. A file gets its final name only when all of it is durable; open()
// removes temporary files. The newest valid file is used; damaged ones are skipped with a warning.
//
// At most one partially received file is kept across restarts; its name identifies the snapshot
// file that it is a part of.
//
// A snapshot consists of the mark (last index and term it covers), metadata (opaque bytes of the
// node: sessions, membership, settings, digest), and the plugin's bytes as a stream, which is never
// in memory as a whole. The format is in docs/storage-format.md and storage/snapshot_format.h.
//
// Threads: the store and the objects that it returns may be used from different threads; each
// Writer, Reader, Source and Receiver by one at a time.
#pragma once

#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/bytes.h"
#include "base/error.h"
#include "raft/types.h"
#include "storage/file_system.h"
#include "wire/snapshot_file.h"

namespace connectd::storage {

inline constexpr size_t kMaxSnapshotMetadataBytes = 256 << 20;
inline constexpr size_t kSnapshotChunkBytes = 256 << 10;  // of the stream, uncompressed

struct SnapshotOptions {
  size_t keep = 2;            // published files; at least 1
  int compression_level = 1;  // zstd; 0: uncompressed
  // Uncompressed bytes of a block, the unit of verification; at most kSnapshotChunkBytes.
  size_t block_bytes = kSnapshotChunkBytes;
};

struct SnapshotInfo {
  raft::SnapshotMark mark;
  uint64_t file_bytes = 0;
  std::string name;  // in the directory
};

// Writes a snapshot. If destroyed before finish(), no file remains.
class SnapshotWriter {
 public:
  virtual ~SnapshotWriter() = default;
  virtual Result<void> write(ByteView bytes) = 0;
  // Publishes it durably, and removes the oldest files over SnapshotOptions::keep.
  virtual Result<SnapshotInfo> finish() = 0;
};

// Reads a snapshot. open_*() verified every byte before it returned; each is verified again when it
// is read.
class SnapshotReader {
 public:
  virtual ~SnapshotReader() = default;
  virtual const SnapshotInfo& info() const = 0;
  virtual const std::string& metadata() const = 0;
  // Of the whole stream, uncompressed: the plugin gets this number before it reads.
  virtual uint64_t stream_bytes() const = 0;
  // The next bytes of the stream; 0: the end.
  virtual Result<size_t> read(std::span<uint8_t> to) = 0;
};

// The raw file, for streaming to a follower. Remains readable after the store removes the file.
class SnapshotSource {
 public:
  virtual ~SnapshotSource() = default;
  virtual const SnapshotInfo& info() const = 0;
  virtual const wire::SnapshotFile& file() const = 0;
  // `length` bytes from `offset`, fewer at the end of the file.
  virtual Result<Slice> read(uint64_t offset, size_t length) const = 0;
};

// Receives the raw file of a SnapshotSource. When destroyed, the received part stays for the next
// receiver of the same file.
class SnapshotReceiver {
 public:
  virtual ~SnapshotReceiver() = default;
  virtual const wire::SnapshotFile& file() const = 0;
  virtual uint64_t received() const = 0;  // bytes from the start of the file
  // Chunks in order. A chunk that was already received is ignored; a gap is an error (kCorrupt).
  virtual Result<void> write(uint64_t offset, ByteView bytes) = 0;
  // Once all bytes are received: reads and checks all of them. kCorrupt when they are not the
  // announced snapshot.
  virtual Result<std::unique_ptr<SnapshotReader>> verify() = 0;
  // After verify(): makes it durable under its final name.
  virtual Result<SnapshotInfo> publish() = 0;
  // Removes the received part.
  virtual void discard() = 0;
};

class SnapshotStore {
 public:
  virtual ~SnapshotStore() = default;
  SnapshotStore(const SnapshotStore&) = delete;
  SnapshotStore& operator=(const SnapshotStore&) = delete;

  // Creates the directory if it is missing; removes half-written files. The store must outlive the
  // objects that it returns.
  static Result<std::unique_ptr<SnapshotStore>> open(FileSystem& files, std::string directory,
                                                     SnapshotOptions options);

  // Published files, newest first. Only their names are read; nothing is verified.
  virtual std::vector<SnapshotInfo> list() const = 0;

  virtual Result<std::unique_ptr<SnapshotWriter>> begin(raft::SnapshotMark mark,
                                                        ByteView metadata) = 0;
  // Continues after the complete blocks of an earlier receiver of the same file: each block is
  // checked, and blocks that a power cut left half-written are dropped. A part of another file is
  // removed. One at a time.
  virtual Result<std::unique_ptr<SnapshotReceiver>> receive(const wire::SnapshotFile& file) = 0;
  // The partially received file, from this run or an earlier one.
  virtual std::optional<wire::SnapshotFile> partial() const = 0;
  // Removes it. There must be no receiver of it.
  virtual void drop_partial() = 0;
  // kNotFound when it does not exist; kCorrupt when it is damaged.
  virtual Result<std::unique_ptr<SnapshotReader>> open_reader(raft::SnapshotMark mark) = 0;
  // Null when there is no snapshot. Damaged ones are skipped, each with a line in `warnings`;
  // kCorrupt when all are damaged.
  virtual Result<std::unique_ptr<SnapshotReader>> open_newest(
      std::vector<std::string>& warnings) = 0;
  // Verifies the whole file first, because a follower would reject a damaged one again and again:
  // kCorrupt.
  virtual Result<std::unique_ptr<SnapshotSource>> open_source(raft::SnapshotMark mark) = 0;

 protected:
  SnapshotStore() = default;
};

// Reads and verifies a whole file (connectctl inspect snapshot).
struct SnapshotContent {
  SnapshotInfo info;
  std::string writer;  // program and version that took it
  uint64_t metadata_bytes = 0;
  uint64_t stream_bytes = 0;  // of the plugin, uncompressed
  uint64_t chunks = 0;
};
// `metadata`: receives the metadata; may be null.
Result<SnapshotContent> inspect_snapshot(FileSystem& files, const std::string& path,
                                         std::string* metadata = nullptr);
// Opens a file for its contents. Errors as SnapshotStore::open_reader().
Result<std::unique_ptr<SnapshotReader>> open_snapshot_file(FileSystem& files,
                                                           const std::string& path);

}  // namespace connectd::storage
