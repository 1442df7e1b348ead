// The log on the faulty file system: what it keeps, refuses and truncates.
#include "storage/log.h"

#include <gtest/gtest.h>

#include "base/random.h"
#include "tests/unit/storage/log_harness.h"

namespace connectd::storage {
namespace {

using sim::FaultyFileSystem;

std::unique_ptr<Log> open_log(FaultyFileSystem& files, Recovered& recovered,
                              LogOptions options = {.segment_bytes = 4096},
                              raft::SnapshotMark snapshot = {}) {
  auto log = Log::open(files, kDirectory, options, snapshot, recovered);
  if (!log) {
    ADD_FAILURE() << log.error().text;
    return nullptr;
  }
  return std::move(*log);
}

TEST(LogTest, EmptyDirectoryBeginsALog) {
  FaultyFileSystem files;
  Recovered recovered;
  auto log = open_log(files, recovered);
  ASSERT_TRUE(log);
  EXPECT_EQ(recovered.first_index, Index(1));
  EXPECT_EQ(recovered.last_index, Index(0));
  EXPECT_TRUE(recovered.warnings.empty());
  EXPECT_EQ(recovered.hard_state, raft::HardState());
}

TEST(LogTest, AppendedEntriesSurviveACrash) {
  FaultyFileSystem files;
  Model model;
  {
    Recovered recovered;
    auto log = open_log(files, recovered);
    for (uint64_t i = 1; i <= 100; ++i) {
      auto entries = make_entries(model.last().value() + 1, i % 7, 1 + i / 30, 10 * i % 300);
      LogBatch batch{{Term(1 + i / 30), NodeId(2), Index(i)}, std::nullopt, entries};
      ASSERT_TRUE(log->append(std::span(&batch, 1)));
      model.apply(batch);
      ASSERT_TRUE(holds(*log, model)) << i;
    }
    EXPECT_GT(files.names(kDirectory).size(), 5u);
  }
  files.crash({0, 0});
  Recovered recovered;
  auto log = open_log(files, recovered);
  ASSERT_TRUE(log);
  EXPECT_TRUE(agrees(recovered, model));
  EXPECT_TRUE(holds(*log, model));
  EXPECT_TRUE(holds(*log, model, 1));
  EXPECT_TRUE(recovered.warnings.empty());
}

// A node ends when a snapshot contradicts what it knows to be committed; its next start must not
// believe the snapshot either.
TEST(LogTest, SnapshotThatContradictsTheCommittedLog) {
  FaultyFileSystem files;
  {
    Recovered recovered;
    auto log = open_log(files, recovered);
    auto entries = make_entries(1, 20, 3, 10);
    LogBatch batch{{Term(3), NodeId(2), Index(10)}, std::nullopt, entries};
    ASSERT_TRUE(log->append(std::span(&batch, 1)));
  }
  Recovered recovered;
  auto refused =
      Log::open(files, kDirectory, {.segment_bytes = 4096}, {Index(10), Term(2)}, recovered);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().kind, ErrorKind::kCorrupt);
  EXPECT_NE(refused.error().text.find("another history"), std::string::npos);
  auto log = open_log(files, recovered, {.segment_bytes = 4096}, {Index(11), Term(4)});
  ASSERT_TRUE(log) << "the entries behind the commit index may be replaced";
  EXPECT_EQ(recovered.first_index, Index(12));
}

// Random operations with crashes, against a model. An append that failed or was cut short by the
// crash may be there whole, in a prefix of its batches, or not at all; what append() returned for
// is there (catalogue rows 24, 29, 60, 62, 65, 66, 68).
class LogModelTest : public ::testing::TestWithParam<uint64_t> {};

TEST_P(LogModelTest, RandomOperationsWithCrashes) {
  for (uint64_t seed = GetParam() * 100; seed < GetParam() * 100 + 100; ++seed) {
    SCOPED_TRACE(seed);
    Random random(seed);
    FaultyFileSystem files(seed);
    Model model;
    raft::SnapshotMark snapshot;
    uint64_t term = 1;
    for (int life = 0; life < 6; ++life) {
      Recovered recovered;
      auto log =
          open_log(files, recovered, {.segment_bytes = 4096 * (1 + random.below(3))}, snapshot);
      ASSERT_TRUE(log);
      ASSERT_TRUE(agrees(recovered, model)) << "life " << life;
      ASSERT_TRUE(holds(*log, model, 1 + random.below(5000))) << "life " << life;
      model.first = std::max(model.first, Index(1));
      Time now{};
      for (uint64_t step = random.below(40); step > 0; --step) {
        switch (random.below(10)) {
          case 0:
            ASSERT_TRUE(log->prepare_next_segment());
            break;
          case 1:
            ASSERT_TRUE(log->seal_if_idle(now));
            now += kSealAfter;
            ASSERT_TRUE(log->seal_if_idle(now));
            break;
          case 2:
            if (model.last() >= snapshot.index + 1) {
              // A snapshot at some committed index, then compaction before it.
              Index at = snapshot.index + 1 + random.below(model.last() - snapshot.index);
              at = std::min(at, model.hard_state.commit);
              if (at <= snapshot.index) break;
              snapshot = {at, model.term_of(at)};
              auto first = log->compact(at + 1 - random.below(std::min<uint64_t>(at.value(), 5)));
              ASSERT_TRUE(first);
              ASSERT_EQ(*first, log->first_index());
              ASSERT_LE(*first, at + 1);
            }
            break;
          case 3:
            if (random.chance(20)) {
              snapshot = {model.last() + 1 + random.below(10), Term(term)};
              ASSERT_TRUE(log->reset(snapshot, {Term(term), NodeId(1), snapshot.index}));
              model = Model{{Term(term), NodeId(1), snapshot.index}, snapshot.index + 1, {}};
            }
            break;
          default: {
            std::vector<std::vector<raft::Entry>> entries(1 + random.below(3));
            std::vector<LogBatch> batches;
            for (auto& part : entries) {
              LogBatch batch;
              Index next = model.last() + 1;
              if (random.chance(25) && model.last() > model.hard_state.commit) {
                ++term;
                Index low = std::max(model.hard_state.commit + 1, model.first);
                next = low + random.below(model.last() - low + 1);
                batch.replaces_from = next;
              }
              part = make_entries(next.value(), random.below(6), term, random.below(400));
              batch.entries = part;
              Index commit =
                  std::max(model.hard_state.commit,
                           next - 1 - random.below(std::min<uint64_t>((next - 1).value() + 1, 4)));
              batch.hard_state = {Term(term), NodeId(random.below(3)), commit};
              batches.push_back(batch);
              model.apply(batch);
            }
            ASSERT_TRUE(log->append(batches));
            ASSERT_TRUE(holds(*log, model, 1 + random.below(3000)));
          }
        }
      }
      log.reset();
      if (random.chance(70)) {
        files.crash(
            {static_cast<double>(random.below(101)), static_cast<double>(random.below(101))});
      } else {
        files.restart_process();
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Seeds, LogModelTest, ::testing::Range<uint64_t>(0, 10));

}  // namespace
}  // namespace connectd::storage
