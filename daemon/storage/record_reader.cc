#include "storage/record_reader.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

namespace connectd::storage {
namespace {

bool all_zero(const uint8_t* bytes, size_t size) {
  // The first byte is zero, and each byte equals the next one.
  return size == 0 || (bytes[0] == 0 && std::memcmp(bytes, bytes + 1, size - 1) == 0);
}

// Of a record header with a valid checksum: the part that only a newer connectd writes. Empty:
// none.
std::string unknown_in_header(const RecordHeader& header) {
  if (header.group != kGroup) return fmt::format("a record of group {}", header.group);
  size_t least = 0;
  size_t most = 0;
  switch (static_cast<RecordKind>(header.kind)) {
    case RecordKind::kBatch:
      least = most = sizeof(BatchBody);
      break;
    case RecordKind::kSeal:
      least = most = sizeof(SealBody);
      break;
    case RecordKind::kEntry:
      least = wire::kEntryHeaderBytes;
      most = kMaxRecordBodyBytes;
      break;
    default:
      return fmt::format("a record of kind {}", header.kind);
  }
  if (header.length < least || header.length > most) {
    return fmt::format("a record of kind {} and {} bytes", header.kind, header.length);
  }
  const bool has_fields =
      !all_zero(header.reserved, sizeof header.reserved) || header.reserved_2 != 0;
  return has_fields ? fmt::format("a record of kind {} with more fields", header.kind)
                    : std::string();
}

}  // namespace

Error newer_record(const std::string& path, const Record& record, const std::string& what) {
  return Error{
      ErrorKind::kNewerVersion,
      fmt::format(
          "{} at offset {}, index {}: {} is unknown to connectd {}: a newer version wrote it. The "
          "log was not changed. Start the version that ran here before, or a newer one",
          path, record.offset, record.index, what, CONNECTD_VERSION)};
}

RecordReader::RecordReader(const File& file, uint64_t segment_id, uint64_t offset, uint64_t limit,
                           size_t chunk_bytes)
    : file_(file),
      segment_id_(segment_id),
      offset_(offset),
      limit_(limit),
      chunk_bytes_(chunk_bytes) {}

Result<bool> RecordReader::ensure(size_t bytes) {
  if (offset_ > limit_ || limit_ - offset_ < bytes) return false;
  if (offset_ >= chunk_offset_ && offset_ + bytes <= chunk_offset_ + chunk_size_) return true;
  size_t wanted = std::min<uint64_t>(std::max(bytes, chunk_bytes_), limit_ - offset_);
  // Returned entries may still share the old chunk: then it must not be overwritten.
  if (chunk_ == nullptr || chunk_.use_count() > 1 || chunk_capacity_ < wanted) {
    chunk_ = std::make_shared_for_overwrite<uint8_t[]>(wanted);
    chunk_capacity_ = wanted;
  }
  auto got = file_.read_at(offset_, std::span<uint8_t>(chunk_.get(), wanted));
  if (!got) return failure(got.error());
  chunk_offset_ = offset_;
  chunk_size_ = *got;
  bytes_read_ += *got;
  return *got >= bytes;
}

ReadStatus RecordReader::invalid(const char* why) {
  why_ = why;
  return ReadStatus::kInvalid;
}

ReadStatus RecordReader::newer(std::string what) {
  why_ = std::move(what);
  return ReadStatus::kNewer;
}

Result<ReadStatus> RecordReader::next(Record& record) {
  record.entry.payload = Slice();  // releases its share of the chunk
  auto there = ensure(sizeof(RecordHeader));
  if (!there) return failure(there.error());
  if (!*there) return ReadStatus::kEnd;
  RecordHeader header;
  std::memcpy(&header, data(), sizeof header);
  if (header.checksum == 0 && all_zero(data(), sizeof header)) return ReadStatus::kEnd;

  const uint64_t seed = position_seed(segment_id_, offset_);
  if (header.checksum != struct_checksum(header, seed)) {
    return invalid("checksum mismatch in a record header");
  }
  if (header.segment_id != segment_id_ || header.offset != offset_) {
    return invalid("misplaced record header");
  }
  const size_t body_end = sizeof header + header.length;
  const size_t bytes = padded(body_end);
  record.kind = static_cast<RecordKind>(header.kind);
  record.offset = offset_;
  record.bytes = bytes;
  record.index = Index(header.index);
  record.term = Term(header.term);
  if (std::string what = unknown_in_header(header); !what.empty()) return newer(std::move(what));
  if (header.index > kMaxNumber || header.term > kMaxNumber) {
    return invalid("invalid index or term of a record");
  }
  there = ensure(bytes);
  if (!there) return failure(there.error());
  if (!*there) return invalid("a record exceeds its segment");
  const uint8_t* body = data() + sizeof header;
  if (!all_zero(data() + body_end, bytes - body_end)) {
    return invalid("the padding of a record is not zero");
  }

  switch (record.kind) {
    case RecordKind::kBatch:
      std::memcpy(&record.batch, body, sizeof(BatchBody));
      if (record.batch.checksum != struct_checksum(record.batch, seed)) {
        return invalid("checksum mismatch in a batch record");
      }
      for (uint64_t number :
           {record.batch.hard_term, record.batch.hard_commit, record.batch.replaces_from}) {
        if (number > kMaxNumber) return invalid("invalid number in a batch record");
      }
      if (record.batch.reserved != 0) return newer("a batch with more fields");
      break;
    case RecordKind::kSeal:
      std::memcpy(&record.seal, body, sizeof(SealBody));
      if (record.seal.checksum != struct_checksum(record.seal, seed)) {
        return invalid("checksum mismatch in a seal record");
      }
      break;
    case RecordKind::kEntry: {
      if (record.index < skip_below_) break;
      uint32_t payload_bytes = 0;
      const ByteView whole(body, header.length);
      if (!wire::decode_entry_header(whole, record.entry, payload_bytes)) {
        std::string what = wire::unknown_in_entry(whole);
        if (!what.empty()) return newer("an entry with " + what);
        return invalid("an entry does not match its record header");
      }
      if (payload_bytes != header.length - wire::kEntryHeaderBytes ||
          record.entry.index != record.index || record.entry.term != record.term) {
        return invalid("an entry does not match its record header");
      }
      record.entry.payload = Slice(chunk_, ByteView(body + wire::kEntryHeaderBytes, payload_bytes));
      if (!wire::verify_entry(record.entry)) return invalid("checksum mismatch in an entry");
      break;
    }
  }
  offset_ += bytes;
  return ReadStatus::kRecord;
}

Result<ReadStatus> RecordReader::find_next(Record& record) {
  while (true) {
    auto there = ensure(sizeof(RecordHeader));
    if (!there) return failure(there.error());
    if (!*there) return ReadStatus::kEnd;
    RecordHeader header;
    std::memcpy(&header, data(), sizeof header);
    if (header.segment_id == segment_id_ && header.offset == offset_) {
      auto status = next(record);
      if (!status) return failure(status.error());
      if (*status == ReadStatus::kNewer) return ReadStatus::kNewer;
      if (*status == ReadStatus::kRecord) {
        if (record.kind != RecordKind::kEntry) return ReadStatus::kRecord;
        continue;
      }
    }
    offset_ += kRecordAlignment;
  }
}

Result<bool> RecordReader::rest_is_zero() {
  while (offset_ < limit_) {
    size_t part = std::min<uint64_t>(chunk_bytes_, limit_ - offset_);
    auto there = ensure(part);
    if (!there) return failure(there.error());
    if (!*there || !all_zero(data(), part)) return false;
    offset_ += part;
  }
  return true;
}

std::string unknown_in_segment_header(const SegmentHeader& header, uint64_t segment_id) {
  const bool is_segment = std::memcmp(header.magic, kSegmentMagic, sizeof kSegmentMagic) == 0 &&
                          header.checksum == struct_checksum(header, position_seed(segment_id, 0));
  if (!is_segment) return {};
  if (header.version != kLogVersion || header.group != kGroup) {
    return fmt::format("format version {} and group {}; connectd {} reads version {} and group {}",
                       header.version, header.group, CONNECTD_VERSION, kLogVersion, kGroup);
  }
  if (all_zero(header.reserved, sizeof header.reserved)) return {};
  return fmt::format("more fields in its header than connectd {} knows", CONNECTD_VERSION);
}

std::string check_segment_header(const SegmentHeader& header, uint64_t segment_id,
                                 uint64_t file_bytes) {
  if (std::memcmp(header.magic, kSegmentMagic, sizeof kSegmentMagic) != 0) {
    return "invalid segment magic";
  }
  if (header.checksum != struct_checksum(header, position_seed(segment_id, 0))) {
    return "checksum mismatch in the segment header";
  }
  if (header.segment_id != segment_id) return "wrong segment number in the header";
  for (uint64_t number :
       {header.last_index, header.last_term, header.hard_term, header.hard_commit}) {
    if (number > kMaxNumber) return "invalid number in the segment header";
  }
  if (header.segment_bytes != file_bytes) {
    return fmt::format("the file has {} bytes, its header says {}", file_bytes,
                       header.segment_bytes);
  }
  return {};
}

}  // namespace connectd::storage
