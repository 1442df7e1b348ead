// Reads the records of one segment in order, in chunks, and checks each by the validity rule of
// storage/format.h. Used by recovery, by reads of entries, and by inspection. One thread.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "base/error.h"
#include "raft/types.h"
#include "storage/file_system.h"
#include "storage/format.h"

namespace connectd::storage {

struct Record {
  RecordKind kind = RecordKind::kSeal;
  uint64_t offset = 0;
  uint64_t bytes = 0;  // with padding
  Index index;         // as in the RecordHeader
  Term term;
  BatchBody batch{};  // kBatch
  SealBody seal{};    // kSeal
  raft::Entry entry;  // kEntry; the payload shares the reader's chunk
};

enum class ReadStatus : uint8_t {
  kRecord,
  kEnd,      // the limit, or zeros where a record would begin
  kInvalid,  // neither; why() says what is wrong
  kNewer,    // correct checksums, but this build does not know its kind or one of its fields:
             // a newer connectd wrote it. why() says what; the Record has its place
};

// The error for a record of a newer connectd: kNewerVersion, with the remedy. `what`: from why().
Error newer_record(const std::string& path, const Record& record, const std::string& what);

class RecordReader {
 public:
  // Reads [offset, limit) of the segment, `chunk_bytes` at a time; more for a longer record.
  RecordReader(const File& file, uint64_t segment_id, uint64_t offset, uint64_t limit,
               size_t chunk_bytes);

  // Reads the record at offset(), and moves offset() after it (kRecord only). An Error is a failed
  // read.
  Result<ReadStatus> next(Record& record);
  // From now on, next() checks only the headers of entries below `from`.
  void skip_entries_below(Index from) { skip_below_ = from; }

  // Continues at `offset`; keeps the chunk in memory.
  void seek(uint64_t offset) { offset_ = offset; }

  uint64_t offset() const { return offset_; }
  const std::string& why() const { return why_; }
  uint64_t bytes_read() const { return bytes_read_; }

  // Searches, 8 bytes at a time, for the next valid batch or seal (kRecord: moves after it), or a
  // record of a newer connectd (kNewer: stays before it). kEnd: there is none up to the limit.
  Result<ReadStatus> find_next(Record& record);
  // The bytes from offset() to the limit are all zero.
  Result<bool> rest_is_zero();

 private:
  // Makes [offset_, offset_ + bytes) available at data(); false: not within the limit.
  Result<bool> ensure(size_t bytes);
  const uint8_t* data() const { return chunk_.get() + (offset_ - chunk_offset_); }
  ReadStatus invalid(const char* why);
  ReadStatus newer(std::string what);

  const File& file_;
  const uint64_t segment_id_;
  uint64_t offset_;
  const uint64_t limit_;
  const size_t chunk_bytes_;
  Index skip_below_;
  std::string why_;
  uint64_t bytes_read_ = 0;

  std::shared_ptr<uint8_t[]> chunk_;
  size_t chunk_capacity_ = 0;
  uint64_t chunk_offset_ = 0;
  size_t chunk_size_ = 0;  // valid bytes
};

// Describes what only a newer connectd writes in a segment header with a correct checksum. Empty:
// nothing.
std::string unknown_in_segment_header(const SegmentHeader& header, uint64_t segment_id);
// Checks a segment header by the validity rule. Empty: valid; otherwise the reason.
std::string check_segment_header(const SegmentHeader& header, uint64_t segment_id,
                                 uint64_t file_bytes);

}  // namespace connectd::storage
