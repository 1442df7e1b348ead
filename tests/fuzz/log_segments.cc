// The files of a log, one segment or two. The first byte: bit 0, the checksums are made to fit;
// bit 1, there are two segments; bit 2, there is a snapshot, of the index in the next byte.
//
// Opening them gives a log whose entries can all be read, which takes appends and comes back with
// them, or an error that says what to do; and what was opened once opens again.
#include "base/log.h"
#include "sim/faulty_file_system.h"
#include "storage/format.h"
#include "storage/log.h"
#include "storage/recovery.h"
#include "tests/fuzz/input.h"

namespace connectd {
namespace {

constexpr size_t kSegmentBytes = storage::kMinSegmentBytes;

template <class T>
T get(const std::string& bytes, size_t at) {
  T value;
  std::memcpy(&value, bytes.data() + at, sizeof value);
  return value;
}
template <class T>
void put(std::string& bytes, size_t at, const T& value) {
  std::memcpy(bytes.data() + at, &value, sizeof value);
}

void make_checksums_fit(std::string& bytes, uint64_t id) {
  auto header = get<storage::SegmentHeader>(bytes, 0);
  std::memcpy(header.magic, storage::kSegmentMagic, sizeof header.magic);
  header.version = storage::kLogVersion;
  header.group = 0;
  header.segment_id = id;
  header.segment_bytes = bytes.size();
  std::memset(header.reserved, 0, sizeof header.reserved);
  header.checksum = storage::struct_checksum(header, storage::position_seed(id, 0));
  put(bytes, 0, header);
  size_t at = sizeof header;
  while (at + sizeof(storage::RecordHeader) <= bytes.size()) {
    auto record = get<storage::RecordHeader>(bytes, at);
    if (record.kind == 0) return;
    const uint64_t seed = storage::position_seed(id, at);
    const size_t body_at = at + sizeof record;
    if (record.length > bytes.size() - body_at) return;
    record.group = 0;
    record.segment_id = id;
    record.offset = at;
    std::memset(record.reserved, 0, sizeof record.reserved);
    record.reserved_2 = 0;
    record.checksum = storage::struct_checksum(record, seed);
    put(bytes, at, record);
    switch (static_cast<storage::RecordKind>(record.kind)) {
      case storage::RecordKind::kBatch: {
        if (record.length != sizeof(storage::BatchBody)) return;
        auto body = get<storage::BatchBody>(bytes, body_at);
        body.reserved = 0;
        body.checksum = storage::struct_checksum(body, seed);
        put(bytes, body_at, body);
        break;
      }
      case storage::RecordKind::kSeal: {
        if (record.length != sizeof(storage::SealBody)) return;
        auto body = get<storage::SealBody>(bytes, body_at);
        body.checksum = storage::struct_checksum(body, seed);
        put(bytes, body_at, body);
        break;
      }
      case storage::RecordKind::kEntry: {
        if (record.length < wire::kEntryHeaderBytes) return;
        ByteView body = as_bytes(bytes).subspan(body_at, record.length);
        raft::Entry entry;
        uint32_t payload_bytes = 0;
        if (!wire::decode_entry_header(body, entry, payload_bytes)) return;
        entry.index = Index(record.index);
        entry.term = Term(record.term);
        entry.payload = Slice::copy_of(body.subspan(wire::kEntryHeaderBytes));
        entry.checksum = raft::entry_checksum(entry);
        wire::encode_entry_header(entry, reinterpret_cast<uint8_t*>(bytes.data()) + body_at);
        break;
      }
      default:
        return;
    }
    at += storage::padded(sizeof record + record.length);
  }
}

// Every entry, in order; their checksums fit.
void read_all(const storage::Log& log, const storage::Recovered& recovered) {
  Index next = recovered.first_index;
  Term term = recovered.before_first_term;
  while (next <= recovered.last_index) {
    auto entries = log.read(next, recovered.last_index + 1, 1 << 20);
    CHECK(entries) << entries.error().text;
    CHECK(!entries->empty()) << "entry " << next.value() << " cannot be read";
    for (const raft::Entry& entry : *entries) {
      CHECK(entry.index == next && entry.term >= term && wire::verify_entry(entry));
      CHECK(storage::term_in(recovered.terms, next) == entry.term);
      term = entry.term;
      ++next;
    }
  }
}

}  // namespace
}  // namespace connectd

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace connectd;
  fuzz::Input input(data, size);
  const uint8_t flags = input.byte();
  raft::SnapshotMark snapshot;
  if ((flags & 4) != 0) snapshot = {Index(input.byte()), Term(1 + flags / 8)};
  if (!snapshot.index) snapshot = {};
  const size_t first_bytes = (flags & 2) != 0 ? input.short_number() : kSegmentBytes;
  sim::FaultyFileSystem files;
  for (uint64_t id = 1; id <= ((flags & 2) != 0 ? 2u : 1u); ++id) {
    std::string bytes(
        as_text(input.part(id == 1 ? std::min(first_bytes, kSegmentBytes) : kSegmentBytes)));
    bytes.resize(kSegmentBytes);  // zeros need not be in the input
    if ((flags & 1) != 0) make_checksums_fit(bytes, id);
    files.put("log/" + storage::segment_name(id), std::move(bytes));
  }
  storage::LogOptions options;
  options.segment_bytes = kSegmentBytes;
  storage::Recovered recovered;
  auto log = storage::Log::open(files, "log", options, snapshot, recovered);
  if (!log) {
    CHECK(!log.error().text.empty());
    CHECK(log.error().kind == ErrorKind::kCorrupt || log.error().kind == ErrorKind::kNewerVersion)
        << log.error().text;
    return 0;
  }
  read_all(**log, recovered);
  // At the end of the numbers nothing can be appended.
  constexpr uint64_t kSane = kMaxNumber - 2;
  const Term last_term =
      recovered.terms.empty() ? recovered.before_first_term : recovered.terms.back().term;
  if (recovered.last_index.value() > kSane || last_term.value() > kSane) return 0;
  raft::Entry entry;
  entry.index = recovered.last_index + 1;
  entry.term = last_term + 1;
  entry.kind = raft::EntryKind::kCommand;
  entry.payload = Slice::copy_of("more");
  entry.checksum = raft::entry_checksum(entry);
  storage::LogBatch batch;
  batch.hard_state = recovered.hard_state;
  batch.entries = std::span(&entry, 1);
  auto appended = (*log)->append(std::span(&batch, 1));
  CHECK(appended) << appended.error().text;
  log->reset();
  files.crash({0, 0});
  storage::Recovered again;
  log = storage::Log::open(files, "log", options, snapshot, again);
  CHECK(log) << "it opened once, and not again: " << log.error().text;
  CHECK(again.last_index == entry.index && again.first_index == recovered.first_index);
  read_all(**log, again);
  return 0;
}
