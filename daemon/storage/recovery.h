// Recovers a log directory: finds the segments in use, their contents, and the end of the log. It
// distinguishes damage (an error) from a torn end (cut), and makes its findings durable. Start-up,
// one thread. The rules are in docs/storage-format.md.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "base/error.h"
#include "raft/types.h"
#include "storage/file_system.h"
#include "storage/log.h"
#include "storage/log_index.h"

namespace connectd::storage {

// A segment of an open log. `end` is where its records end; it grows in the last segment only.
struct Segment {
  uint64_t id = 0;
  std::shared_ptr<File> file;  // null: not open; a log may have more segments than descriptors
  uint64_t bytes = 0;          // of the file
  uint64_t end = 0;
};

// The state of a log after recovery, from which the log continues.
struct LogState {
  std::vector<Segment> segments;  // by id, without gaps; the last one takes appends
  LogIndex index;
  Index first_index{1};
  Index last_index;
  Term before_first_term;
  std::vector<raft::TermRun> terms;
  raft::HardState hard_state;
  std::vector<RecoveredEntry> special_entries;
  uint64_t durable_offset = 0;  // in the last segment
  bool sealed = false;          // the last segment's records end with a seal, or have none
};

// "0000000000000007.wal"
std::string segment_name(uint64_t segment_id);
// 0: not the name of a segment.
uint64_t segment_id_of(const std::string& name);

// `state` has no segments on return if the directory has no log; otherwise the last one is open.
// Removes temporary files.
Result<void> recover_log(FileSystem& files, const std::string& directory, LogState& state,
                         std::vector<std::string>& warnings, uint64_t& bytes_read);

// Term of `index`; none when the runs do not reach it.
Term term_in(const std::vector<raft::TermRun>& terms, Index index);

}  // namespace connectd::storage
