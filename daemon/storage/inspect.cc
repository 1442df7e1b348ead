#include <fmt/format.h>

#include <algorithm>
#include <cstring>

#include "storage/format.h"
#include "storage/log.h"
#include "storage/record_reader.h"
#include "storage/recovery.h"

namespace connectd::storage {
namespace {

constexpr size_t kInspectChunkBytes = 1 << 20;

InspectedRecord describe_newer(const std::string& file, const Record& record,
                               const std::string& what) {
  InspectedRecord line;
  line.file = file;
  line.offset = record.offset;
  line.bytes = record.bytes;
  line.kind = kNewerKind;
  line.index = record.index;
  line.term = record.term;
  line.text = fmt::format("{}, which connectd {} does not know", what, CONNECTD_VERSION);
  return line;
}

InspectedRecord describe(const std::string& file, const Record& record) {
  InspectedRecord line;
  line.file = file;
  line.offset = record.offset;
  line.bytes = record.bytes;
  line.index = record.index;
  line.term = record.term;
  switch (record.kind) {
    case RecordKind::kBatch: {
      const BatchBody& b = record.batch;
      line.kind = "batch";
      line.text = fmt::format("{} entries; hard state term {} vote {} commit {}; durable before {}",
                              b.count, b.hard_term, b.hard_vote, b.hard_commit, b.durable_offset);
      if (b.replaces_from != 0) line.text += fmt::format("; replaces from {}", b.replaces_from);
      break;
    }
    case RecordKind::kSeal:
      line.kind = "seal";
      line.text = fmt::format("durable before {}", record.seal.durable_offset);
      break;
    case RecordKind::kEntry:
      line.kind = "entry";
      line.text = fmt::format("{}, {} bytes; session {} sequence {} acked below {}; stamp {}",
                              raft::row_of(record.entry.kind).name, record.entry.payload.size(),
                              record.entry.session, record.entry.sequence, record.entry.acked_below,
                              record.entry.stamp_ns);
      break;
  }
  return line;
}

Result<void> inspect_segment(const File& file, const std::string& name, uint64_t id,
                             RecordVisitor& visitor) {
  auto size = file.size();
  if (!size) return failure(size.error());
  SegmentHeader header{};
  auto got =
      file.read_at(0, std::span<uint8_t>(reinterpret_cast<uint8_t*>(&header), sizeof header));
  if (!got) return failure(got.error());

  InspectedRecord line;
  line.file = name;
  line.bytes = *got;
  line.kind = "segment";
  if (auto unknown = unknown_in_segment_header(header, id); !unknown.empty()) {
    line.kind = kNewerKind;
    line.text = "the segment has " + unknown;
    visitor.on_record(line);
    return {};
  }
  std::string why = *got == sizeof header ? check_segment_header(header, id, *size)
                                          : fmt::format("the file has only {} bytes", *got);
  line.valid = why.empty();
  line.index = Index(line.valid ? header.last_index : 0);
  line.term = Term(line.valid ? header.last_term : 0);
  line.text = line.valid ? fmt::format("id {}; {} bytes; hard state term {} vote {} commit {}{}",
                                       header.segment_id, header.segment_bytes, header.hard_term,
                                       header.hard_vote, header.hard_commit,
                                       header.previous_end == 0 ? "; the log begins here" : "")
                         : why;
  visitor.on_record(line);

  RecordReader reader(file, id, sizeof header, *size, kInspectChunkBytes);
  Record record;
  while (true) {
    auto status = reader.next(record);
    if (!status) return failure(status.error());
    if (*status == ReadStatus::kRecord) {
      visitor.on_record(describe(name, record));
      continue;
    }
    if (*status == ReadStatus::kNewer) {
      visitor.on_record(describe_newer(name, record, reader.why()));
      reader.seek(reader.offset() + record.bytes);
      continue;
    }
    InspectedRecord bad;
    bad.file = name;
    bad.offset = reader.offset();
    bad.valid = false;
    bad.kind = "invalid";
    bad.text = *status == ReadStatus::kInvalid ? reader.why() : "zeros before more records";
    if (*status == ReadStatus::kInvalid) reader.seek(reader.offset() + kRecordAlignment);
    auto next = reader.find_next(record);
    if (!next) return failure(next.error());
    const bool more = *next != ReadStatus::kEnd;
    if (!more && *status == ReadStatus::kEnd) return {};
    bad.bytes = (more ? record.offset : *size) - bad.offset;
    visitor.on_record(bad);
    if (!more) return {};
    // The reader is at a newer record: the next iteration shows it.
    if (*next == ReadStatus::kRecord) visitor.on_record(describe(name, record));
  }
}

}  // namespace

Result<void> inspect_log(FileSystem& files, const std::string& directory, RecordVisitor& visitor) {
  auto names = files.list(directory);
  if (!names) return failure(names.error());
  for (const std::string& name : *names) {
    const uint64_t id = segment_id_of(name);
    if (id == 0) continue;
    auto file = files.open(fmt::format("{}/{}", directory, name), OpenMode::kRead);
    if (!file) return failure(file.error());
    if (auto done = inspect_segment(**file, name, id, visitor); !done) return done;
  }
  return {};
}

}  // namespace connectd::storage
