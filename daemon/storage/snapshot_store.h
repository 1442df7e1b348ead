// Snapshot files of one node, in one directory: taken here or received from the leader,
// checksummed, compressed, published whole. A file has its final name only when all of it is
// durable; temporary files are removed at open(). The newest valid one counts: a damaged one is
// skipped, loudly.
//
// One that is being received is kept across restarts, as a file whose name says which snapshot file
// it is a part of; at most one is.
//
// A snapshot is: the mark (last index and term it covers), metadata (opaque bytes of the node, in
// one piece: sessions, membership, settings, digest), and the plugin's bytes as a stream. None of
// it is held in memory whole. The bytes are in docs/storage-format.md and
// storage/snapshot_format.h.
//
// Threads: the store and what it hands out may be used from different threads; each Writer, Reader,
// Source and Receiver by one at a time.
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
inline constexpr size_t kSnapshotChunkBytes = 256 << 10;  // of the stream, before compression

struct SnapshotOptions {
  size_t keep = 2;            // published files; at least 1
  int compression_level = 1;  // zstd; 0: stored as they are
  // Plain bytes of a block, at most kSnapshotChunkBytes: what can be checked by itself.
  size_t block_bytes = kSnapshotChunkBytes;
};

struct SnapshotInfo {
  raft::SnapshotMark mark;
  uint64_t file_bytes = 0;
  std::string name;  // in the directory
};

// Takes a snapshot's bytes. Destroyed before finish(): nothing is left of it.
class SnapshotWriter {
 public:
  virtual ~SnapshotWriter() = default;
  virtual Result<void> write(ByteView bytes) = 0;
  // Publishes it, durably, and drops what is over SnapshotOptions::keep.
  virtual Result<SnapshotInfo> finish() = 0;
};

// Gives them back. Every byte was verified before open_*() returned, and is verified again as it is
// read.
class SnapshotReader {
 public:
  virtual ~SnapshotReader() = default;
  virtual const SnapshotInfo& info() const = 0;
  virtual const std::string& metadata() const = 0;
  // Of the whole stream, uncompressed: the plugin is told before it reads the first byte.
  virtual uint64_t stream_bytes() const = 0;
  // The next bytes of the stream; 0: the end.
  virtual Result<size_t> read(std::span<uint8_t> to) = 0;
};

// The file as it is, for streaming to a follower. Stays readable when the store drops the file.
class SnapshotSource {
 public:
  virtual ~SnapshotSource() = default;
  virtual const SnapshotInfo& info() const = 0;
  virtual const wire::SnapshotFile& file() const = 0;
  // `length` bytes from `offset`, fewer at the end of the file.
  virtual Result<Slice> read(uint64_t offset, size_t length) const = 0;
};

// Receives a file as a SnapshotSource gave it. Destroyed: what came stays, for the next receiver of
// the same file.
class SnapshotReceiver {
 public:
  virtual ~SnapshotReceiver() = default;
  virtual const wire::SnapshotFile& file() const = 0;
  virtual uint64_t received() const = 0;  // bytes from the start of the file
  // Chunks in order. One that was received already is ignored; a gap is an error (kCorrupt).
  virtual Result<void> write(uint64_t offset, ByteView bytes) = 0;
  // All bytes are there: reads every one of them. kCorrupt when they are not the snapshot that was
  // announced.
  virtual Result<std::unique_ptr<SnapshotReader>> verify() = 0;
  // After verify(): durable, and under its name.
  virtual Result<SnapshotInfo> publish() = 0;
  // Nothing is left of it.
  virtual void discard() = 0;
};

class SnapshotStore {
 public:
  virtual ~SnapshotStore() = default;
  SnapshotStore(const SnapshotStore&) = delete;
  SnapshotStore& operator=(const SnapshotStore&) = delete;

  // Creates the directory when it is missing; removes half-written files. The store must outlive
  // what it hands out.
  static Result<std::unique_ptr<SnapshotStore>> open(FileSystem& files, std::string directory,
                                                     SnapshotOptions options);

  // Published files, newest first. Their names only: nothing is verified.
  virtual std::vector<SnapshotInfo> list() const = 0;

  virtual Result<std::unique_ptr<SnapshotWriter>> begin(raft::SnapshotMark mark,
                                                        ByteView metadata) = 0;
  // Continues where an earlier receiver of this very file ended, with what is whole of it: each
  // block is checked, and what a power cut left half-written does not count. A part of another file
  // is removed. One at a time.
  virtual Result<std::unique_ptr<SnapshotReceiver>> receive(const wire::SnapshotFile& file) = 0;
  // What is there in part, from this life or an earlier one.
  virtual std::optional<wire::SnapshotFile> partial() const = 0;
  // Removes it. Without a receiver of it.
  virtual void drop_partial() = 0;
  // kNotFound when there is none; kCorrupt when it is damaged.
  virtual Result<std::unique_ptr<SnapshotReader>> open_reader(raft::SnapshotMark mark) = 0;
  // Null when there is no snapshot. A damaged one is skipped, with a line in `warnings`; when there
  // are only damaged ones: kCorrupt.
  virtual Result<std::unique_ptr<SnapshotReader>> open_newest(
      std::vector<std::string>& warnings) = 0;
  // Verified first, all of it: a follower would refuse a damaged one again and again. kCorrupt
  // then.
  virtual Result<std::unique_ptr<SnapshotSource>> open_source(raft::SnapshotMark mark) = 0;

 protected:
  SnapshotStore() = default;
};

// Reads one file from outside (connectctl inspect snapshot), verifying all of it.
struct SnapshotContent {
  SnapshotInfo info;
  std::string writer;  // program and version that took it
  uint64_t metadata_bytes = 0;
  uint64_t stream_bytes = 0;  // of the plugin, uncompressed
  uint64_t chunks = 0;
};
// `metadata`: where to put that; may be null.
Result<SnapshotContent> inspect_snapshot(FileSystem& files, const std::string& path,
                                         std::string* metadata = nullptr);
// The same for who wants what is in it. As SnapshotStore::open_reader().
Result<std::unique_ptr<SnapshotReader>> open_snapshot_file(FileSystem& files,
                                                           const std::string& path);

}  // namespace connectd::storage
