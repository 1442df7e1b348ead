// The write-ahead log of one node: entries and hard state, in segment files of one directory.
//
// Promises. What append() has returned for is on the disk (LogOptions::sync). Bytes once synced are
// never overwritten: a truncation is logical, the batch that replaces a suffix is appended after it
// and wins at recovery. Damage below what is known to be durable is refused, never read over; an
// incomplete end is cut, with a warning. After the first error of a write or sync the log refuses
// everything: what is on the disk is then unknown until the next open().
//
// A full disk is no such error. Segments are filled ahead of use, so that only a new one needs
// space, and nothing of the log depends on one that could not be made. One more, the reserve, is
// kept for that moment: the log continues in it. While it is used up (has_reserve() is false) the
// log's owner is to append no entries but what elections need; if even the reserve is full,
// append() says kNoSpace and takes the same batches again later. The reserve is made again when
// there is space.
//
// Threads: append(), seal_if_idle() and reset() belong to the writer thread. prepare_next_segment()
// and compact() belong to one other thread (each). read() and the getters: any thread. A mutex
// guards the list of segments and the sparse index, and is never held over a disk operation.
//
// The bytes are in docs/storage-format.md and storage/format.h.
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

inline constexpr uint64_t kMinSegmentBytes = 4096;
inline constexpr uint64_t kMaxSegmentBytes = uint64_t{4} << 30;
// A segment made while append() waits (the very first, and when no spare is there) is this small,
// so that filling it with zeros costs little.
inline constexpr uint64_t kQuickSegmentBytes = 4 << 20;
// The reserve: as large as that, or as a segment if these are smaller.
inline constexpr uint64_t kReserveBytes = kQuickSegmentBytes;
// Seal this long after the last batch.
inline constexpr Duration kSealAfter = std::chrono::milliseconds(100);

struct LogOptions {
  uint64_t segment_bytes = 64 << 20;
  bool sync = true;  // false: for experiments only; what append() wrote may be lost
};

// What append() takes: the hard state, and entries that follow the log's end or, with
// `replaces_from`, replace everything from that index on. `entries` begin at `replaces_from` if it
// is given and not above the last index; else right after the last index; they may be empty. Their
// checksums are set and right.
struct LogBatch {
  raft::HardState hard_state;
  std::optional<Index> replaces_from;
  std::span<const raft::Entry> entries;
};

// An entry that the node must know of before it applies anything.
struct RecoveredEntry {
  Index index;
  Term term;
  raft::EntryKind kind = raft::EntryKind::kNoop;
  Slice payload;
};

// What open() found. Everything in it is durable.
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

  // Recovers the log in `directory`, or begins one (an empty or missing directory). `snapshot` is
  // the newest valid snapshot ({0, 0}: none). If the log ends before it, or contradicts it, the log
  // is restarted after it, keeping the hard state; if the log begins after it with a gap, that is
  // damage. Errors: kCorrupt with file, offset, index and the command that shows it; kNewerVersion
  // for a newer format, or a record, kind, field or group that this build does not know: then the
  // log is as it was; kNoSpaceToBegin; kDisk or kSyncFailed.
  static Result<std::unique_ptr<Log>> open(FileSystem& files, std::string directory,
                                           LogOptions options, raft::SnapshotMark snapshot,
                                           Recovered& recovered);

  // Durable on return, all batches with one sync. Writer thread. With kNoSpace: the log
  // needs a new segment, and neither it nor the reserve is to be had. Nothing is lost; call it
  // again with the same batches (more may follow them), and nothing else of this thread's
  // meanwhile. Part of them may be durable already.
  virtual Result<void> append(std::span<const LogBatch> batches) = 0;
  // Call it now and then while there is nothing to append: kSealAfter after the last batch it
  // writes one small record that says that everything before is durable. Writer thread.
  virtual Result<void> seal_if_idle(Time now) = 0;
  // Wanted by seal_if_idle(): a batch is not sealed yet.
  virtual bool wants_seal() const = 0;
  // Drops all entries and begins an empty log after an installed snapshot. Durable on return. Not
  // concurrent with compact(): it waits for it. Writer thread. After kNoSpace: call it again.
  virtual Result<void> reset(raft::SnapshotMark mark, raft::HardState hard_state) = 0;

  // Durable entries `[from, to)`, at least one and then at most `max_bytes` (by Entry::weight),
  // with their checksums verified. Stops at the end of the log. Empty when `from` is compacted or
  // not there. While append() replaces a suffix, the old entries may still be returned. Errors:
  // kCorrupt, kDisk. Any thread.
  virtual Result<std::vector<raft::Entry>> read(Index from, Index to, size_t max_bytes) const = 0;

  // Removes whole segments whose entries are all below `keep_from`; returns the first index that is
  // left. The log must continue after a durable snapshot: keep_from <= its index + 1.
  virtual Result<Index> compact(Index keep_from) = 0;
  // Makes the reserve, and then a zero-filled segment ready, where they are missing. A failure (no
  // space) leaves the log as it is.
  virtual Result<void> prepare_next_segment() = 0;
  virtual bool wants_next_segment() const = 0;
  // The space for the next few batches is sure, whatever the disk says. Any thread.
  virtual bool has_reserve() const = 0;

  virtual Index first_index() const = 0;
  virtual Index last_index() const = 0;      // durable
  virtual uint64_t total_bytes() const = 0;  // of records in all segments, dead ones too
  // Bytes of records from the one that holds `index` to the end: what a snapshot at `index` leaves
  // after it. To the grain of the sparse index.
  virtual uint64_t bytes_from(Index index) const = 0;

 protected:
  Log() = default;
};

// ---- looking at a log from outside (connectctl inspect wal), read only

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

// Every record of every segment in order; continues after damage at the next valid record. An Error
// only when the directory cannot be read.
Result<void> inspect_log(FileSystem& files, const std::string& directory, RecordVisitor& visitor);

}  // namespace connectd::storage
