#include "raft/log.h"

#include <gtest/gtest.h>

#include "base/random.h"

namespace connectd::raft {
namespace {

Entry sized_entry(uint64_t index, uint64_t term, size_t size = 10) {
  Entry e;
  e.index = Index(index);
  e.term = Term(term);
  e.stamp_ns = static_cast<int64_t>(index);
  e.payload = Slice::copy_of(std::string(size, 'x'));
  return e;
}

// Written and durable up to its end.
void sync(Log& log) {
  AppendBatch batch;
  log.take_unwritten(batch);
  log.durable_to(log.last_index());
}

TEST(Log, KnowsTheTermOfEveryIndex) {
  Initial initial;
  initial.first_index = Index(4);
  initial.before_first_term = Term(2);
  initial.terms = {{Index(4), Term(2)}, {Index(6), Term(5)}};
  initial.last_index = Index(8);
  initial.snapshot = {Index(5), Term(2)};
  initial.applied = Index(5);
  Log log(initial, 1000);
  log.append(sized_entry(9, 7));
  std::vector<uint64_t> terms;
  for (uint64_t i = 0; i <= 10; ++i) terms.push_back(log.term_at(Index(i)).value());
  EXPECT_EQ(terms, (std::vector<uint64_t>{0, 0, 0, 2, 2, 2, 5, 5, 5, 7, 0}));
  EXPECT_TRUE(log.holds(Index(3), Term(2)));
  EXPECT_FALSE(log.holds(Index(2), Term()));
  EXPECT_FALSE(log.holds(Index(10), Term()));
  EXPECT_EQ(log.last_at_most(Index(100), Term(7)), Index(9));
  EXPECT_EQ(log.last_at_most(Index(100), Term(6)), Index(8));
  EXPECT_EQ(log.last_at_most(Index(7), Term(4)), Index(5));
  EXPECT_EQ(log.last_at_most(Index(7), Term(1)), Index(3));
}

TEST(Log, EmptyLogMatchesAtZero) {
  Log log(Initial(), 1000);
  EXPECT_TRUE(log.holds(Index(0), Term(0)));
  EXPECT_FALSE(log.holds(Index(1), Term(0)));
}

// Thesis §3.5: conflicts are truncated; the writer is told if it already has the entries.
TEST(Log, ReportsTruncationOnlyOfSubmittedEntries) {
  Log log(Initial(), 1000);
  for (uint64_t i = 1; i <= 4; ++i) log.append(sized_entry(i, 1));
  log.truncate_from(Index(3));
  log.append(sized_entry(3, 2));
  AppendBatch batch;
  log.take_unwritten(batch);
  EXPECT_FALSE(batch.replaces_from);
  ASSERT_EQ(batch.entries.size(), 3u);
  EXPECT_EQ(batch.entries[2].term, Term(2));

  log.append(sized_entry(4, 2));
  log.truncate_from(Index(2));
  log.append(sized_entry(2, 3));
  batch = AppendBatch();
  log.take_unwritten(batch);
  EXPECT_EQ(batch.replaces_from, Index(2));
  ASSERT_EQ(batch.entries.size(), 1u);
  EXPECT_EQ(batch.entries[0].index, Index(2));
  EXPECT_FALSE(log.has_unwritten());
}

TEST(Log, TruncationTakesDurabilityBack) {
  Log log(Initial(), 1000);
  for (uint64_t i = 1; i <= 4; ++i) log.append(sized_entry(i, 1));
  sync(log);
  EXPECT_EQ(log.durable_index(), Index(4));
  EXPECT_EQ(log.unstable_bytes(), 0u);
  log.truncate_from(Index(2));
  EXPECT_EQ(log.durable_index(), Index(1));
  log.append(sized_entry(2, 2));
  EXPECT_EQ(log.unstable_bytes(), sized_entry(2, 2).weight());
}

TEST(LogDeathTest, NothingCommittedIsTruncated) {
  Log log(Initial(), 1000);
  for (uint64_t i = 1; i <= 4; ++i) log.append(sized_entry(i, 1));
  log.commit_to(Index(3));
  EXPECT_DEATH(log.truncate_from(Index(3)), "truncation of committed entries");
  log.truncate_from(Index(4));
}

// Entries leave memory only when they are durable, handed out, and the cache is full.
TEST(Log, EvictsWhatIsDurableAndHandedOut) {
  Log log(Initial(), 3 * Log::memory_cost(sized_entry(1, 1)));
  for (uint64_t i = 1; i <= 10; ++i) log.append(sized_entry(i, 1));
  EXPECT_EQ(log.memory_from(), Index(1));
  AppendBatch batch;
  log.take_unwritten(batch);
  log.durable_to(Index(6));
  EXPECT_EQ(log.memory_from(), Index(1));
  log.commit_to(Index(10));
  log.hand_out_to(Index(5));
  EXPECT_EQ(log.memory_from(), Index(6));
  log.hand_out_to(Index(10));
  EXPECT_EQ(log.memory_from(), Index(7));
  log.durable_to(Index(10));
  EXPECT_EQ(log.memory_from(), Index(8));
  EXPECT_EQ(log.at(Index(8)).index, Index(8));
}

TEST(Log, CopyHonoursItsLimitsButGivesAtLeastOne) {
  Log log(Initial(), 1000);
  log.append(sized_entry(1, 1, 5000));
  for (uint64_t i = 2; i <= 10; ++i) log.append(sized_entry(i, 1));
  auto copied = [&](uint64_t from, uint64_t to, size_t bytes, size_t count) {
    std::vector<Entry> out;
    log.copy(Index(from), Index(to), bytes, count, out);
    return out.size();
  };
  EXPECT_EQ(copied(1, 10, 1, 100), 1u);
  EXPECT_EQ(copied(2, 10, 2 * sized_entry(1, 1).weight(), 100), 2u);
  EXPECT_EQ(copied(2, 10, SIZE_MAX, 4), 4u);
  EXPECT_EQ(copied(2, 5, SIZE_MAX, 100), 4u);
}

TEST(Log, CompactionKeepsTheTermInFront) {
  Log log(Initial(), 100000);
  for (uint64_t i = 1; i <= 10; ++i) log.append(sized_entry(i, 1 + i / 4));
  sync(log);
  log.commit_to(Index(10));
  log.hand_out_to(Index(10));
  log.compact(Index(6));
  EXPECT_EQ(log.first_index(), Index(6));
  EXPECT_EQ(log.term_at(Index(5)), Term(2));
  EXPECT_EQ(log.term_at(Index(4)), Term());
  EXPECT_EQ(log.term_at(Index(8)), Term(3));
  log.compact(Index(11));
  EXPECT_EQ(log.last_index(), Index(10));
  EXPECT_EQ(log.last_term(), Term(3));
  log.append(sized_entry(11, 4));
  EXPECT_EQ(log.term_at(Index(11)), Term(4));
  EXPECT_EQ(log.at(Index(11)).index, Index(11));
}

TEST(Log, SnapshotAheadOfTheLogBeginsItAnew) {
  Initial initial;
  initial.hard_state.commit = Index(2);
  initial.terms = {{Index(1), Term(1)}};
  initial.last_index = Index(3);
  initial.snapshot = {Index(7), Term(2)};
  initial.applied = Index(7);
  Log log(initial, 1000);
  EXPECT_EQ(log.first_index(), Index(8));
  EXPECT_EQ(log.last_index(), Index(7));
  EXPECT_EQ(log.last_term(), Term(2));
  EXPECT_EQ(log.commit_index(), Index(7));
  EXPECT_EQ(log.durable_index(), Index(7));
}

// Against a plain vector, with random operations.
TEST(Log, AgreesWithAModel) {
  for (uint64_t seed = 0; seed < 50; ++seed) {
    Random random(seed);
    Log log(Initial(), random.below(2000));
    std::vector<Entry> model;  // model[i] has index i + 1
    Index first(1);
    uint64_t term = 1;
    for (int i = 0; i < 500; ++i) {
      switch (random.below(6)) {
        case 0:
          ++term;
          [[fallthrough]];
        case 1:
        case 2:
          model.push_back(sized_entry(model.size() + 1, term, random.below(100)));
          log.append(model.back());
          break;
        case 3:
          if (log.commit_index() < log.last_index()) {
            Index from =
                log.commit_index() + 1 + random.below(log.last_index() - log.commit_index());
            log.truncate_from(from);
            model.resize(from.value() - 1);
          }
          break;
        case 4: {
          AppendBatch batch;
          log.take_unwritten(batch);
          if (log.durable_index() < log.last_index()) {
            log.durable_to(log.durable_index() + 1 +
                           random.below(log.last_index() - log.durable_index()));
          }
          break;
        }
        default:
          if (log.commit_index() < log.last_index()) log.commit_to(log.commit_index() + 1);
          log.hand_out_to(log.commit_index());
          if (random.chance(20)) {
            Index end = std::min(log.durable_index(), log.handed_out()) + 1;
            if (end > first) {
              first = end;
              log.compact(first);
            }
          }
      }
      ASSERT_EQ(log.last_index().value(), model.size());
      size_t unstable = 0;
      for (const Entry& e : model) {
        if (e.index > log.durable_index()) unstable += e.weight();
        if (e.index >= first) {
          ASSERT_EQ(log.term_at(e.index), e.term);
        }
        if (log.in_memory(e.index)) {
          ASSERT_EQ(log.at(e.index).stamp_ns, e.stamp_ns);
        }
      }
      ASSERT_EQ(log.unstable_bytes(), unstable);
      ASSERT_LE(log.memory_from(), log.durable_index() + 1);
    }
  }
}

}  // namespace
}  // namespace connectd::raft
