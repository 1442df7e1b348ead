#include "raft/entry_kinds.h"

#include <gtest/gtest.h>

#include <map>
#include <set>
#include <string_view>
#include <vector>

#include "raft/types.h"

namespace connectd::raft {
namespace {

template <class Has>
std::vector<EntryKind> kinds_where(Has&& has) {
  std::vector<EntryKind> kinds;
  for (const EntryKindRow& row : kEntryKinds) {
    if (has(row)) kinds.push_back(row.kind);
  }
  return kinds;
}

TEST(EntryKinds, KnownNumbersAreThoseOfTheTable) {
  std::map<unsigned, const EntryKindRow*> rows;
  for (const EntryKindRow& row : kEntryKinds) rows[static_cast<unsigned>(row.kind)] = &row;
  ASSERT_EQ(rows.size(), kEntryKinds.size());
  for (unsigned number = 0; number < 256; ++number) {
    auto row = rows.find(number);
    const bool known = row != rows.end() && row->second->since_level <= highest_feature_level();
    EXPECT_EQ(is_known_entry_kind(static_cast<uint8_t>(number)), known) << number;
    if (row == rows.end()) continue;
    EXPECT_EQ(&row_of(static_cast<EntryKind>(number)), row->second);
  }
}

TEST(EntryKinds, ReservedNumberIsUnknown) {
  EXPECT_EQ(kReservedEntryKind, 6);  // docs/storage-format.md, docs/protocol.md
  EXPECT_FALSE(is_known_entry_kind(kReservedEntryKind));
  EXPECT_TRUE(is_known_entry_kind(kReservedEntryKind - 1));
  EXPECT_TRUE(is_known_entry_kind(kReservedEntryKind + 1));
}

TEST(EntryKinds, EachHasANameOfItsOwn) {
  std::set<std::string_view> names;
  for (const EntryKindRow& row : kEntryKinds) {
    EXPECT_FALSE(row.name.empty());
    EXPECT_TRUE(names.insert(row.name).second) << row.name;
  }
}

// The present rows, column by column: a wrong new row fails here.
TEST(EntryKinds, ColumnsHoldTheExpectedKinds) {
  using enum EntryKind;
  using Kinds = std::vector<EntryKind>;
  EXPECT_EQ(kinds_where([](auto& row) { return may_be_proposed(row.kind); }),
            (Kinds{kCommand, kSessionOpen, kTick, kCompare, kLevelProbe}));
  EXPECT_EQ(kinds_where([](auto& row) { return may_be_forwarded(row.kind); }),
            (Kinds{kCommand, kSessionOpen}));
  EXPECT_EQ(kinds_where([](auto& row) { return brings_conf(row.kind); }),
            (Kinds{kConfChange, kRecovery}));
  EXPECT_EQ(kinds_where([](auto& row) { return brings_settings(row.kind); }), (Kinds{kSettings}));
  EXPECT_EQ(kinds_where([](auto& row) { return row.payload != EntryPayload::kOpaque; }),
            (Kinds{kGenesis, kConfChange, kSettings, kRecovery}));
  EXPECT_EQ(kinds_where([](auto& row) { return row.passes_full_log; }),
            (Kinds{kNoop, kConfChange, kRecovery}));
  EXPECT_EQ(kinds_where([](auto& row) { return row.passes_stopped_writes; }),
            (Kinds{kSessionOpen}));
  EXPECT_EQ(kinds_where([](auto& row) { return row.can_be_skipped; }), (Kinds{kCommand, kTick}));
  EXPECT_EQ(kinds_where([](auto& row) { return row.is_slow_to_apply; }), (Kinds{kCompare}));
  EXPECT_EQ(kinds_where([](auto& row) { return row.since_level > kReleasedFeatureLevel; }),
            (Kinds{kLevelProbe}));
}

}  // namespace
}  // namespace connectd::raft
