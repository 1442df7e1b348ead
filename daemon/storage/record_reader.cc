#include "storage/record_reader.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

namespace connectd::storage {
namespace {

bool all_zero(const uint8_t* bytes, size_t size) {
  // A byte equal to its neighbour all along, and the first one zero.
  return size == 0 || (bytes[0] == 0 && std::memcmp(bytes, bytes + 1, size - 1) == 0);
}

}  // namespace

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
  // Entries that were handed out may still share the old chunk: then it is theirs.
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

Result<ReadStatus> RecordReader::next(Record& record) {
  record.entry.payload = Slice();  // gives up its share in the chunk
  auto there = ensure(sizeof(RecordHeader));
  if (!there) return failure(there.error());
  if (!*there) return ReadStatus::kEnd;
  RecordHeader header;
  std::memcpy(&header, data(), sizeof header);
  if (header.checksum == 0 && all_zero(data(), sizeof header)) return ReadStatus::kEnd;

  const uint64_t seed = position_seed(segment_id_, offset_);
  if (header.checksum != struct_checksum(header, seed)) {
    return invalid("the checksum of a record header does not fit");
  }
  if (header.group != kGroup || header.segment_id != segment_id_ || header.offset != offset_ ||
      header.reserved[0] != 0 || header.reserved[1] != 0 || header.reserved[2] != 0 ||
      header.reserved_2 != 0) {
    return invalid("a record header does not belong here");
  }
  if (header.index > kMaxNumber || header.term > kMaxNumber) {
    return invalid("a record has an impossible index or term");
  }
  if (header.length > kMaxRecordBodyBytes) return invalid("a record is longer than any may be");
  const size_t body_end = sizeof header + header.length;
  const size_t bytes = padded(body_end);
  there = ensure(bytes);
  if (!there) return failure(there.error());
  if (!*there) return invalid("a record does not end in its segment");
  const uint8_t* body = data() + sizeof header;
  if (!all_zero(data() + body_end, bytes - body_end)) {
    return invalid("the padding of a record is not zero");
  }

  record.kind = static_cast<RecordKind>(header.kind);
  record.offset = offset_;
  record.bytes = bytes;
  record.index = Index(header.index);
  record.term = Term(header.term);
  switch (record.kind) {
    case RecordKind::kBatch:
      if (header.length != sizeof(BatchBody)) return invalid("a batch record has a wrong length");
      std::memcpy(&record.batch, body, sizeof(BatchBody));
      if (record.batch.checksum != struct_checksum(record.batch, seed)) {
        return invalid("the checksum of a batch record does not fit");
      }
      for (uint64_t number :
           {record.batch.hard_term, record.batch.hard_commit, record.batch.replaces_from}) {
        if (number > kMaxNumber) return invalid("a batch record has an impossible number");
      }
      if (record.batch.reserved != 0) return invalid("a batch record has unknown fields");
      break;
    case RecordKind::kSeal:
      if (header.length != sizeof(SealBody)) return invalid("a seal record has a wrong length");
      std::memcpy(&record.seal, body, sizeof(SealBody));
      if (record.seal.checksum != struct_checksum(record.seal, seed)) {
        return invalid("the checksum of a seal record does not fit");
      }
      break;
    case RecordKind::kEntry: {
      if (record.index < skip_below_) break;
      uint32_t payload_bytes = 0;
      if (header.length < wire::kEntryHeaderBytes ||
          !wire::decode_entry_header(ByteView(body, header.length), record.entry, payload_bytes) ||
          payload_bytes != header.length - wire::kEntryHeaderBytes ||
          record.entry.index != record.index || record.entry.term != record.term) {
        return invalid("an entry does not fit its record header");
      }
      record.entry.payload = Slice(chunk_, ByteView(body + wire::kEntryHeaderBytes, payload_bytes));
      if (!wire::verify_entry(record.entry))
        return invalid("the checksum of an entry does not fit");
      break;
    }
    default:
      return invalid("a record is of an unknown kind");
  }
  offset_ += bytes;
  return ReadStatus::kRecord;
}

Result<bool> RecordReader::find_next(Record& record) {
  while (true) {
    auto there = ensure(sizeof(RecordHeader));
    if (!there) return failure(there.error());
    if (!*there) return false;
    RecordHeader header;
    std::memcpy(&header, data(), sizeof header);
    const bool candidate = header.segment_id == segment_id_ && header.offset == offset_ &&
                           (header.kind == static_cast<uint8_t>(RecordKind::kBatch) ||
                            header.kind == static_cast<uint8_t>(RecordKind::kSeal));
    if (candidate) {
      auto status = next(record);
      if (!status) return failure(status.error());
      if (*status == ReadStatus::kRecord) return true;
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

std::string check_segment_header(const SegmentHeader& header, uint64_t segment_id,
                                 uint64_t file_bytes) {
  if (std::memcmp(header.magic, kSegmentMagic, sizeof kSegmentMagic) != 0) {
    return "it does not begin as a segment does";
  }
  if (header.checksum != struct_checksum(header, position_seed(segment_id, 0))) {
    return "the checksum of the segment header does not fit";
  }
  if (header.segment_id != segment_id) return "the segment header names another segment";
  if (!all_zero(header.reserved, sizeof header.reserved)) {
    return "the segment header has unknown fields";
  }
  for (uint64_t number :
       {header.last_index, header.last_term, header.hard_term, header.hard_commit}) {
    if (number > kMaxNumber) return "the segment header has an impossible number";
  }
  if (header.segment_bytes != file_bytes) {
    return fmt::format("the file has {} bytes, its header says {}", file_bytes,
                       header.segment_bytes);
  }
  return {};
}

}  // namespace connectd::storage
