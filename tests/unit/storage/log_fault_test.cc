// Calls that fail, power that goes at any call, full disks: what append() returned for is there,
// what it did not is there as a prefix of its batches or not at all.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <cerrno>
#include <functional>

#include "tests/unit/storage/log_harness.h"

namespace connectd::storage {
namespace {

using sim::FaultyFileSystem;
using sim::FileCall;

constexpr LogOptions kSmall{.segment_bytes = 4096};

// A life of a log, up to the first error: appends (several batches at once, replaced suffixes),
// rolls with and without a spare, seals, compaction, a snapshot from the leader.
class Script {
 public:
  // Possible states of the disk: [0] was reported durable, the others were in progress.
  std::vector<Model> candidates{Model()};
  raft::SnapshotMark snapshot;
  raft::SnapshotMark snapshot_under_way;
  bool failed = false;

  void run(FaultyFileSystem& files) {
    Recovered recovered;
    auto opened = Log::open(files, kDirectory, kSmall, {}, recovered);
    failed = !opened;
    if (failed) return;
    Log& log = **opened;
    Time now{};
    for (uint64_t round = 1; round <= 12 && !failed; ++round) {
      append(log, round);
      // A failed preparation is no failure of the log.
      if (round % 3 == 0) prepared_ = log.prepare_next_segment().has_value();
      if (round % 4 == 0) {
        check(log.seal_if_idle(now));
        now += kSealAfter;
        check(log.seal_if_idle(now));
      }
      if (round == 7) {
        snapshot = {Index(12), candidates[0].term_of(Index(12))};
        auto first = log.compact(Index(11));
        if (!first) failed = true;
      }
      if (round == 9) reset(log);
    }
    if (!failed) return;
    // After a failed write or sync nothing more is accepted, and nothing is written.
    const Model& model = candidates.back();
    auto entries = make_entries(model.last().value() + 1, 1, 99);
    LogBatch batch{{Term(99), NodeId(1), Index(0)}, std::nullopt, entries};
    if (log_failed_) {
      auto again = log.append(std::span(&batch, 1));
      ASSERT_FALSE(again);
      ASSERT_EQ(again.error().kind, ErrorKind::kDisk);
      ASSERT_FALSE(log.seal_if_idle(now + kSealAfter * 5));
    }
  }

 private:
  void check(const Result<void>& done) {
    if (done) return;
    const ErrorKind kind = done.error().kind;
    EXPECT_TRUE(kind == ErrorKind::kDisk || kind == ErrorKind::kSyncFailed) << done.error().text;
    failed = log_failed_ = true;
  }
  void append(Log& log, uint64_t round) {
    if (failed) return;
    std::vector<std::vector<raft::Entry>> entries(3);
    std::vector<LogBatch> batches;
    for (uint64_t i = 0; i < entries.size(); ++i) {
      const Model& model = candidates.back();
      LogBatch batch;
      uint64_t next = model.last().value() + 1;
      if (round % 5 == 0 && i == 2) {
        next -= 2;
        batch.replaces_from = Index(next);
      }
      entries[i] = make_entries(next, 1 + i, round, 150);
      batch.entries = entries[i];
      batch.hard_state = {Term(round), NodeId(i), model.first - 1};
      batches.push_back(batch);
      candidates.push_back(model);
      candidates.back().apply(batch);
    }
    check(log.append(batches));
    if (!failed) candidates = {candidates.back()};
  }
  void reset(Log& log) {
    if (failed) return;
    const Model& model = candidates[0];
    // The snapshot is durable before the log is reset.
    snapshot = {model.last() + 20, Term(9)};
    const raft::HardState hard_state{Term(9), NodeId(1), snapshot.index};
    candidates.push_back(Model{hard_state, snapshot.index + 1, {}});
    // Or the old log, which open() replaces, keeping its hard state.
    candidates.push_back(Model{model.hard_state, snapshot.index + 1, {}});
    check(log.reset(snapshot, hard_state));
    if (!failed) candidates = {candidates[1]};
  }

  bool prepared_ = false;
  bool log_failed_ = false;
};

void expect_one_of(FaultyFileSystem& files, const Script& script) {
  Recovered recovered;
  auto log = Log::open(files, kDirectory, kSmall, script.snapshot, recovered);
  ASSERT_TRUE(log) << log.error().text;
  bool found = false;
  for (const Model& model : script.candidates) {
    if (agrees(recovered, model) && holds(**log, model)) found = true;
  }
  ASSERT_TRUE(found) << "last index " << recovered.last_index.value() << ", reported were "
                     << script.candidates[0].last().value();
  // What recovery gave is durable: the same again after another crash, without a warning.
  log->reset();
  files.crash({0, 0});
  Recovered again;
  log = Log::open(files, kDirectory, kSmall, script.snapshot, again);
  ASSERT_TRUE(log) << log.error().text;
  ASSERT_EQ(again.last_index, recovered.last_index);
  ASSERT_EQ(again.hard_state, recovered.hard_state);
  ASSERT_EQ(again.terms, recovered.terms);
  ASSERT_TRUE(again.warnings.empty()) << again.warnings[0];
}

TEST(LogFaultTest, NthFailureOfAnyChange) {
  uint64_t hit = 0;
  for (bool sticky : {false, true}) {
    for (bool power : {false, true}) {
      for (uint64_t nth = 1;; ++nth) {
        SCOPED_TRACE(fmt::format("change {} fails, sticky {}, power lost {}", nth, sticky, power));
        FaultyFileSystem files(nth);
        files.fail_nth_change(nth, EIO, sticky);
        Script script;
        script.run(files);
        const bool was_hit = files.failure_hit();
        files.clear_failures();
        if (power) {
          files.crash();
        } else {
          files.restart_process();
        }
        ASSERT_NO_FATAL_FAILURE(expect_one_of(files, script));
        if (!was_hit) break;
        ++hit;
      }
    }
  }
  EXPECT_GT(hit, 200u);
}

TEST(LogFaultTest, NthFailureOfEachKind) {
  for (FileCall call :
       {FileCall::kOpen, FileCall::kRead, FileCall::kWrite, FileCall::kFill, FileCall::kSync,
        FileCall::kSyncDirectory, FileCall::kRename, FileCall::kRemove, FileCall::kList}) {
    uint64_t hit = 0;
    for (uint64_t nth = 1;; ++nth) {
      SCOPED_TRACE(fmt::format("call {} of kind {} fails", nth, static_cast<int>(call)));
      FaultyFileSystem files(nth);
      files.fail_nth(call, nth, ENOSPC);
      Script script;
      script.run(files);
      const bool was_hit = files.failure_hit();
      files.clear_failures();
      files.crash();
      ASSERT_NO_FATAL_FAILURE(expect_one_of(files, script));
      if (!was_hit) break;
      ++hit;
    }
    // Reads happen in this script only where a log is opened that has content.
    if (call != FileCall::kRead) {
      EXPECT_GT(hit, 0u) << static_cast<int>(call);
    }
  }
}

// The power goes at the n-th change, for each n and many outcomes of what reached the disk; then it
// goes again at the n-th change of the recovery.
TEST(LogFaultTest, PowerOffAtEveryChange) {
  uint64_t hit = 0;
  for (uint64_t seed = 0; seed < 12; ++seed) {
    for (uint64_t nth = 1;; ++nth) {
      SCOPED_TRACE(fmt::format("power off at change {}, seed {}", nth, seed));
      FaultyFileSystem files(seed * 1000 + nth);
      files.power_off_at_change(nth);
      Script script;
      script.run(files);
      const bool was_hit = files.failure_hit();
      const double keep = static_cast<double>(seed % 3) * 50;
      files.crash({keep, 50});
      {
        files.power_off_at_change(1 + (nth + seed) % 9);
        Recovered recovered;
        auto log = Log::open(files, kDirectory, kSmall, script.snapshot, recovered);
        if (!log) {
          ASSERT_NE(log.error().kind, ErrorKind::kCorrupt) << log.error().text;
        }
        log = failure(Error());
        files.crash({keep, 50});
      }
      ASSERT_NO_FATAL_FAILURE(expect_one_of(files, script));
      if (!was_hit) break;
      ++hit;
    }
  }
  EXPECT_GT(hit, 600u);
}

// A write whose sync failed stays readable; the process dies, the next one reads it, and tells
// others. Then it must be on the disk (catalogue row 59).
TEST(LogFaultTest, RecoveredEntriesAreDurable) {
  FaultyFileSystem files;
  Model model;
  Recovered recovered;
  auto log = Log::open(files, kDirectory, kSmall, {}, recovered);
  ASSERT_TRUE(log);
  auto entries = make_entries(1, 3, 1, 100);
  LogBatch batch{{Term(1), NodeId(1), Index(0)}, std::nullopt, entries};
  ASSERT_TRUE((*log)->append(std::span(&batch, 1)));
  model.apply(batch);
  auto more = make_entries(4, 3, 2, 100);
  LogBatch second{{Term(2), NodeId(2), Index(0)}, std::nullopt, more};
  files.fail_nth(FileCall::kSync, 1, EIO);
  auto done = (*log)->append(std::span(&second, 1));
  ASSERT_FALSE(done);
  EXPECT_EQ(done.error().kind, ErrorKind::kSyncFailed);
  EXPECT_FALSE((*log)->append(std::span(&second, 1)));
  EXPECT_EQ((*log)->last_index(), Index(3));
  model.apply(second);
  log->reset();
  files.restart_process();
  log = Log::open(files, kDirectory, kSmall, {}, recovered);
  ASSERT_TRUE(log);
  ASSERT_TRUE(agrees(recovered, model));
  log->reset();
  files.crash({0, 0});
  log = Log::open(files, kDirectory, kSmall, {}, recovered);
  ASSERT_TRUE(log) << log.error().text;
  EXPECT_TRUE(agrees(recovered, model));
  EXPECT_TRUE(holds(**log, model));
}

// A start cuts a torn batch off, and its sync fails. The next one reads the zeros of the first,
// which may be in the page cache only.
TEST(LogFaultTest, TornEndThatWasCutOffIsDurablyGone) {
  FaultyFileSystem files;
  Model model;
  Recovered recovered;
  auto append = [&](Log& log, uint64_t first) {
    auto entries = make_entries(first, 3, 1, 100);
    LogBatch batch{{Term(1), NodeId(1), Index(0)}, std::nullopt, entries};
    ASSERT_TRUE(log.append(std::span(&batch, 1)));
    model.apply(batch);
  };
  auto log = Log::open(files, kDirectory, kSmall, {}, recovered);
  ASSERT_TRUE(log);
  append(**log, 1);
  log->reset();
  const std::string path = fmt::format("{}/0000000000000001.wal", kDirectory);
  std::string content = files.content(path);
  content.replace(content.size() - 64, 64, std::string(64, 'U'));
  files.put(path, content);
  files.fail_nth(FileCall::kSync, 1, EIO);
  ASSERT_FALSE(Log::open(files, kDirectory, kSmall, {}, recovered));
  files.restart_process();
  log = Log::open(files, kDirectory, kSmall, {}, recovered);
  ASSERT_TRUE(log);
  for (uint64_t first = 4; first < 40; first += 3) append(**log, first);  // into the next segments
  log->reset();
  files.crash({0, 0});
  log = Log::open(files, kDirectory, kSmall, {}, recovered);
  ASSERT_TRUE(log) << log.error().text;
  EXPECT_TRUE(agrees(recovered, model));
}

// Catalogue row 67. Appends small batches until the log has no space; those are in `model`.
uint64_t fill_up(Log& log, Model& model, uint64_t next) {
  while (true) {
    auto entries = make_entries(next, 2, 1, 300);
    LogBatch batch{{Term(1), NodeId(1), Index(0)}, std::nullopt, entries};
    auto done = log.append(std::span(&batch, 1));
    if (!done) {
      EXPECT_EQ(done.error().kind, ErrorKind::kNoSpace);
      EXPECT_NE(done.error().text.find("No space left"), std::string::npos) << done.error().text;
      return next;
    }
    model.apply(batch);
    next += 2;
  }
}

TEST(LogFaultTest, FullDiskUsesTheReserveThenWaitsAndGoesOnByItself) {
  FaultyFileSystem files;
  Model model;
  Recovered recovered;
  auto log = Log::open(files, kDirectory, kSmall, {}, recovered);
  ASSERT_TRUE(log);
  ASSERT_TRUE((*log)->has_reserve());
  files.set_capacity(4096 * 3 + 100);  // the first segment, the reserve, and one more
  uint64_t next = 1;
  size_t segments = 0;
  while ((*log)->has_reserve()) {
    auto entries = make_entries(next, 2, 1, 300);
    LogBatch batch{{Term(1), NodeId(1), Index(0)}, std::nullopt, entries};
    ASSERT_TRUE((*log)->append(std::span(&batch, 1)));
    model.apply(batch);
    next += 2;
    segments = files.names(kDirectory).size();
  }
  EXPECT_EQ(segments, 3u);
  // What elections write still fits.
  LogBatch vote{{Term(2), NodeId(2), Index(0)}, std::nullopt, {}};
  ASSERT_TRUE((*log)->append(std::span(&vote, 1)));
  model.apply(vote);
  EXPECT_FALSE((*log)->prepare_next_segment());
  EXPECT_FALSE((*log)->has_reserve());

  next = fill_up(**log, model, next);
  EXPECT_TRUE(holds(**log, model)) << "what was acknowledged can be read";
  // Again and again, without harm.
  EXPECT_EQ(fill_up(**log, model, next), next);
  files.set_capacity(1 << 20);
  auto entries = make_entries(next, 2, 1, 300);
  LogBatch batch{{Term(1), NodeId(1), Index(0)}, std::nullopt, entries};
  ASSERT_TRUE((*log)->append(std::span(&batch, 1)));
  model.apply(batch);
  EXPECT_TRUE(holds(**log, model));
  ASSERT_TRUE((*log)->prepare_next_segment());
  EXPECT_TRUE((*log)->has_reserve());
  log->reset();
  files.crash({0, 0});
  log = Log::open(files, kDirectory, kSmall, {}, recovered);
  ASSERT_TRUE(log) << log.error().text;
  EXPECT_TRUE(agrees(recovered, model));
}

// It is as with a full disk: the log goes on in its reserve, then waits, and is whole.
TEST(LogFaultTest, WithoutDescriptorsItWaits) {
  FaultyFileSystem files;
  Model model;
  Recovered recovered;
  auto log = Log::open(files, kDirectory, kSmall, {}, recovered);
  ASSERT_TRUE(log);
  files.set_out_of_descriptors(true);
  uint64_t next = 1;
  auto append = [&] {
    auto entries = make_entries(next, 1, 1, 300);
    LogBatch batch{{Term(1), NodeId(1), Index(0)}, std::nullopt, entries};
    auto done = (*log)->append(std::span(&batch, 1));
    if (done) model.apply(batch);
    next += done ? 1 : 0;
    return done;
  };
  Result<void> last;
  for (int i = 0; i < 100 && last; ++i) last = append();
  ASSERT_FALSE(last);
  EXPECT_EQ(last.error().kind, ErrorKind::kNoDescriptors) << last.error().text;
  EXPECT_GT(next, 12u) << "its reserve was not used";
  EXPECT_FALSE((*log)->has_reserve());
  EXPECT_EQ((*log)->prepare_next_segment().error().kind, ErrorKind::kNoDescriptors);
  EXPECT_TRUE(holds(**log, model));
  files.set_out_of_descriptors(false);
  ASSERT_TRUE(append());
  ASSERT_TRUE((*log)->prepare_next_segment());
  EXPECT_TRUE((*log)->has_reserve());
  log->reset();
  files.crash({0, 0});
  log = Log::open(files, kDirectory, kSmall, {}, recovered);
  ASSERT_TRUE(log) << log.error().text;
  EXPECT_TRUE(agrees(recovered, model));
  EXPECT_TRUE(holds(**log, model));
}

// A log may have more segments than the process may have files: only a few stay open.
TEST(LogFaultTest, OldSegmentsAreOpenedToBeRead) {
  FaultyFileSystem files;
  Model model;
  Recovered recovered;
  auto log = Log::open(files, kDirectory, kSmall, {}, recovered);
  ASSERT_TRUE(log);
  for (uint64_t i = 1; i <= 200; ++i) {
    auto entries = make_entries(i, 1, 1, 300);
    LogBatch batch{{Term(1), NodeId(1), Index(0)}, std::nullopt, entries};
    ASSERT_TRUE((*log)->append(std::span(&batch, 1)));
    model.apply(batch);
  }
  for (bool restarted : {false, true}) {
    SCOPED_TRACE(restarted);
    EXPECT_LE(files.open_files(), kOpenSegments + 3);
    EXPECT_TRUE(holds(**log, model));
    EXPECT_LE(files.open_files(), kOpenSegments + 3);
    files.set_out_of_descriptors(true);
    EXPECT_TRUE((*log)->read(Index(200), Index(201), 1 << 20)) << "the newest are open";
    auto old = (*log)->read(Index(1), Index(2), 1 << 20);
    ASSERT_FALSE(old);
    EXPECT_EQ(old.error().kind, ErrorKind::kNoDescriptors) << old.error().text;
    files.set_out_of_descriptors(false);
    log->reset();
    files.restart_process();
    log = Log::open(files, kDirectory, kSmall, {}, recovered);
    ASSERT_TRUE(log) << log.error().text;
  }
  // Somebody has removed a file: that is no compaction.
  files.erase(std::string(kDirectory) + "/0000000000000003.wal");
  Index index(1);
  while (true) {
    auto read = (*log)->read(index, index + 1, 1);
    if (!read) break;
    ASSERT_EQ(read->size(), 1u);
    index = index + 1;
  }
  EXPECT_LT(index, Index(60));
}

TEST(LogFaultTest, ItStartsWhileTheDiskIsFull) {
  FaultyFileSystem files;
  Model model;
  Recovered recovered;
  auto log = Log::open(files, kDirectory, kSmall, {}, recovered);
  ASSERT_TRUE(log);
  files.set_capacity(4096 * 3 + 100);
  uint64_t next = fill_up(**log, model, 1);
  for (bool power : {false, true}) {
    log->reset();
    if (power) {
      files.crash({0, 0});
    } else {
      files.restart_process();
    }
    log = Log::open(files, kDirectory, kSmall, {}, recovered);
    ASSERT_TRUE(log) << log.error().text;
    EXPECT_TRUE(agrees(recovered, model));
    EXPECT_TRUE(holds(**log, model));
    ASSERT_EQ(recovered.warnings.size(), 1u);
    EXPECT_NE(recovered.warnings[0].find("no space for the log's reserve"), std::string::npos);
    EXPECT_FALSE((*log)->has_reserve());
  }
  // Compaction frees space, and the log continues.
  ASSERT_TRUE((*log)->compact(Index(next)));
  ASSERT_TRUE((*log)->prepare_next_segment());
  EXPECT_TRUE((*log)->has_reserve());
  auto entries = make_entries(next, 2, 1, 300);
  LogBatch batch{{Term(1), NodeId(1), Index(0)}, std::nullopt, entries};
  ASSERT_TRUE((*log)->append(std::span(&batch, 1)));
}

// Several batches, one of them longer than a segment and replacing what is there: space comes bit
// by bit, and each time as much as fits is written, once.
TEST(LogFaultTest, AppendWaitingForSpaceResumes) {
  FaultyFileSystem files;
  Model model;
  Recovered recovered;
  auto log = Log::open(files, kDirectory, {.segment_bytes = 8192}, {}, recovered);
  ASSERT_TRUE(log);
  auto first = make_entries(1, 6, 1, 300);
  LogBatch batch{{Term(1), NodeId(1), Index(0)}, std::nullopt, first};
  ASSERT_TRUE((*log)->append(std::span(&batch, 1)));
  model.apply(batch);
  std::vector<std::vector<raft::Entry>> entries = {
      make_entries(5, 4, 2, 1500), make_entries(9, 1, 2, 7000), make_entries(8, 3, 3, 2000)};
  std::vector<LogBatch> batches;
  for (uint64_t i = 0; i < entries.size(); ++i) {
    std::optional<Index> replaces;
    if (i != 1) replaces = entries[i].front().index;
    batches.push_back({{Term(2 + i), NodeId(i), Index(0)}, replaces, entries[i]});
  }
  files.set_free(0);
  uint64_t attempts = 0;
  while (true) {
    auto done = (*log)->append(batches);
    if (done) break;
    ASSERT_EQ(done.error().kind, ErrorKind::kNoSpace) << done.error().text;
    ASSERT_LT(++attempts, 100u);
    files.set_free(attempts % 2 == 0 ? 8192 : 100);
  }
  EXPECT_GE(attempts, 3u);
  for (const LogBatch& written : batches) model.apply(written);
  EXPECT_TRUE(holds(**log, model));
  log->reset();
  files.crash({0, 0});
  log = Log::open(files, kDirectory, {.segment_bytes = 8192}, {}, recovered);
  ASSERT_TRUE(log) << log.error().text;
  EXPECT_TRUE(agrees(recovered, model));
  EXPECT_TRUE(holds(**log, model));
}

TEST(LogFaultTest, ResetWaitsForSpaceToo) {
  FaultyFileSystem files;
  Model model;
  Recovered recovered;
  auto log = Log::open(files, kDirectory, kSmall, {}, recovered);
  ASSERT_TRUE(log);
  files.set_capacity(4096 * 3 + 100);
  fill_up(**log, model, 1);
  const raft::SnapshotMark mark{Index(500), Term(3)};
  const raft::HardState hard_state{Term(3), NodeId(2), Index(500)};
  for (int i = 0; i < 3; ++i) {
    auto done = (*log)->reset(mark, hard_state);
    ASSERT_FALSE(done);
    ASSERT_EQ(done.error().kind, ErrorKind::kNoSpace);
  }
  // Neither can it after a restart, and then nothing waits for space: it is the start that fails.
  log->reset();
  log = Log::open(files, kDirectory, kSmall, mark, recovered);
  ASSERT_FALSE(log);
  EXPECT_EQ(log.error().kind, ErrorKind::kNoSpaceToBegin) << log.error().text;
  files.set_capacity(1 << 20);
  log = Log::open(files, kDirectory, kSmall, {}, recovered);
  ASSERT_TRUE(log) << log.error().text;
  ASSERT_TRUE((*log)->reset(mark, hard_state));
  EXPECT_EQ((*log)->first_index(), Index(501));
  log->reset();
  log = Log::open(files, kDirectory, kSmall, mark, recovered);
  ASSERT_TRUE(log) << log.error().text;
  EXPECT_EQ(recovered.hard_state, hard_state);
}

TEST(LogFaultTest, FailedPreparationLeavesTheLogUsable) {
  FaultyFileSystem files;
  Recovered recovered;
  auto log = Log::open(files, kDirectory, kSmall, {}, recovered);
  ASSERT_TRUE(log);
  for (uint64_t nth = 1; nth <= 5; ++nth) {
    files.fail_nth_change(nth, ENOSPC);
    ASSERT_FALSE((*log)->prepare_next_segment()) << nth;
    ASSERT_TRUE((*log)->wants_next_segment());
  }
  files.clear_failures();
  auto entries = make_entries(1, 30, 1, 300);
  LogBatch batch{{Term(1), NodeId(1), Index(0)}, std::nullopt, entries};
  ASSERT_TRUE((*log)->append(std::span(&batch, 1)));
  ASSERT_TRUE((*log)->prepare_next_segment());
  ASSERT_FALSE((*log)->wants_next_segment());
}

// One append is one write and one sync, and nothing else, while its segment lasts.
TEST(LogFaultTest, AppendIsOneWriteAndOneSync) {
  FaultyFileSystem files;
  Recovered recovered;
  auto log = Log::open(files, kDirectory, {.segment_bytes = 1 << 20}, {}, recovered);
  ASSERT_TRUE(log);
  const uint64_t changes = files.changes();
  const uint64_t writes = files.calls(FileCall::kWrite);
  const uint64_t syncs = files.calls(FileCall::kSync);
  std::vector<std::vector<raft::Entry>> entries;
  std::vector<LogBatch> batches;
  for (uint64_t i = 0; i < 50; ++i) entries.push_back(make_entries(1 + 10 * i, 10, 1, 100));
  for (const auto& part : entries) {
    batches.push_back({{Term(1), NodeId(1), Index(0)}, std::nullopt, part});
  }
  ASSERT_TRUE((*log)->append(batches));
  EXPECT_EQ(files.calls(FileCall::kWrite) - writes, 1u);
  EXPECT_EQ(files.calls(FileCall::kSync) - syncs, 1u);
  EXPECT_EQ(files.changes() - changes, 2u);
}

TEST(LogFaultTest, IdleLogIsSealedOnceAndThenWritesNothing) {
  FaultyFileSystem files;
  Recovered recovered;
  auto log = Log::open(files, kDirectory, kSmall, {}, recovered);
  ASSERT_TRUE(log);
  EXPECT_FALSE((*log)->wants_seal());
  auto entries = make_entries(1, 1, 1);
  LogBatch batch{{Term(1), NodeId(1), Index(0)}, std::nullopt, entries};
  ASSERT_TRUE((*log)->append(std::span(&batch, 1)));
  EXPECT_TRUE((*log)->wants_seal());
  const uint64_t changes = files.changes();
  Time now{};
  ASSERT_TRUE((*log)->seal_if_idle(now));
  ASSERT_TRUE((*log)->seal_if_idle(now + kSealAfter - std::chrono::nanoseconds(1)));
  EXPECT_EQ(files.changes(), changes);
  ASSERT_TRUE((*log)->seal_if_idle(now + kSealAfter));
  EXPECT_EQ(files.changes(), changes + 2);
  EXPECT_FALSE((*log)->wants_seal());
  for (int i = 0; i < 10; ++i) ASSERT_TRUE((*log)->seal_if_idle(now + kSealAfter * (i + 2)));
  EXPECT_EQ(files.changes(), changes + 2);
}

// ---- the log and the snapshot

std::unique_ptr<Log> log_of(FaultyFileSystem& files, uint64_t entries_count, uint64_t term) {
  Recovered recovered;
  auto log = Log::open(files, kDirectory, kSmall, {}, recovered);
  auto entries = make_entries(1, entries_count, term, 100);
  for (const raft::Entry& entry : entries) {
    LogBatch batch{{Term(term), NodeId(2), Index(0)}, std::nullopt, std::span(&entry, 1)};
    EXPECT_TRUE((*log)->append(std::span(&batch, 1)));
  }
  return std::move(*log);
}

TEST(LogSnapshotTest, LogBehindTheSnapshotBeginsAnewAndKeepsItsVote) {
  FaultyFileSystem files;
  log_of(files, 20, 3);
  const raft::SnapshotMark mark{Index(100), Term(4)};
  for (int i = 0; i < 2; ++i) {
    Recovered recovered;
    auto log = Log::open(files, kDirectory, kSmall, mark, recovered);
    ASSERT_TRUE(log) << log.error().text;
    EXPECT_EQ(recovered.first_index, Index(101));
    EXPECT_EQ(recovered.last_index, Index(100));
    EXPECT_EQ(recovered.before_first_term, Term(4));
    EXPECT_EQ(recovered.hard_state.term, Term(3));
    EXPECT_EQ(recovered.hard_state.vote, NodeId(2));
    EXPECT_EQ(recovered.warnings.size(), i == 0 ? 1u : 0u);
    EXPECT_TRUE((*log)->read(Index(1), Index(5), 1000)->empty());
    log->reset();
    files.crash();
  }
}

// Catalogue row 49: an entry that contradicts the snapshot is no entry of this log's future.
TEST(LogSnapshotTest, LogThatContradictsTheSnapshotBeginsAnew) {
  FaultyFileSystem files;
  log_of(files, 20, 3);
  Recovered recovered;
  auto log = Log::open(files, kDirectory, kSmall, {Index(10), Term(4)}, recovered);
  ASSERT_TRUE(log);
  EXPECT_EQ(recovered.first_index, Index(11));
  EXPECT_EQ(recovered.last_index, Index(10));
  EXPECT_TRUE(recovered.terms.empty());
  EXPECT_EQ(recovered.warnings.size(), 1u);
}

TEST(LogSnapshotTest, GapBetweenSnapshotAndLogIsDamage) {
  FaultyFileSystem files;
  auto log = log_of(files, 200, 3);
  auto first = log->compact(Index(151));
  ASSERT_TRUE(first);
  ASSERT_GT(*first, Index(50));
  log.reset();
  Recovered recovered;
  ASSERT_TRUE(Log::open(files, kDirectory, kSmall, {*first - 1, Term(3)}, recovered));
  auto gap = Log::open(files, kDirectory, kSmall, {*first - 2, Term(3)}, recovered);
  ASSERT_FALSE(gap);
  EXPECT_EQ(gap.error().kind, ErrorKind::kCorrupt);
}

TEST(LogSnapshotTest, SnapshotWithoutALogIsRefused) {
  FaultyFileSystem files;
  Recovered recovered;
  auto log = Log::open(files, kDirectory, kSmall, {Index(5), Term(1)}, recovered);
  ASSERT_FALSE(log);
  EXPECT_EQ(log.error().kind, ErrorKind::kCorrupt);
}

// Hard state and term of the entry before the first survive when the segments that held them go.
TEST(LogSnapshotTest, CompactionKeepsHardStateAndTerms) {
  FaultyFileSystem files;
  auto log = log_of(files, 60, 3);
  const Index last = log->last_index();
  auto first = log->compact(last + 1);
  ASSERT_TRUE(first);
  EXPECT_GT(*first, Index(30));
  EXPECT_TRUE(log->read(*first - 1, last, 1000)->empty());
  EXPECT_FALSE(log->read(*first, last + 1, 1000)->empty());
  EXPECT_LT(log->total_bytes(), 4096u + 1);
  log.reset();
  files.crash({0, 0});
  Recovered recovered;
  auto again = Log::open(files, kDirectory, kSmall, {*first - 1, Term(3)}, recovered);
  ASSERT_TRUE(again) << again.error().text;
  EXPECT_EQ(recovered.first_index, *first);
  EXPECT_EQ(recovered.before_first_term, Term(3));
  EXPECT_EQ(recovered.hard_state, (raft::HardState{Term(3), NodeId(2), Index(0)}));
}

// Each segment goes durably before the next: without, the power could take any of them back, or a
// later one only, and what is left would have a gap.
TEST(LogSnapshotTest, PowerMayGoAtAnyMomentOfACompaction) {
  bool all_done = false;
  for (uint64_t nth = 1; !all_done; ++nth) {
    all_done = true;
    for (uint64_t seed = 0; seed < 30; ++seed) {
      SCOPED_TRACE(fmt::format("change {}, seed {}", nth, seed));
      FaultyFileSystem files(seed);
      auto log = log_of(files, 60, 3);
      const Index last = log->last_index();
      files.power_off_at_change(nth);
      auto first = log->compact(last - 5);
      all_done &= first.has_value();
      log.reset();
      files.crash();
      Recovered recovered;
      auto opened = Log::open(files, kDirectory, kSmall, {last - 3, Term(3)}, recovered);
      ASSERT_TRUE(opened) << opened.error().text;
      ASSERT_EQ(recovered.last_index, last);
      ASSERT_LE(recovered.first_index, first ? *first : last - 5);
    }
  }
}

TEST(LogSnapshotTest, SpecialEntriesAreFoundAndReplacedOnesAreNot) {
  FaultyFileSystem files;
  Recovered recovered;
  {
    auto log = Log::open(files, kDirectory, kSmall, {}, recovered);
    std::vector<raft::Entry> entries{make_entry(1, 1, 30, raft::EntryKind::kGenesis),
                                     make_entry(2, 1, 9),
                                     make_entry(3, 1, 40, raft::EntryKind::kConfChange),
                                     make_entry(4, 1, 50, raft::EntryKind::kConfChange)};
    LogBatch batch{{Term(1), NodeId(1), Index(1)}, std::nullopt, entries};
    ASSERT_TRUE((*log)->append(std::span(&batch, 1)));
    auto other = make_entries(4, 2, 2);
    LogBatch second{{Term(2), NodeId(1), Index(1)}, Index(4), other};
    ASSERT_TRUE((*log)->append(std::span(&second, 1)));
  }
  ASSERT_TRUE(Log::open(files, kDirectory, kSmall, {}, recovered));
  ASSERT_EQ(recovered.special_entries.size(), 2u);
  EXPECT_EQ(recovered.special_entries[0].index, Index(1));
  EXPECT_EQ(recovered.special_entries[0].kind, raft::EntryKind::kGenesis);
  EXPECT_EQ(recovered.special_entries[0].payload.size(), 30u);
  EXPECT_EQ(recovered.special_entries[1].index, Index(3));
  EXPECT_EQ(recovered.special_entries[1].kind, raft::EntryKind::kConfChange);
}

// An entry larger than a segment, and a batch larger than one write (catalogue row 26).
TEST(LogSnapshotTest, LargeEntriesAndBatches) {
  FaultyFileSystem files;
  Model model;
  Recovered recovered;
  {
    auto log = Log::open(files, kDirectory, {.segment_bytes = 64 << 10}, {}, recovered);
    std::vector<raft::Entry> entries{make_entry(1, 1, 300'000), make_entry(2, 1, 0),
                                     make_entry(3, 1, 2'000'000)};
    LogBatch batch{{Term(1), NodeId(1), Index(1)}, std::nullopt, entries};
    ASSERT_TRUE((*log)->append(std::span(&batch, 1)));
    model.apply(batch);
    auto many = make_entries(4, 30'000, 2, 300);
    LogBatch second{{Term(2), NodeId(1), Index(1)}, std::nullopt, many};
    ASSERT_TRUE((*log)->append(std::span(&second, 1)));
    model.apply(second);
    ASSERT_TRUE(holds(**log, model));
    EXPECT_GT((*log)->bytes_from(Index(4)), 30'000u * 300);
    EXPECT_LT((*log)->bytes_from(Index(4)), (*log)->bytes_from(Index(1)));
    EXPECT_EQ((*log)->bytes_from(model.last() + 1), 0u);
  }
  files.crash({0, 0});
  auto log = Log::open(files, kDirectory, {.segment_bytes = 64 << 10}, {}, recovered);
  ASSERT_TRUE(log) << log.error().text;
  EXPECT_TRUE(agrees(recovered, model));
  EXPECT_TRUE(holds(**log, model));
  EXPECT_TRUE(holds(**log, model, 10'000));
}

}  // namespace
}  // namespace connectd::storage
