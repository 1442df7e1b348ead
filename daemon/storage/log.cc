#include "storage/log.h"

#include <fmt/format.h>

#include <algorithm>
#include <atomic>
#include <cstring>
#include <utility>

#include "base/limits.h"
#include "base/log.h"
#include "base/mutex.h"
#include "base/thread_role.h"
#include "storage/format.h"
#include "storage/log_index.h"
#include "storage/record_reader.h"
#include "storage/recovery.h"

namespace connectd::storage {
namespace {

// A longer LogBatch is written as several batches: a prefix of its entries is a valid state of the
// log on disk, because nothing of the batch was acknowledged yet.
constexpr uint64_t kMaxBatchBytes = 1 << 20;
// The encoding buffer is written before it would grow beyond this.
constexpr size_t kMaxBufferBytes = 4 << 20;
constexpr size_t kMinReadChunkBytes = 64 << 10;
constexpr size_t kMaxReadChunkBytes = 1 << 20;
// A new segment is filled and synced in pieces, so that the log's own syncs do not wait for the
// whole.
constexpr uint64_t kFillBytes = 4 << 20;
// Anchors looked up for one read(): bounds the work under the mutex, so read() may return less.
constexpr size_t kMaxAnchorsPerRead = 256;
// Maximum of term runs before those of compacted entries are dropped.
constexpr size_t kMaxStaleTermRuns = 256;

constexpr const char* kSpareName = "spare";
constexpr const char* kReserveName = "reserve";

class SegmentedLog final : public Log {
 public:
  SegmentedLog(FileSystem& files, std::string directory, LogOptions options)
      : files_(files), directory_(std::move(directory)), options_(options) {}

  // No other thread has the log yet.
  Result<void> start(raft::SnapshotMark snapshot, Recovered& recovered) NO_THREAD_SAFETY_ANALYSIS;

  Result<void> append(std::span<const LogBatch> batches) override;
  Result<void> seal_if_idle(Time now) override;
  bool wants_seal() const override {
    writer_.check();
    return !sealed_;
  }
  Result<void> reset(raft::SnapshotMark mark, raft::HardState hard_state) override;
  void become_writer() override { writer_.hand_over(); }

  Result<std::vector<raft::Entry>> read(Index from, Index to, size_t max_bytes) const override;

  Result<Index> compact(Index keep_from) override;
  Result<void> prepare_next_segment() override;
  bool wants_next_segment() const override { return wants_spare() || wants_reserve(); }
  bool has_reserve() const override { return has_reserve_.load(std::memory_order_acquire); }

  Index first_index() const override {
    MutexLock lock(mutex_);
    return first_index_;
  }
  Index last_index() const override {
    MutexLock lock(mutex_);
    return durable_last_;
  }
  uint64_t total_bytes() const override;
  uint64_t bytes_from(Index index) const override;

 private:
  struct Range {  // of one anchor
    Anchor anchor;
    std::shared_ptr<File> file;  // null: it is not open
    uint64_t limit = 0;
    Index end;
  };

  std::string path(const std::string& name) const { return directory_ + "/" + name; }
  uint64_t reserve_bytes() const { return std::min(options_.segment_bytes, kReserveBytes); }
  bool wants_spare() const {
    MutexLock lock(mutex_);
    return spare_.file == nullptr && !spare_in_use_;
  }
  bool wants_reserve() const {
    MutexLock lock(mutex_);
    return reserve_.file == nullptr && !reserve_in_use_;
  }
  Result<void> check_fits(raft::SnapshotMark snapshot, Term term_there, Index first_index) const
      REQUIRES(writer_);
  Result<void> adopt(const char* name, uint64_t bytes, Segment& segment);
  // `segment`: spare_ or reserve_; set under mutex_.
  Result<void> prepare(const char* name, uint64_t bytes, Segment SegmentedLog::*segment);
  Result<Segment> make_segment(const std::string& temporary, uint64_t bytes);
  // Makes the next segment the current one. `replaced`: not null if the log begins anew there; gets
  // the earlier segments, to be removed.
  Result<void> roll(uint64_t record_bytes, std::vector<uint64_t>* replaced) REQUIRES(writer_);
  // The end of it: the segment is durable under its name.
  void enter(Segment next, std::vector<uint64_t>* replaced) REQUIRES(writer_);
  Result<void> append_all(std::span<const LogBatch> batches) REQUIRES(writer_);
  Result<void> append_part(raft::HardState hard_state, Index replaces_from,
                           std::span<const raft::Entry> entries, uint64_t entry_bytes)
      REQUIRES(writer_);
  void encode_entry(const raft::Entry& entry) REQUIRES(writer_);
  uint8_t* grow_buffer(size_t bytes) REQUIRES(writer_);
  void encode_header(uint8_t* at, RecordKind kind, uint64_t offset, Index index, Term term,
                     size_t body_bytes) const REQUIRES(writer_);
  Result<void> write_buffer() REQUIRES(writer_);
  Result<void> sync_and_publish() REQUIRES(writer_);
  Result<void> check_usable() const REQUIRES(writer_);
  Result<void> fail(Error error) REQUIRES(writer_);
  Result<void> remove_segments(std::vector<uint64_t> ids, bool in_order)
      REQUIRES(maintenance_mutex_);
  std::vector<Range> ranges_of(Index from, Index to) const;
  Result<std::shared_ptr<File>> open_to_read(const Range& range) const;

  FileSystem& files_;
  const std::string directory_;
  const LogOptions options_;

  // ---- of the writer thread
  ThreadRole writer_{"log writer"};
  Segment current_ GUARDED_BY(writer_);  // end: place of the next record, after the buffered ones
  uint64_t durable_offset_ GUARDED_BY(writer_) = 0;  // in current_
  Index last_index_ GUARDED_BY(writer_);
  raft::HardState hard_state_ GUARDED_BY(writer_);
  // First: the run of the entry before the first one.
  std::vector<raft::TermRun> terms_ GUARDED_BY(writer_);
  std::vector<uint8_t> buffer_ GUARDED_BY(writer_);  // encoded, not written
  size_t buffer_bytes_ GUARDED_BY(writer_) = 0;
  uint64_t buffer_offset_ GUARDED_BY(writer_) = 0;  // its place in the segment
  bool unsynced_ GUARDED_BY(writer_) = false;
  bool sealed_ GUARDED_BY(writer_) = true;
  std::optional<Time> idle_since_ GUARDED_BY(writer_);
  std::optional<Error> failure_ GUARDED_BY(writer_);
  // append() stopped for lack of space, before this batch, and this entry of it.
  bool waits_for_space_ GUARDED_BY(writer_) = false;
  size_t resume_batch_ GUARDED_BY(writer_) = 0;
  size_t resume_entry_ GUARDED_BY(writer_) = 0;
  // Changes of the index since the last sync, in order. A truncation has no offset.
  struct IndexChange {
    Index index;
    uint64_t offset = 0;
    bool truncates = false;
  };
  std::vector<IndexChange> index_changes_ GUARDED_BY(writer_);
  // ---- shared
  Mutex maintenance_mutex_;  // for compact() and reset(); locked before mutex_
  // Segments that no longer belong to the log and must be removed.
  std::vector<uint64_t> removals_left_ GUARDED_BY(maintenance_mutex_);
  Mutex spare_mutex_;  // for prepare_next_segment()
  mutable Mutex mutex_;
  std::vector<Segment> segments_ GUARDED_BY(mutex_);  // end: durable
  LogIndex index_ GUARDED_BY(mutex_);
  Index first_index_ GUARDED_BY(mutex_){1};
  Index durable_last_ GUARDED_BY(mutex_);
  Segment spare_ GUARDED_BY(mutex_);
  // roll() has taken it, but it still has the name of the spare.
  bool spare_in_use_ GUARDED_BY(mutex_) = false;
  Segment reserve_ GUARDED_BY(mutex_);
  bool reserve_in_use_ GUARDED_BY(mutex_) = false;  // likewise
  std::atomic<bool> has_reserve_{false};
};

// ---- opening

Result<void> SegmentedLog::start(raft::SnapshotMark snapshot, Recovered& recovered) {
  if (auto done = files_.make_directory(directory_); !done) return done;
  LogState state;
  if (auto done = recover_log(files_, directory_, state, recovered.warnings, recovered.bytes_read);
      !done) {
    return done;
  }
  if (auto done = adopt(kSpareName, options_.segment_bytes, spare_); !done) return done;
  if (auto done = adopt(kReserveName, reserve_bytes(), reserve_); !done) return done;
  has_reserve_ = reserve_.file != nullptr;

  if (state.segments.empty()) {
    if (snapshot.index) {
      return failure(
          ErrorKind::kCorrupt,
          fmt::format("{} has no log, but a snapshot up to index {}: the log and this node's votes "
                      "are lost",
                      directory_, snapshot.index));
    }
    terms_ = {{Index(0), Term(0)}};
    if (auto done = roll(0, &removals_left_); !done) return done;
  } else {
    last_index_ = state.last_index;
    hard_state_ = state.hard_state;
    terms_ = state.terms;
    terms_.insert(terms_.begin(), {state.first_index - 1, state.before_first_term});
    current_ = state.segments.back();
    durable_offset_ = current_.end;
    buffer_offset_ = current_.end;
    sealed_ = state.sealed;
    MutexLock lock(mutex_);
    segments_ = std::move(state.segments);
    index_ = std::move(state.index);
    first_index_ = state.first_index;
    durable_last_ = state.last_index;
  }
  if (wants_reserve()) {
    auto made = prepare(kReserveName, reserve_bytes(), &SegmentedLog::reserve_);
    if (!made && !is_out_of_resources(made.error().kind)) return made;
    has_reserve_ = made.has_value();
    if (!made) {
      const bool is_full = made.error().kind == ErrorKind::kNoSpace;
      recovered.warnings.push_back(fmt::format(
          "entries rejected: no {} for the log's reserve bytes={}; this node retries ({})",
          is_full ? "space" : "file descriptor", reserve_bytes(), made.error().text));
    }
  }
  if (!sealed_) {
    // Everything is durable now; without a seal the last batch would remain ambiguous.
    idle_since_ = Time{};
    if (auto done = seal_if_idle(Time{} + kSealAfter); !done) return done;
  }

  const Term term_there = snapshot.index + 1 <= state.first_index
                              ? state.before_first_term
                              : term_in(state.terms, snapshot.index);
  if (auto fits = check_fits(snapshot, term_there, state.first_index); !fits) return fits;
  const bool behind = snapshot.index > last_index_;
  if (snapshot.index && (behind || term_there != snapshot.term)) {
    recovered.warnings.push_back(
        behind ? fmt::format("log ends before the snapshot last={} snapshot={}; starting a new log "
                             "after the snapshot",
                             last_index_, snapshot.index)
               : fmt::format("log differs from the snapshot term={} index={} snapshot_term={}; "
                             "starting a new log after the snapshot",
                             term_there, snapshot.index, snapshot.term));
    if (auto done = reset(snapshot, hard_state_); !done) {
      if (done.error().kind != ErrorKind::kNoSpace) return done;
      return failure(ErrorKind::kNoSpaceToBegin,
                     fmt::format("the disk is full, and a new log after the snapshot at index {} "
                                 "requires a file: free some space and start again ({})",
                                 snapshot.index, done.error().text));
    }
    state = LogState();
    state.first_index = snapshot.index + 1;
    state.before_first_term = snapshot.term;
  }

  recovered.hard_state = hard_state_;
  recovered.first_index = state.first_index;
  recovered.last_index = last_index_;
  recovered.before_first_term = state.before_first_term;
  recovered.terms = std::move(state.terms);
  if (last_index_ >= state.first_index) {
    auto last = read(last_index_, last_index_ + 1, 1);
    if (!last) return failure(last.error());
    recovered.last_stamp_ns = last->back().stamp_ns;
  }
  recovered.special_entries = std::move(state.special_entries);
  return {};
}

// `term_there`: of the log's entry at the snapshot's index.
Result<void> SegmentedLog::check_fits(raft::SnapshotMark snapshot, Term term_there,
                                      Index first_index) const {
  // Both take the directory above.
  const std::string data_dir = directory_.substr(0, directory_.find_last_of('/'));
  const std::string inspect = fmt::format(
      "To inspect both: connectctl inspect wal {0}, connectctl inspect snapshot {0}", data_dir);
  if (snapshot.index + 1 < first_index) {
    return failure(ErrorKind::kCorrupt,
                   fmt::format("the log in {} begins with index {}, but the newest valid snapshot "
                               "ends with {}: the entries between are missing. {}",
                               directory_, first_index, snapshot.index, inspect));
  }
  const bool is_committed = snapshot.index <= std::min(hard_state_.commit, last_index_);
  if (snapshot.index && is_committed && term_there != snapshot.term) {
    return failure(
        ErrorKind::kCorrupt,
        fmt::format("the snapshot at index {} has term {}, but the committed entry there "
                    "in the log {} has term {}: one of them belongs to another history. "
                    "{}",
                    snapshot.index, snapshot.term, directory_, term_there, inspect));
  }
  return {};
}

// A file from an earlier run is as good as a new one: it was synced before it got its name.
Result<void> SegmentedLog::adopt(const char* name, uint64_t bytes, Segment& segment) {
  auto there = files_.exists(path(name));
  if (!there) return failure(there.error());
  if (!*there) return {};
  auto file = files_.open(path(name), OpenMode::kWrite);
  if (!file) return failure(file.error());
  auto size = (*file)->size();
  if (!size) return failure(size.error());
  if (*size != bytes) {
    if (auto done = files_.remove(path(name)); !done) return done;
    return files_.sync_directory(directory_);
  }
  MutexLock lock(mutex_);
  segment = Segment{0, std::move(*file), *size, 0};
  return {};
}

// ---- segments

Result<Segment> SegmentedLog::make_segment(const std::string& temporary, uint64_t bytes) {
  auto file = files_.open(temporary, OpenMode::kCreate);
  if (!file) return failure(file.error());
  Result<void> done;
  for (uint64_t at = 0; done && at < bytes; at += kFillBytes) {
    done = (*file)->fill_zeros(at, std::min(kFillBytes, bytes - at));
    if (done) done = (*file)->sync();
  }
  if (!done) {
    // Most likely the disk is full: free the space. The first error is the one to report.
    auto removed = files_.remove(temporary);
    (void)removed;
    return failure(done.error());
  }
  return Segment{0, std::move(*file), bytes, 0};
}

Result<void> SegmentedLog::prepare(const char* name, uint64_t bytes,
                                   Segment SegmentedLog::*segment) {
  const std::string temporary = path(std::string(name) + ".tmp");
  auto made = make_segment(temporary, bytes);
  if (!made) return failure(made.error());
  if (auto done = files_.rename(temporary, path(name)); !done) return done;
  if (auto done = files_.sync_directory(directory_); !done) return done;
  MutexLock lock(mutex_);
  this->*segment = std::move(*made);
  return {};
}

Result<void> SegmentedLog::prepare_next_segment() {
  MutexLock one_at_a_time(spare_mutex_);
  if (wants_reserve()) {
    if (auto done = prepare(kReserveName, reserve_bytes(), &SegmentedLog::reserve_); !done)
      return done;
    has_reserve_.store(true, std::memory_order_release);
  }
  if (!wants_spare()) return {};
  return prepare(kSpareName, options_.segment_bytes, &SegmentedLog::spare_);
}

// Only creating a file needs space; if that fails for lack of space, nothing has changed.
Result<void> SegmentedLog::roll(uint64_t record_bytes, std::vector<uint64_t>* replaced) {
  const uint64_t needed = sizeof(SegmentHeader) + record_bytes + kSealRecordBytes;
  Segment next;
  std::string name = path(kSpareName);
  {
    MutexLock lock(mutex_);
    if (spare_.file != nullptr && spare_.bytes >= needed) {
      next = std::exchange(spare_, Segment());
      // Until it has its new name, no other file may take the old one.
      spare_in_use_ = true;
    }
  }
  if (next.file == nullptr) {
    name = path("next.tmp");
    uint64_t bytes = std::max(std::min(options_.segment_bytes, kQuickSegmentBytes), needed);
    auto made = make_segment(name, (bytes + 4095) / 4096 * 4096);
    if (made) {
      next = std::move(*made);
    } else {
      if (!is_out_of_resources(made.error().kind)) return failure(made.error());
      MutexLock lock(mutex_);
      if (reserve_.file == nullptr || reserve_.bytes < needed) {
        waits_for_space_ = true;
        return failure(made.error());
      }
      name = path(kReserveName);
      next = std::exchange(reserve_, Segment());
      reserve_in_use_ = true;
      has_reserve_.store(false, std::memory_order_release);
    }
  }
  next.id = current_.id + 1;
  next.end = sizeof(SegmentHeader);

  SegmentHeader header{};
  std::memcpy(header.magic, kSegmentMagic, sizeof header.magic);
  header.version = kLogVersion;
  header.group = kGroup;
  header.segment_id = next.id;
  header.segment_bytes = next.bytes;
  header.previous_end = replaced != nullptr ? 0 : current_.end;
  header.last_index = last_index_.value();
  header.last_term = terms_.back().term.value();
  header.hard_term = hard_state_.term.value();
  header.hard_vote = hard_state_.vote.value();
  header.hard_commit = hard_state_.commit.value();
  header.checksum = struct_checksum(header, position_seed(next.id, 0));
  ByteView bytes(reinterpret_cast<const uint8_t*>(&header), sizeof header);
  if (auto done = next.file->write_at(0, bytes); !done) return done;
  if (auto done = next.file->sync(); !done) return done;
  if (auto done = files_.rename(name, path(segment_name(next.id))); !done) return done;
  if (auto done = files_.sync_directory(directory_); !done) return done;
  enter(std::move(next), replaced);
  return {};
}

void SegmentedLog::enter(Segment next, std::vector<uint64_t>* replaced) {
  current_ = std::move(next);
  durable_offset_ = current_.end;
  buffer_offset_ = current_.end;
  sealed_ = true;
  std::shared_ptr<File> surplus;  // closed when nobody waits for the mutex
  MutexLock lock(mutex_);
  if (replaced != nullptr) {
    for (const Segment& old : segments_) replaced->push_back(old.id);
    segments_.clear();
    index_.clear();
    first_index_ = last_index_ + 1;
    durable_last_ = last_index_;
  }
  segments_.push_back(current_);
  if (segments_.size() > kOpenSegments) {
    surplus = std::move(segments_[segments_.size() - 1 - kOpenSegments].file);
  }
  spare_in_use_ = reserve_in_use_ = false;
}

// ---- appending

Result<void> SegmentedLog::check_usable() const {
  if (!failure_) return {};
  return failure(ErrorKind::kDisk,
                 fmt::format("the log in {} failed before and accepts no more writes: {}",
                             directory_, failure_->text));
}

Result<void> SegmentedLog::fail(Error error) {
  if (std::exchange(waits_for_space_, false)) return failure(std::move(error));
  // In the middle of a change: only recovery can tell what is on disk.
  if (error.kind != ErrorKind::kSyncFailed) error.kind = ErrorKind::kDisk;
  failure_ = error;
  return failure(std::move(error));
}

uint8_t* SegmentedLog::grow_buffer(size_t bytes) {
  // Reaches its working size within a few batches, and then allocates nothing.
  if (buffer_.size() < buffer_bytes_ + bytes) {
    buffer_.resize(std::max(buffer_bytes_ + bytes, buffer_.size() * 2));
  }
  uint8_t* at = buffer_.data() + buffer_bytes_;
  buffer_bytes_ += bytes;
  return at;
}

void SegmentedLog::encode_header(uint8_t* at, RecordKind kind, uint64_t offset, Index index,
                                 Term term, size_t body_bytes) const {
  RecordHeader header{};
  header.group = kGroup;
  header.kind = static_cast<uint8_t>(kind);
  header.segment_id = current_.id;
  header.offset = offset;
  header.index = index.value();
  header.term = term.value();
  header.length = static_cast<uint32_t>(body_bytes);
  header.checksum = struct_checksum(header, position_seed(current_.id, offset));
  std::memcpy(at, &header, sizeof header);
}

void SegmentedLog::encode_entry(const raft::Entry& entry) {
  const uint64_t offset = current_.end;
  const size_t bytes = entry_record_bytes(entry.payload.size());
  uint8_t* at = grow_buffer(bytes);
  const size_t body_bytes = wire::kEntryHeaderBytes + entry.payload.size();
  encode_header(at, RecordKind::kEntry, offset, entry.index, entry.term, body_bytes);
  uint8_t* body = at + sizeof(RecordHeader);
  wire::encode_entry_header(entry, body);
  if (!entry.payload.empty()) {
    std::memcpy(body + wire::kEntryHeaderBytes, entry.payload.data(), entry.payload.size());
  }
  std::memset(body + body_bytes, 0, bytes - sizeof(RecordHeader) - body_bytes);
  current_.end += bytes;
}

Result<void> SegmentedLog::write_buffer() {
  if (buffer_bytes_ == 0) return {};
  auto done = current_.file->write_at(buffer_offset_, ByteView(buffer_.data(), buffer_bytes_));
  if (!done) return done;
  buffer_offset_ += buffer_bytes_;
  buffer_bytes_ = 0;
  unsynced_ = true;
  return {};
}

Result<void> SegmentedLog::sync_and_publish() {
  if (auto done = write_buffer(); !done) return done;
  if (unsynced_ && options_.sync) {
    if (auto done = current_.file->sync(); !done) return done;
  }
  unsynced_ = false;
  durable_offset_ = current_.end;
  MutexLock lock(mutex_);
  for (const IndexChange& change : index_changes_) {
    if (change.truncates) {
      index_.truncate(change.index);
    } else {
      index_.add(change.index, current_.id, change.offset);
    }
  }
  index_changes_.clear();
  segments_.back().end = current_.end;
  durable_last_ = last_index_;
  return {};
}

// Writes one batch. `replaces_from`: none, or the index of its first entry.
Result<void> SegmentedLog::append_part(raft::HardState hard_state, Index replaces_from,
                                       std::span<const raft::Entry> entries, uint64_t entry_bytes) {
  const uint64_t bytes = kBatchRecordBytes + entry_bytes;
  if (current_.end + bytes + kSealRecordBytes > current_.bytes) {
    if (auto done = sync_and_publish(); !done) return done;
    if (auto done = roll(bytes, nullptr); !done) return done;
  }
  if (buffer_bytes_ > 0 && buffer_bytes_ + bytes > kMaxBufferBytes) {
    if (auto done = write_buffer(); !done) return done;
  }
  const uint64_t offset = current_.end;
  if (replaces_from) {
    last_index_ = replaces_from - 1;
    // The run of the entry before the log's first one stays: entries before it are committed, so no
    // replaced suffix begins there.
    while (terms_.size() > 1 && terms_.back().first >= replaces_from) terms_.pop_back();
    CHECK(terms_.front().first <= last_index_)
        << "entries from " << replaces_from.value() << " are replaced, but the log begins later";
    index_changes_.push_back({replaces_from, 0, true});
  }
  const Index first = last_index_ + 1;
  uint8_t* at = grow_buffer(kBatchRecordBytes);
  encode_header(at, RecordKind::kBatch, offset, first, term_in(terms_, last_index_),
                sizeof(BatchBody));
  BatchBody body{};
  body.durable_segment = current_.id;
  body.durable_offset = durable_offset_;
  body.hard_term = hard_state.term.value();
  body.hard_vote = hard_state.vote.value();
  body.hard_commit = hard_state.commit.value();
  body.replaces_from = replaces_from.value();
  body.bytes = entry_bytes;
  body.count = static_cast<uint32_t>(entries.size());
  body.checksum = struct_checksum(body, position_seed(current_.id, offset));
  std::memcpy(at + sizeof(RecordHeader), &body, sizeof body);
  current_.end += kBatchRecordBytes;

  uint64_t place = 0;
  for (const raft::Entry& entry : entries) {
    CHECK(entry.index == last_index_ + 1)
        << "entry " << entry.index.value() << " does not follow " << last_index_.value();
    CHECK(entry.term >= terms_.back().term) << "the term falls at entry " << entry.index.value();
    if (entry.term != terms_.back().term) terms_.push_back({entry.index, entry.term});
    last_index_ = entry.index;
    if (place == 0 || current_.end - place >= kAnchorBytes) {
      place = current_.end;
      index_changes_.push_back({entry.index, place, false});
    }
    encode_entry(entry);
  }
  for (uint64_t number : {hard_state.term.value(), hard_state.commit.value(), last_index_.value(),
                          terms_.back().term.value()}) {
    CHECK(number <= kMaxNumber) << "the number " << number << " could not be read back";
  }
  hard_state_ = hard_state;
  sealed_ = false;
  idle_since_.reset();
  return {};
}

Result<void> SegmentedLog::append_all(std::span<const LogBatch> batches) {
  for (; resume_batch_ < batches.size(); ++resume_batch_) {
    const LogBatch& batch = batches[resume_batch_];
    Index replaces_from = batch.replaces_from.value_or(Index());
    if (replaces_from > last_index_ || resume_entry_ > 0) replaces_from = Index();
    do {
      const size_t from = resume_entry_;
      size_t to = from;
      uint64_t bytes = 0;
      while (to < batch.entries.size()) {
        const raft::Entry& entry = batch.entries[to];
        CHECK(entry.payload.size() <= kMaxEntryPayloadBytes)
            << "entry " << entry.index.value() << " has " << entry.payload.size() << " bytes";
        const uint64_t more = entry_record_bytes(entry.payload.size());
        if (to > from && bytes + more > kMaxBatchBytes) break;
        bytes += more;
        ++to;
      }
      auto done = append_part(batch.hard_state, replaces_from,
                              batch.entries.subspan(from, to - from), bytes);
      if (!done) return done;
      replaces_from = Index();
      resume_entry_ = to;
    } while (resume_entry_ < batch.entries.size());
    resume_entry_ = 0;
  }
  resume_batch_ = 0;
  return sync_and_publish();
}

Result<void> SegmentedLog::append(std::span<const LogBatch> batches) {
  writer_.check();
  if (auto usable = check_usable(); !usable) return usable;
  if (auto done = append_all(batches); !done) return fail(done.error());
  if (terms_.size() > kMaxStaleTermRuns) {
    // For compacted entries one run is enough, that of the entry before the first one.
    const Index before_first = first_index() - 1;
    size_t keep = 0;
    while (keep + 1 < terms_.size() && terms_[keep + 1].first <= before_first) ++keep;
    terms_.erase(terms_.begin(), terms_.begin() + static_cast<ptrdiff_t>(keep));
  }
  return {};
}

Result<void> SegmentedLog::seal_if_idle(Time now) {
  writer_.check();
  if (auto usable = check_usable(); !usable) return usable;
  if (sealed_) return {};
  if (!idle_since_) idle_since_ = now;
  if (now - *idle_since_ < kSealAfter) return {};

  const uint64_t offset = current_.end;
  uint8_t* at = grow_buffer(kSealRecordBytes);
  encode_header(at, RecordKind::kSeal, offset, Index(), Term(), sizeof(SealBody));
  SealBody body{current_.id, offset, 0};
  body.checksum = struct_checksum(body, position_seed(current_.id, offset));
  std::memcpy(at + sizeof(RecordHeader), &body, sizeof body);
  current_.end += kSealRecordBytes;
  if (auto done = sync_and_publish(); !done) return fail(done.error());
  sealed_ = true;
  idle_since_.reset();
  return {};
}

Result<void> SegmentedLog::reset(raft::SnapshotMark mark, raft::HardState hard_state) {
  writer_.check();
  if (auto usable = check_usable(); !usable) return usable;
  MutexLock one_at_a_time(maintenance_mutex_);
  last_index_ = mark.index;
  terms_ = {{mark.index, mark.term}};
  hard_state_ = hard_state;
  std::vector<uint64_t> replaced;
  if (auto done = roll(0, &replaced); !done) return fail(done.error());
  if (auto done = remove_segments(std::move(replaced), false); !done) return fail(done.error());
  return {};
}

// ---- compaction

// Removes `ids`, and those that an earlier failure left. `in_order`: later segments remain, and a
// crash must not leave a gap, so the oldest is removed first, and each removal is made durable.
Result<void> SegmentedLog::remove_segments(std::vector<uint64_t> ids, bool in_order) {
  removals_left_.insert(removals_left_.end(), ids.begin(), ids.end());
  while (!removals_left_.empty()) {
    const std::string file = path(segment_name(removals_left_.front()));
    auto done = files_.remove(file);
    if (!done && done.error().kind != ErrorKind::kNotFound) return done;
    if (in_order || removals_left_.size() == 1) {
      if (auto synced = files_.sync_directory(directory_); !synced) return synced;
    }
    removals_left_.erase(removals_left_.begin());
  }
  return {};
}

Result<Index> SegmentedLog::compact(Index keep_from) {
  MutexLock one_at_a_time(maintenance_mutex_);
  std::vector<uint64_t> ids;
  std::vector<Segment> dropped;  // closed when nobody waits for the mutex
  Index first;
  {
    MutexLock lock(mutex_);
    size_t drop = 0;
    size_t anchor = 0;
    Index new_first = first_index_;
    while (drop + 1 < segments_.size()) {
      // The first entry after segment `drop`.
      while (anchor < index_.size() && index_.at(anchor).segment_id <= segments_[drop].id) ++anchor;
      const Index behind = anchor < index_.size() ? index_.at(anchor).index : durable_last_ + 1;
      if (behind > keep_from) break;
      new_first = behind;
      ids.push_back(segments_[drop].id);
      ++drop;
    }
    if (drop > 0) {
      const auto end = segments_.begin() + static_cast<ptrdiff_t>(drop);
      dropped.assign(std::make_move_iterator(segments_.begin()), std::make_move_iterator(end));
      segments_.erase(segments_.begin(), end);
      index_.drop_segments_below(segments_.front().id);
      first_index_ = new_first;
    }
    first = first_index_;
  }
  dropped.clear();
  if (auto done = remove_segments(std::move(ids), true); !done) return failure(done.error());
  return first;
}

// ---- reading

std::vector<SegmentedLog::Range> SegmentedLog::ranges_of(Index from, Index to) const {
  std::vector<Range> ranges;
  MutexLock lock(mutex_);
  if (from < first_index_ || from > durable_last_) return ranges;
  const Index end = std::min(to, durable_last_ + 1);
  for (size_t i = index_.find(from); i < index_.size() && ranges.size() < kMaxAnchorsPerRead; ++i) {
    const Anchor& anchor = index_.at(i);
    if (anchor.index >= end) break;
    auto segment = std::lower_bound(segments_.begin(), segments_.end(), anchor.segment_id,
                                    [](const Segment& a, uint64_t id) { return a.id < id; });
    CHECK(segment != segments_.end() && segment->id == anchor.segment_id)
        << "entry " << anchor.index.value() << " is in no segment";
    Index next = i + 1 < index_.size() ? index_.at(i + 1).index : end;
    ranges.push_back({anchor, segment->file, segment->end, std::min(next, end)});
  }
  return ranges;
}

// kNotFound: compaction has removed it meanwhile, or somebody else has.
Result<std::shared_ptr<File>> SegmentedLog::open_to_read(const Range& range) const {
  if (range.file != nullptr) return range.file;
  auto opened = files_.open(path(segment_name(range.anchor.segment_id)), OpenMode::kRead);
  if (!opened) return failure(opened.error());
  return std::shared_ptr<File>(std::move(*opened));
}

Result<std::vector<raft::Entry>> SegmentedLog::read(Index from, Index to, size_t max_bytes) const {
  std::vector<raft::Entry> entries;
  size_t bytes = 0;
  Index next = from;
  const size_t chunk = std::clamp(max_bytes, kMinReadChunkBytes, kMaxReadChunkBytes);
  std::vector<Range> ranges = ranges_of(from, to);
  if (!ranges.empty()) {
    // An upper bound: the number of small entries that fit, and not more than exist.
    const uint64_t there = ranges.back().end - from;
    entries.reserve(std::min<uint64_t>(there, max_bytes / (2 * raft::Entry::kHeaderBytes) + 1));
  }
  std::optional<RecordReader> reader;
  std::shared_ptr<File> file;
  uint64_t segment_id = 0;
  for (const Range& range : ranges) {
    if (segment_id == range.anchor.segment_id) {
      reader->seek(range.anchor.offset);
    } else {
      auto opened = open_to_read(range);
      if (!opened && opened.error().kind == ErrorKind::kNotFound && first_index() > next) break;
      if (!opened) return failure(opened.error());
      file = std::move(*opened);
      segment_id = range.anchor.segment_id;
      reader.emplace(*file, range.anchor.segment_id, range.anchor.offset, range.limit, chunk);
    }
    reader->skip_entries_below(next);
    Record record;
    while (next < range.end) {
      auto status = reader->next(record);
      if (!status) return failure(status.error());
      const bool fits = *status == ReadStatus::kRecord &&
                        (record.kind != RecordKind::kEntry || record.index <= next);
      if (*status == ReadStatus::kNewer) {
        return failure(
            newer_record(path(segment_name(range.anchor.segment_id)), record, reader->why()));
      }
      if (!fits) {
        return failure(
            ErrorKind::kCorrupt,
            fmt::format("the log is damaged: {} at offset {}: {}; expected entry {}. To inspect: "
                        "connectctl inspect wal {}",
                        path(segment_name(range.anchor.segment_id)), reader->offset(),
                        *status == ReadStatus::kInvalid ? reader->why() : "no such record", next,
                        directory_));
      }
      if (record.kind != RecordKind::kEntry || record.index < next) continue;
      if (!entries.empty() && bytes + record.entry.weight() > max_bytes) return entries;
      bytes += record.entry.weight();
      entries.push_back(std::move(record.entry));
      ++next;
    }
  }
  return entries;
}

uint64_t SegmentedLog::total_bytes() const {
  MutexLock lock(mutex_);
  uint64_t bytes = 0;
  for (const Segment& segment : segments_) bytes += segment.end;
  return bytes;
}

uint64_t SegmentedLog::bytes_from(Index index) const {
  MutexLock lock(mutex_);
  if (index > durable_last_) return 0;
  size_t position = index_.find(index);
  uint64_t bytes = 0;
  for (const Segment& segment : segments_) {
    if (position == index_.size() || segment.id > index_.at(position).segment_id) {
      bytes += segment.end;
    } else if (segment.id == index_.at(position).segment_id) {
      bytes += segment.end - index_.at(position).offset;
    }
  }
  return bytes;
}

}  // namespace

Result<std::unique_ptr<Log>> Log::open(FileSystem& files, std::string directory, LogOptions options,
                                       raft::SnapshotMark snapshot, Recovered& recovered) {
  options.segment_bytes = std::clamp(options.segment_bytes, kMinSegmentBytes, kMaxSegmentBytes);
  recovered = Recovered();
  auto log = std::make_unique<SegmentedLog>(files, std::move(directory), options);
  if (auto done = log->start(snapshot, recovered); !done) return failure(done.error());
  return log;
}

}  // namespace connectd::storage
