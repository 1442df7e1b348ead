// The write-ahead log of one node: entries and hard state, in the segment files of one directory.
//
// Guarantees. When append() returns, its batches are durable (with LogOptions::sync). Synced bytes
// are never overwritten: truncation is logical; the batch that replaces a suffix is appended after
// it and takes precedence at recovery. Damage in the durable part is an error and is never skipped;
// an incomplete end is cut, with a warning. After the first failed write or sync the log accepts
// nothing more, because the contents of the disk are unknown until the next open().
//
// A full disk is different. Segments are filled with zeros ahead of use, so only a new segment
// needs space, and failing to create one does no harm. One spare segment, the reserve, is kept for
// a full disk, and the log continues in it. A lack of descriptors is treated as a lack of space: a
// new segment needs one, and only kOpenSegments of the others stay open. While the reserve is used
// up (has_reserve() is false), the owner may append only what elections need; when even the reserve
// is full, append() returns kNoSpace (or kNoDescriptors) and accepts the same batches again later.
// The reserve is created again when there is space.
//
// Threads: append(), seal_if_idle() and reset() run on the writer thread. prepare_next_segment()
// and compact() each run on one other thread. read() and the getters: any thread. A mutex guards
// the list of segments and the sparse index; it is never held during a disk operation.
//
// The format is in docs/storage-format.md and storage/format.h.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/clock.h"
#include "base/error.h"
#include "raft/types.h"
#include "storage/file_system.h"

namespace connectd::storage {

// So many segments stay open, the newest ones: the others are opened for each read().
inline constexpr size_t kOpenSegments = 4;
inline constexpr uint64_t kMinSegmentBytes = 4096;
inline constexpr uint64_t kMaxSegmentBytes = uint64_t{4} << 30;
// The size of a segment created while append() waits (the first one, or when there is no spare):
// small, so that filling it with zeros is quick.
inline constexpr uint64_t kQuickSegmentBytes = 4 << 20;
// The size of the reserve, or segment_bytes if that is smaller.
inline constexpr uint64_t kReserveBytes = kQuickSegmentBytes;
// Seal this long after the last batch.
inline constexpr Duration kSealAfter = std::chrono::milliseconds(100);

struct LogOptions {
  uint64_t segment_bytes = 64 << 20;
  bool sync = true;  // false: for experiments only; what append() wrote may be lost
};

// An argument of append(): the hard state, and entries that follow the log's end or, with
// `replaces_from`, replace everything from that index on. `entries` begin at `replaces_from` if it
// is given and not above the last index, otherwise right after the last index; they may be empty.
// Their checksums must be correct.
struct LogBatch {
  raft::HardState hard_state;
  std::optional<Index> replaces_from;
  std::span<const raft::Entry> entries;
};

// An entry that the node needs before it applies anything.
struct RecoveredEntry {
  Index index;
  Term term;
  raft::EntryKind kind = raft::EntryKind::kNoop;
  Slice payload;
};

// The result of open(). Everything in it is durable.
struct Recovered {
  raft::HardState hard_state;
  Index first_index{1};
  Index last_index;        // first_index - 1: empty
  Term before_first_term;  // of first_index - 1
  std::vector<raft::TermRun> terms;
  int64_t last_stamp_ns = 0;  // of the last entry; 0: the log is empty
  // kGenesis, kConfChange, kRecovery and kSettings entries of the log, in order.
  std::vector<RecoveredEntry> special_entries;
  std::vector<std::string> warnings;  // one line each, for the operator
  uint64_t bytes_read = 0;
};

class Log {
 public:
  virtual ~Log() = default;
  Log(const Log&) = delete;
  Log& operator=(const Log&) = delete;

  // Recovers the log in `directory`, or begins one if the directory is empty or missing. `snapshot`
  // is the newest valid snapshot ({0, 0}: none). If the log ends before it, or contradicts it, a
  // new log begins after it with the same hard state; a gap between it and the log is damage.
  // Errors: kCorrupt with file, offset, index and the command that shows the damage; kNewerVersion
  // for a format, record, kind, field or group that this build does not know (the log is
  // unchanged); kNoSpaceToBegin; kNoDescriptors; kDisk or kSyncFailed.
  static Result<std::unique_ptr<Log>> open(FileSystem& files, std::string directory,
                                           LogOptions options, raft::SnapshotMark snapshot,
                                           Recovered& recovered);

  // Makes all batches durable with one sync. Writer thread. kNoSpace, kNoDescriptors: the log needs
  // a new segment, and there is no space or no descriptor for it, and no reserve. Nothing is lost:
  // call it again with the same batches (more may follow them) before any other function of this
  // thread. Some of them may be durable already.
  virtual Result<void> append(std::span<const LogBatch> batches) = 0;
  // Call it periodically while there is nothing to append: kSealAfter after the last batch, it
  // writes a small record which states that everything before it is durable. Writer thread.
  virtual Result<void> seal_if_idle(Time now) = 0;
  // True: the last batch is not sealed yet, so seal_if_idle() must be called.
  virtual bool wants_seal() const = 0;
  // Drops all entries and begins an empty log after an installed snapshot. Durable on return. It
  // waits for a running compact(). Writer thread. After kNoSpace or kNoDescriptors: call it again.
  virtual Result<void> reset(raft::SnapshotMark mark, raft::HardState hard_state) = 0;
  // The calling thread is the writer thread from now on: no other one is in a function above.
  virtual void become_writer() {}

  // Reads durable entries `[from, to)`: at least one, then at most `max_bytes` (by Entry::weight),
  // with verified checksums. Stops at the end of the log. Empty when `from` is compacted or
  // missing. While append() replaces a suffix, the old entries may still be returned. Errors:
  // kCorrupt, kDisk; kNoDescriptors: the same may succeed later. Any thread.
  virtual Result<std::vector<raft::Entry>> read(Index from, Index to, size_t max_bytes) const = 0;

  // Removes whole segments whose entries are all below `keep_from`; returns the first remaining
  // index. The log must continue after a durable snapshot: keep_from <= its index + 1.
  virtual Result<Index> compact(Index keep_from) = 0;
  // Creates the reserve, then the next zero-filled segment, if they are missing. A failure (no
  // space) leaves the log unchanged.
  virtual Result<void> prepare_next_segment() = 0;
  virtual bool wants_next_segment() const = 0;
  // The next few batches have space even if the disk is full. Any thread.
  virtual bool has_reserve() const = 0;

  virtual Index first_index() const = 0;
  virtual Index last_index() const = 0;      // durable
  virtual uint64_t total_bytes() const = 0;  // of records in all segments, replaced ones too
  // Bytes of records from the one with `index` to the end: the log that remains after a snapshot at
  // `index`. As precise as the sparse index.
  virtual uint64_t bytes_from(Index index) const = 0;

 protected:
  Log() = default;
};

// ---- inspecting a log (connectctl inspect wal), read only

// A valid record, or a segment, that only a newer connectd can read.
inline constexpr const char* kNewerKind = "newer";

struct InspectedRecord {
  std::string file;  // name in the directory
  uint64_t offset = 0;
  uint64_t bytes = 0;
  bool valid = true;
  std::string kind;  // "segment", "batch", "entry", "seal", "newer", "invalid"
  Index index;
  Term term;
  std::string text;  // the rest, for people
};

class RecordVisitor {
 public:
  virtual void on_record(const InspectedRecord& record) = 0;

 protected:
  ~RecordVisitor() = default;
};

// Visits every record of every segment in order; after damage, continues at the next valid record.
// Fails only when the directory cannot be read.
Result<void> inspect_log(FileSystem& files, const std::string& directory, RecordVisitor& visitor);

}  // namespace connectd::storage
