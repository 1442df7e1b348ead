#include "storage/recovery.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <utility>

#include "storage/format.h"
#include "storage/record_reader.h"

namespace connectd::storage {
namespace {

constexpr size_t kRecoveryChunkBytes = 1 << 20;

// A batch's changes, not applied until the whole batch is known to be valid.
struct PendingBatch {
  raft::HardState hard_state;
  Index replaces_from;
  Index first;
  Term previous_term;
  uint64_t offset = 0;
  uint64_t bytes = 0;
  uint32_t count = 0;

  uint32_t seen = 0;
  uint64_t seen_bytes = 0;
  Term last_term;
  std::vector<Anchor> places;  // of some of its entries
  std::vector<raft::TermRun> terms;
  std::vector<RecoveredEntry> special_entries;
};

class Recovery {
 public:
  Recovery(FileSystem& files, const std::string& directory, LogState& state,
           std::vector<std::string>& warnings, uint64_t& bytes_read)
      : files_(files),
        directory_(directory),
        state_(state),
        warnings_(warnings),
        bytes_read_(bytes_read) {}

  Result<void> run();

 private:
  struct Found {
    Segment segment;
    SegmentHeader header{};
    std::string why_invalid;
  };
  // Where the valid records of a segment end, and what follows them.
  struct Tail {
    bool clean = true;  // zeros to the segment's end
    uint64_t offset = 0;
    std::string why;
    std::string lost;  // the entries of an incomplete batch
  };

  std::string path(uint64_t id) const { return directory_ + "/" + segment_name(id); }
  tl::unexpected<Error> damage(uint64_t id, uint64_t offset, const std::string& what) const;

  Result<void> find_segments();
  Result<void> open_segment(uint64_t id, Found& found);
  Result<void> reopen(Segment& segment);
  Result<void> check_header(const Found& found);
  Result<void> check_chain(const Found& before, const Found& found) const;
  Result<Tail> read_records(Found& found);
  bool begin_batch(const Record& record, PendingBatch& batch) const;
  static bool add_entry(const Record& record, PendingBatch& batch, uint64_t segment_id);
  void finish_batch(PendingBatch& batch, uint64_t segment_id);
  // True if a later valid batch or seal shows that this place was durable. kMismatch: a newer
  // connectd wrote there, and this version cannot read its records.
  Result<bool> was_durable(const Found& found, uint64_t scan_from, uint64_t offset);
  Result<void> make_durable();

  FileSystem& files_;
  const std::string& directory_;
  LogState& state_;
  std::vector<std::string>& warnings_;
  uint64_t& bytes_read_;
  std::vector<Found> found_;
};

tl::unexpected<Error> Recovery::damage(uint64_t id, uint64_t offset,
                                       const std::string& what) const {
  return failure(
      ErrorKind::kCorrupt,
      fmt::format("the log is damaged: {} at offset {}: {}. The records before it end with index "
                  "{}; what follows was durable, and this node may have acknowledged it, so it "
                  "must not start without it. To inspect: connectctl inspect wal {}",
                  path(id), offset, what, state_.last_index, directory_));
}

Result<void> Recovery::open_segment(uint64_t id, Found& found) {
  auto file = files_.open(path(id), OpenMode::kWrite);
  if (!file) return failure(file.error());
  auto size = (*file)->size();
  if (!size) return failure(size.error());
  found.segment.id = id;
  found.segment.file = std::move(*file);
  found.segment.bytes = *size;
  if (*size < sizeof(SegmentHeader)) {
    return damage(id, *size, fmt::format("the file has only {} bytes", *size));
  }
  auto got = found.segment.file->read_at(
      0, std::span<uint8_t>(reinterpret_cast<uint8_t*>(&found.header), sizeof found.header));
  if (!got) return failure(got.error());
  bytes_read_ += *got;
  if (auto unknown = unknown_in_segment_header(found.header, id); !unknown.empty()) {
    return failure(
        ErrorKind::kNewerVersion,
        fmt::format("{} has {}. The log was not changed. Start the version that wrote it, "
                    "or a newer one",
                    path(id), unknown));
  }
  found.why_invalid = check_segment_header(found.header, id, *size);
  return {};
}

Result<void> Recovery::reopen(Segment& segment) {
  if (segment.file != nullptr) return {};
  auto file = files_.open(path(segment.id), OpenMode::kWrite);
  if (!file) return failure(file.error());
  segment.file = std::move(*file);
  return {};
}

// Finds the segments from the newest one that begins a log to the last; removes older ones.
Result<void> Recovery::find_segments() {
  auto names = files_.list(directory_);
  if (!names) return failure(names.error());
  std::vector<uint64_t> ids;
  bool removed = false;
  for (const std::string& name : *names) {
    if (uint64_t id = segment_id_of(name)) ids.push_back(id);
    if (name.ends_with(".tmp")) {
      if (auto done = files_.remove(directory_ + "/" + name); !done) return done;
      removed = true;
    }
  }
  std::sort(ids.begin(), ids.end());

  size_t first = ids.size();
  while (first > 0) {
    Found found;
    if (auto done = open_segment(ids[first - 1], found); !done) return done;
    const bool is_last = found_.empty();
    const bool begins = found.why_invalid.empty() && found.header.previous_end == 0;
    if (!found.why_invalid.empty() && !is_last) {
      return damage(found.segment.id, 0, found.why_invalid);
    }
    // A crash does not leave a file whose size differs from that in its valid header.
    if (!found.why_invalid.empty() && found.header.checksum != 0 &&
        found.header.checksum ==
            struct_checksum(found.header, position_seed(found.segment.id, 0))) {
      return damage(found.segment.id, found.segment.bytes, found.why_invalid);
    }
    if (!is_last && found.segment.id + 1 != found_.front().segment.id) {
      return damage(found.segment.id + 1, 0, "missing segment before existing ones");
    }
    if (!is_last) found.segment.file.reset();
    found_.insert(found_.begin(), std::move(found));
    --first;
    if (begins) break;
  }
  // Before the beginning of the log: left over when a snapshot replaced the log.
  for (size_t i = 0; i < first; ++i) {
    if (auto done = files_.remove(path(ids[i])); !done) return done;
    removed = true;
  }
  if (removed) return files_.sync_directory(directory_);
  return {};
}

// It was durable before the file had its name: whatever records follow, it was in use or would be.
Result<void> Recovery::check_header(const Found& found) {
  if (found.why_invalid.empty()) return {};
  // For the error when a newer version wrote there.
  if (auto scanned = was_durable(found, 0, 0); !scanned) return failure(scanned.error());
  return damage(found.segment.id, 0, found.why_invalid);
}

Result<void> Recovery::check_chain(const Found& before, const Found& found) const {
  const SegmentHeader& header = found.header;
  const char* what = nullptr;
  if (header.previous_end != before.segment.end)
    what = "the next segment has a different end of the records";
  if (header.last_index != state_.last_index.value())
    what = "the next segment has a different last index";
  if (header.last_term != term_in(state_.terms, state_.last_index).value()) {
    what = "the next segment has a different last term";
  }
  const raft::HardState hard_state{Term(header.hard_term), NodeId(header.hard_vote),
                                   Index(header.hard_commit)};
  if (!(hard_state == state_.hard_state)) what = "the next segment has a different hard state";
  if (what != nullptr) return damage(before.segment.id, before.segment.end, what);
  return {};
}

bool Recovery::begin_batch(const Record& record, PendingBatch& batch) const {
  const BatchBody& body = record.batch;
  batch = PendingBatch();
  batch.hard_state = {Term(body.hard_term), NodeId(body.hard_vote), Index(body.hard_commit)};
  batch.replaces_from = Index(body.replaces_from);
  batch.first = record.index;
  batch.previous_term = record.term;
  batch.offset = record.offset;
  batch.bytes = body.bytes;
  batch.count = body.count;
  batch.last_term = record.term;
  if (batch.first >= state_.first_index &&
      batch.previous_term != term_in(state_.terms, batch.first - 1)) {
    return false;
  }
  if (batch.replaces_from) {
    return batch.replaces_from == batch.first && batch.first <= state_.last_index;
  }
  return batch.first == state_.last_index + 1;
}

bool Recovery::add_entry(const Record& record, PendingBatch& batch, uint64_t segment_id) {
  if (record.index != batch.first + batch.seen || record.term < batch.last_term) return false;
  if (batch.terms.empty() || record.term != batch.last_term) {
    batch.terms.push_back({record.index, record.term});
  }
  batch.last_term = record.term;
  if (batch.places.empty() || record.offset - batch.places.back().offset >= kAnchorBytes) {
    batch.places.push_back({record.index, segment_id, record.offset});
  }
  const raft::EntryKind kind = record.entry.kind;
  if (raft::row_of(kind).payload != raft::EntryPayload::kOpaque) {
    // A copy, because a shared slice would keep the reader's whole chunk.
    batch.special_entries.push_back(
        {record.index, record.term, kind, Slice::copy_of(record.entry.payload.view())});
  }
  ++batch.seen;
  batch.seen_bytes += record.bytes;
  return batch.seen_bytes <= batch.bytes;
}

void Recovery::finish_batch(PendingBatch& batch, uint64_t segment_id) {
  if (batch.replaces_from) {
    state_.index.truncate(batch.first);
    while (!state_.terms.empty() && state_.terms.back().first >= batch.first) {
      state_.terms.pop_back();
    }
    std::erase_if(state_.special_entries,
                  [&](const RecoveredEntry& entry) { return entry.index >= batch.first; });
    if (batch.first < state_.first_index) {
      // The replaced entries were in segments that compaction has removed.
      state_.first_index = batch.first;
      state_.before_first_term = batch.previous_term;
      state_.terms = {{batch.first - 1, batch.previous_term}};
    }
    state_.last_index = batch.first - 1;
  }
  for (const raft::TermRun& run : batch.terms) {
    if (state_.terms.empty() || state_.terms.back().term != run.term) state_.terms.push_back(run);
  }
  for (const Anchor& place : batch.places) {
    state_.index.add(place.index, segment_id, place.offset);
  }
  for (RecoveredEntry& entry : batch.special_entries) {
    state_.special_entries.push_back(std::move(entry));
  }
  state_.hard_state = batch.hard_state;
  state_.last_index = state_.last_index + batch.count;
}

Result<Recovery::Tail> Recovery::read_records(Found& found) {
  const uint64_t id = found.segment.id;
  RecordReader reader(*found.segment.file, id, sizeof(SegmentHeader), found.segment.bytes,
                      kRecoveryChunkBytes);
  Record record;
  PendingBatch batch;
  bool in_batch = false;
  Tail tail;
  tail.offset = reader.offset();
  state_.durable_offset = reader.offset();
  state_.sealed = true;
  while (true) {
    auto status = reader.next(record);
    if (!status) return failure(status.error());
    if (*status == ReadStatus::kEnd && !in_batch) {
      auto zero = reader.rest_is_zero();
      if (!zero) return failure(zero.error());
      tail.clean = *zero;
      if (!*zero) tail.why = "bytes after the last record";
      break;
    }
    if (*status == ReadStatus::kNewer) {
      return failure(newer_record(path(id), record, reader.why()));
    }
    const char* why = nullptr;
    if (*status == ReadStatus::kEnd) why = "incomplete batch";
    if (*status == ReadStatus::kInvalid) why = reader.why().c_str();
    if (why == nullptr && in_batch) {
      if (record.kind != RecordKind::kEntry || !add_entry(record, batch, id)) {
        why = "a record does not match its batch";
      } else if (batch.seen == batch.count) {
        if (batch.seen_bytes != batch.bytes) {
          why = "wrong length of a batch";
        } else {
          finish_batch(batch, id);
          in_batch = false;
          tail.offset = reader.offset();
        }
      }
    } else if (why == nullptr && record.kind == RecordKind::kBatch) {
      const bool place_fits = record.batch.durable_segment == id &&
                              record.batch.durable_offset >= sizeof(SegmentHeader) &&
                              record.batch.durable_offset <= record.offset;
      if (!place_fits || !begin_batch(record, batch)) {
        why = "a batch does not follow the records before it";
      } else {
        state_.durable_offset = std::max(state_.durable_offset, record.batch.durable_offset);
        state_.sealed = false;
        in_batch = batch.count > 0;
        if (!in_batch) {
          finish_batch(batch, id);
          tail.offset = reader.offset();
        }
      }
    } else if (why == nullptr && record.kind == RecordKind::kSeal) {
      if (record.seal.durable_segment != id || record.seal.durable_offset != record.offset) {
        why = "wrong position in a seal";
      } else {
        state_.durable_offset = record.offset;
        state_.sealed = true;
        tail.offset = reader.offset();
      }
    } else if (why == nullptr) {
      why = "an entry outside a batch";
    }
    if (why != nullptr) {
      tail.clean = false;
      tail.why = why;
      if (in_batch) {
        tail.lost = fmt::format("entries {} to {}", batch.first, batch.first + batch.count - 1);
      }
      break;
    }
  }
  found.segment.end = tail.offset;
  bytes_read_ += reader.bytes_read();
  return tail;
}

Result<bool> Recovery::was_durable(const Found& found, uint64_t scan_from, uint64_t offset) {
  RecordReader reader(*found.segment.file, found.segment.id, scan_from, found.segment.bytes,
                      kRecoveryChunkBytes);
  Record record;
  while (true) {
    auto found_next = reader.find_next(record);
    if (!found_next) return failure(found_next.error());
    if (*found_next == ReadStatus::kNewer) {
      return failure(newer_record(path(found.segment.id), record, reader.why()));
    }
    if (*found_next == ReadStatus::kEnd) return false;
    const uint64_t durable = record.kind == RecordKind::kBatch ? record.batch.durable_offset
                                                               : record.seal.durable_offset;
    if (durable > offset) return true;
  }
}

// What was read may be in the page cache only, the zeros behind the end as well: an earlier start
// may have put them over a torn batch, and failed to sync them. After a failed sync they stay
// readable there until the page is dropped. Writing all of it again makes the pages dirty again.
Result<void> Recovery::make_durable() {
  Segment& last = state_.segments.back();
  std::vector<uint8_t> bytes;
  for (uint64_t at = state_.durable_offset; at < last.end; at += bytes.size()) {
    bytes.resize(std::min<uint64_t>(kRecoveryChunkBytes, last.end - at));
    auto got = last.file->read_at(at, bytes);
    if (!got) return failure(got.error());
    if (*got != bytes.size()) {
      return failure(ErrorKind::kDisk, fmt::format("{} became shorter", path(last.id)));
    }
    if (auto done = last.file->write_at(at, bytes); !done) return done;
  }
  if (auto done = last.file->fill_zeros(last.end, last.bytes - last.end); !done) return done;
  for (Segment& segment : state_.segments) {
    if (auto done = reopen(segment); !done) return done;
    if (auto done = segment.file->sync(); !done) return done;
    if (&segment != &last) segment.file.reset();
  }
  return files_.sync_directory(directory_);
}

Result<void> Recovery::run() {
  if (auto done = find_segments(); !done) return done;
  if (found_.empty()) return {};
  if (auto done = check_header(found_.front()); !done) return done;

  const SegmentHeader& origin = found_.front().header;
  state_.last_index = Index(origin.last_index);
  state_.first_index = state_.last_index + 1;
  state_.before_first_term = Term(origin.last_term);
  state_.hard_state = {Term(origin.hard_term), NodeId(origin.hard_vote), Index(origin.hard_commit)};
  // While the log is read, the list of terms includes the entry before the first one.
  state_.terms = {{state_.last_index, Term(origin.last_term)}};

  Tail tail;
  for (size_t i = 0; i < found_.size(); ++i) {
    Found& found = found_[i];
    if (i > 0) {
      if (auto done = check_header(found); !done) return done;
      if (auto done = check_chain(found_[i - 1], found); !done) return done;
    }
    const bool is_last = i + 1 == found_.size();
    if (auto done = reopen(found.segment); !done) return done;
    auto read = read_records(found);
    if (!read) return failure(read.error());
    if (!is_last) found.segment.file.reset();
    tail = std::move(*read);
    if (tail.clean) continue;
    auto durable = is_last ? was_durable(found, tail.offset, tail.offset) : Result<bool>(true);
    if (!durable) return failure(durable.error());
    if (*durable) return damage(found.segment.id, tail.offset, tail.why);
    warnings_.push_back(fmt::format(
        "cut the incomplete end of the log: {} from offset {}: {}; the log ends with index {}, {}",
        path(found.segment.id), tail.offset, tail.why, state_.last_index,
        tail.lost.empty() ? "what follows was never known to be durable, and is dropped"
                          : tail.lost + " are dropped"));
  }
  for (Found& found : found_) state_.segments.push_back(std::move(found.segment));
  // Keep only the terms of the log's own entries: shorten or remove the run of the entry before the
  // first one.
  if (!state_.terms.empty() && state_.terms.front().first < state_.first_index) {
    const bool reaches_in =
        state_.last_index >= state_.first_index &&
        (state_.terms.size() == 1 || state_.terms[1].first > state_.first_index);
    if (reaches_in) {
      state_.terms.front().first = state_.first_index;
    } else {
      state_.terms.erase(state_.terms.begin());
    }
  }
  return make_durable();
}

}  // namespace

std::string segment_name(uint64_t segment_id) { return fmt::format("{:016x}.wal", segment_id); }

uint64_t segment_id_of(const std::string& name) {
  if (name.size() != 20 || !name.ends_with(".wal")) return 0;
  uint64_t id = 0;
  for (size_t i = 0; i < 16; ++i) {
    const char c = name[i];
    uint64_t digit = 0;
    if (c >= '0' && c <= '9') {
      digit = static_cast<uint64_t>(c - '0');
    } else if (c >= 'a' && c <= 'f') {
      digit = static_cast<uint64_t>(c - 'a') + 10;
    } else {
      return 0;
    }
    id = id * 16 + digit;
  }
  return id;
}

Term term_in(const std::vector<raft::TermRun>& terms, Index index) {
  auto after = std::upper_bound(terms.begin(), terms.end(), index,
                                [](Index i, const raft::TermRun& run) { return i < run.first; });
  return after == terms.begin() ? Term() : std::prev(after)->term;
}

Result<void> recover_log(FileSystem& files, const std::string& directory, LogState& state,
                         std::vector<std::string>& warnings, uint64_t& bytes_read) {
  return Recovery(files, directory, state, warnings, bytes_read).run();
}

}  // namespace connectd::storage
