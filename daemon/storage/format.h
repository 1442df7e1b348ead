// The bytes of a log segment. A segment is a file of fixed size, zeros where nothing was written:
//
//   SegmentHeader | record | record | ... | zeros to the end
//
//   record := RecordHeader | body | zeros to a multiple of 8
//
// A batch is a record of kind batch followed by its entries, all in one segment. It is valid as a
// whole or not at all. All numbers are little-endian. docs/storage-format.md has the rules and an
// example, which tests/unit/storage/format_test.cc checks.
//
// Validity of a record at offset o of segment s, in this order:
//   1. o is a multiple of 8, and the RecordHeader lies in the segment;
//   2. its checksum is XXH3-64 of the 48 bytes before it with position_seed(s, o);
//   3. segment and offset are this place's; if the group, the kind, the length for the kind or the
//      reserved bytes are none that this build writes, the record is newer, whatever its body
//      holds; index and term are at most kMaxNumber;
//   4. the body lies in the segment;
//   5. batch and seal: the body's checksum (same seed) fits; a batch's hard state and replaces_from
//      are at most kMaxNumber. Entry: the entry header decodes, its index, term and length are
//      those of the RecordHeader, and the entry's own checksum fits. With the checksum right and a
//      kind, flag or field unknown, the record is newer;
//   6. the padding is zero.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

#include "base/checksum.h"
#include "base/limits.h"
#include "wire/entry_codec.h"

namespace connectd::storage {

inline constexpr uint32_t kLogVersion = 1;
inline constexpr char kSegmentMagic[8] = {'C', 'O', 'N', 'N', 'W', 'A', 'L', '\0'};
inline constexpr size_t kRecordAlignment = 8;

// At offset 0. Written and synced before the file gets its name, so where the name exists, the
// header is durable, and so are all records of the previous segment.
struct SegmentHeader {
  char magic[8];
  uint32_t version;
  uint32_t group;
  uint64_t segment_id;     // one more than the segment before; also in the file's name
  uint64_t segment_bytes;  // size of the file
  uint64_t previous_end;  // end of the records in the segment before; 0: the log begins here, older
                          // segments do not count
  uint64_t last_index;    // the log's last entry when the segment was begun
  uint64_t last_term;
  uint64_t hard_term;  // hard state when the segment was begun
  uint64_t hard_vote;
  uint64_t hard_commit;
  uint8_t reserved[40];  // zero
  uint64_t checksum;     // XXH3-64 of the 120 bytes before, position_seed(segment_id, 0)
};
static_assert(sizeof(SegmentHeader) == 128);
static_assert(offsetof(SegmentHeader, segment_id) == 16);
static_assert(offsetof(SegmentHeader, previous_end) == 32);
static_assert(offsetof(SegmentHeader, hard_term) == 56);
static_assert(offsetof(SegmentHeader, reserved) == 80);
static_assert(offsetof(SegmentHeader, checksum) == 120);

enum class RecordKind : uint8_t { kBatch = 1, kEntry = 2, kSeal = 3 };

struct RecordHeader {
  uint32_t group;
  uint8_t kind;
  uint8_t reserved[3];  // zero
  uint64_t segment_id;
  uint64_t offset;  // of this header in the segment
  uint64_t index;   // entry: its own; batch: of its first entry, or where that would be; seal: 0
  uint64_t term;    // entry: its own; batch: of the entry before `index`; seal: 0
  uint32_t length;  // of the body
  uint32_t reserved_2;  // zero
  uint64_t checksum;    // XXH3-64 of the 48 bytes before
};
static_assert(sizeof(RecordHeader) == 56);
static_assert(offsetof(RecordHeader, segment_id) == 8);
static_assert(offsetof(RecordHeader, index) == 24);
static_assert(offsetof(RecordHeader, length) == 40);
static_assert(offsetof(RecordHeader, checksum) == 48);

struct BatchBody {
  // Everything before this offset of this segment was durable when this was written.
  uint64_t durable_segment;
  uint64_t durable_offset;
  uint64_t hard_term;
  uint64_t hard_vote;
  uint64_t hard_commit;
  uint64_t replaces_from;  // entries from this index on are dropped first; 0: none are
  uint64_t bytes;          // of the entry records that follow
  uint32_t count;          // of entries
  uint32_t reserved;       // zero
  uint64_t checksum;       // XXH3-64 of the 64 bytes before, the record's position_seed()
};
static_assert(sizeof(BatchBody) == 72);
static_assert(offsetof(BatchBody, replaces_from) == 40);
static_assert(offsetof(BatchBody, count) == 56);
static_assert(offsetof(BatchBody, checksum) == 64);

// Everything before this record is durable.
struct SealBody {
  uint64_t durable_segment;  // the record's own place
  uint64_t durable_offset;
  uint64_t checksum;  // XXH3-64 of the 16 bytes before, the record's position_seed()
};
static_assert(sizeof(SealBody) == 24);
static_assert(offsetof(SealBody, checksum) == 16);

inline constexpr size_t kBatchRecordBytes = sizeof(RecordHeader) + sizeof(BatchBody);
inline constexpr size_t kSealRecordBytes = sizeof(RecordHeader) + sizeof(SealBody);
static_assert(kBatchRecordBytes % kRecordAlignment == 0 &&
              kSealRecordBytes % kRecordAlignment == 0);
inline constexpr uint32_t kMaxRecordBodyBytes = wire::kEntryHeaderBytes + kMaxEntryPayloadBytes;

constexpr uint64_t padded(uint64_t bytes) {
  return (bytes + kRecordAlignment - 1) & ~uint64_t{kRecordAlignment - 1};
}
constexpr uint64_t entry_record_bytes(size_t payload_bytes) {
  return padded(sizeof(RecordHeader) + wire::kEntryHeaderBytes + payload_bytes);
}
// Seeding with the position makes misplaced records fail their checksum.
constexpr uint64_t position_seed(uint64_t segment_id, uint64_t offset) {
  return segment_id * 0x9E3779B97F4A7C15u ^ offset;
}

// Checksum of all bytes of a format struct before its last member, which is the checksum.
template <class T>
uint64_t struct_checksum(const T& value, uint64_t seed) {
  static_assert(offsetof(T, checksum) + sizeof(uint64_t) == sizeof(T));
  return checksum64(ByteView(reinterpret_cast<const uint8_t*>(&value), offsetof(T, checksum)),
                    seed);
}

}  // namespace connectd::storage
