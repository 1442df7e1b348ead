// What a newer connectd wrote is refused with exit code 76: it is neither damage nor a torn end,
// and not a byte of the log changes. Bytes whose checksum does not match are judged as always.
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>

#include "storage/format.h"
#include "storage/snapshot_format.h"
#include "storage/snapshot_store.h"
#include "tests/unit/storage/log_harness.h"

namespace connectd::storage {
namespace {

using sim::FaultyFileSystem;
using ::testing::HasSubstr;

constexpr uint8_t kNewKind = 250;  // no build knows it

class NewerLogTest : public ::testing::Test {
 protected:
  struct Collector final : RecordVisitor {
    void on_record(const InspectedRecord& record) override { records.push_back(record); }
    std::vector<InspectedRecord> records;
  };

  // Three entries; the second batch holds `last`. Sealed on request.
  void write_log(const raft::Entry& last, bool sealed) {
    Recovered recovered;
    auto log = Log::open(files_, kDirectory, {.segment_bytes = 4096}, {}, recovered);
    ASSERT_TRUE(log);
    auto entries = make_entries(1, 2, 1);
    LogBatch batches[2] = {{{Term(1), NodeId(1), Index(1)}, std::nullopt, entries},
                           {{Term(1), NodeId(1), Index(2)}, std::nullopt, {&last, 1}}};
    ASSERT_TRUE((*log)->append(std::span(batches, 1)));
    ASSERT_TRUE((*log)->append(std::span(batches + 1, 1)));
    if (!sealed) return;
    ASSERT_TRUE((*log)->seal_if_idle(Time{}));
    ASSERT_TRUE((*log)->seal_if_idle(Time{} + kSealAfter));
  }
  static raft::Entry entry_of_new_kind(uint8_t kind = kNewKind) {
    return make_entry(3, 1, 24, static_cast<raft::EntryKind>(kind));
  }
  InspectedRecord record(size_t number) {
    Collector all;
    EXPECT_TRUE(inspect_log(files_, kDirectory, all));
    return all.records.at(number);
  }
  // The numbers of the records that write_log() makes.
  enum : size_t { kSegment, kBatch1, kEntry1, kEntry2, kBatch2, kEntry3, kSeal };

  // Changes the header of a record, and corrects its checksum.
  void change_header(size_t number, const std::function<void(RecordHeader&)>& change) {
    const uint64_t at = record(number).offset;
    std::string bytes = files_.content(path_);
    RecordHeader header;
    std::memcpy(&header, bytes.data() + at, sizeof header);
    change(header);
    header.checksum = struct_checksum(header, position_seed(1, at));
    std::memcpy(bytes.data() + at, &header, sizeof header);
    files_.put(path_, bytes);
  }
  void expect_refused(const std::string& what) {
    const std::string before = files_.content(path_);
    const auto names = files_.names(kDirectory);
    Recovered recovered;
    auto log = Log::open(files_, kDirectory, {.segment_bytes = 4096}, {}, recovered);
    ASSERT_FALSE(log);
    EXPECT_EQ(log.error().kind, ErrorKind::kNewerVersion) << log.error().text;
    EXPECT_THAT(log.error().text, HasSubstr(what));
    EXPECT_THAT(log.error().text, HasSubstr(path_));
    EXPECT_THAT(log.error().text, HasSubstr("newer"));
    EXPECT_THAT(log.error().text, HasSubstr("was not changed"));
    EXPECT_EQ(files_.content(path_), before);
    EXPECT_EQ(files_.names(kDirectory), names);
  }

  FaultyFileSystem files_;
  const std::string path_ = kDirectory + "/0000000000000001.wal";
};

TEST_F(NewerLogTest, EntryKindAtUnsealedEndIsNotCut) {
  write_log(entry_of_new_kind(), false);
  expect_refused("index 3: an entry with kind 250 is unknown");
}

TEST_F(NewerLogTest, SealedEntryKindIsNoDamage) {
  write_log(entry_of_new_kind(), true);
  expect_refused("index 3: an entry with kind 250 is unknown");
}

TEST_F(NewerLogTest, ReservedEntryKindIsUnknown) {
  write_log(entry_of_new_kind(raft::kReservedEntryKind), true);
  expect_refused("index 3: an entry with kind 6 is unknown");
}

TEST_F(NewerLogTest, EntryFlags) {
  raft::Entry entry = make_entry(3, 1);
  entry.flags = 4;
  entry.checksum = raft::entry_checksum(entry);
  write_log(entry, false);
  expect_refused("an entry with flags 0x4");
}

TEST_F(NewerLogTest, EntryReservedField) {
  write_log(make_entry(3, 1), true);
  const uint64_t at = record(kEntry3).offset + sizeof(RecordHeader);
  std::string bytes = files_.content(path_);
  auto* header = reinterpret_cast<uint8_t*>(bytes.data()) + at;
  store_le<uint16_t>(header + 50, 0x1ff);
  uint8_t head[64];
  std::memcpy(head, header, 56);
  const auto payload = ByteView(header + wire::kEntryHeaderBytes, load_le<uint32_t>(header + 52));
  store_le<uint64_t>(head + 56, checksum64(payload));
  store_le<uint64_t>(header + 56, checksum64(head));
  files_.put(path_, bytes);
  expect_refused("an entry with reserved field 0x1ff");
}

TEST_F(NewerLogTest, RecordKindFieldLengthAndGroup) {
  write_log(make_entry(3, 1), true);
  const std::string good = files_.content(path_);
  auto expect = [&](size_t number, const std::string& what, auto change) {
    change_header(number, change);
    expect_refused(what);
    files_.put(path_, good);
  };
  for (size_t number : {kBatch1, kEntry2, kBatch2, kEntry3, kSeal}) {
    SCOPED_TRACE(number);
    expect(number, "a record of kind 9", [](RecordHeader& header) { header.kind = 9; });
    expect(number, "with more fields", [](RecordHeader& header) { header.reserved[1] = 1; });
    expect(number, "with more fields", [](RecordHeader& header) { header.reserved_2 = 1; });
    expect(number, "a record of group 7", [](RecordHeader& header) { header.group = 7; });
  }
  expect(kBatch2, "a record of kind 1 and 80 bytes",
         [](RecordHeader& header) { header.length = 80; });
  expect(kSeal, "a record of kind 3 and 8 bytes", [](RecordHeader& header) { header.length = 8; });
}

TEST_F(NewerLogTest, BatchField) {
  write_log(make_entry(3, 1), false);
  const uint64_t at = record(kBatch2).offset;
  std::string bytes = files_.content(path_);
  BatchBody body;
  std::memcpy(&body, bytes.data() + at + sizeof(RecordHeader), sizeof body);
  body.reserved = 1;
  body.checksum = struct_checksum(body, position_seed(1, at));
  std::memcpy(bytes.data() + at + sizeof(RecordHeader), &body, sizeof body);
  files_.put(path_, bytes);
  expect_refused("a batch with more fields");
}

TEST_F(NewerLogTest, SegmentHeaderFieldIsNotRemovedAsTorn) {
  Recovered recovered;
  { ASSERT_TRUE(Log::open(files_, kDirectory, {.segment_bytes = 4096}, {}, recovered)); }
  std::string bytes = files_.content(path_);
  SegmentHeader header;
  std::memcpy(&header, bytes.data(), sizeof header);
  header.reserved[3] = 1;
  header.checksum = struct_checksum(header, position_seed(1, 0));
  std::memcpy(bytes.data(), &header, sizeof header);
  files_.put(path_, bytes);
  expect_refused("more fields in its header");
}

// An older build cannot interpret the records after the torn place.
TEST_F(NewerLogTest, TornPlaceBeforeNewerRecordIsNotCut) {
  write_log(entry_of_new_kind(), false);
  const InspectedRecord torn = record(kBatch2);
  files_.flip(path_, torn.offset + sizeof(RecordHeader) + 3);
  expect_refused("index 3: an entry with kind 250 is unknown");
}

// Checksum first, then kind.
TEST_F(NewerLogTest, WithoutChecksumItIsTorn) {
  write_log(entry_of_new_kind(), false);
  const InspectedRecord entry = record(kEntry3);
  for (uint64_t at = sizeof(RecordHeader); at < sizeof(RecordHeader) + 64 + 24; ++at) {
    SCOPED_TRACE(at);
    auto files = files_.clone(at);
    files->flip(path_, entry.offset + at);
    Recovered recovered;
    auto log = Log::open(*files, kDirectory, {.segment_bytes = 4096}, {}, recovered);
    ASSERT_TRUE(log) << log.error().text;
    EXPECT_EQ(recovered.warnings.size(), 1u);
    EXPECT_EQ((*log)->last_index(), Index(2));
  }
}

TEST_F(NewerLogTest, WithoutChecksumSealedIsDamage) {
  write_log(entry_of_new_kind(), true);
  files_.flip(path_, record(kEntry3).offset + sizeof(RecordHeader) + 70);
  Recovered recovered;
  auto log = Log::open(files_, kDirectory, {.segment_bytes = 4096}, {}, recovered);
  ASSERT_FALSE(log);
  EXPECT_EQ(log.error().kind, ErrorKind::kCorrupt);
}

TEST_F(NewerLogTest, InspectionShowsIt) {
  write_log(entry_of_new_kind(), true);
  const InspectedRecord line = record(kEntry3);
  EXPECT_TRUE(line.valid);
  EXPECT_EQ(line.kind, kNewerKind);
  EXPECT_EQ(line.index, Index(3));
  EXPECT_THAT(line.text, HasSubstr("an entry with kind 250"));
  EXPECT_EQ(record(kSeal).kind, "seal");
  EXPECT_EQ(record(kSeal).offset, line.offset + line.bytes);
}

TEST_F(NewerLogTest, InspectionFindsItBehindDamage) {
  write_log(entry_of_new_kind(), false);
  files_.flip(path_, record(kBatch2).offset + 20);
  Collector all;
  ASSERT_TRUE(inspect_log(files_, kDirectory, all));
  ASSERT_EQ(all.records.size(), size_t{kEntry3} + 1);
  EXPECT_FALSE(all.records[kBatch2].valid);
  EXPECT_EQ(all.records[kEntry3].kind, kNewerKind);
}

TEST_F(NewerLogTest, ReadingRefusesIt) {
  Recovered recovered;
  auto log = Log::open(files_, kDirectory, {.segment_bytes = 4096}, {}, recovered);
  ASSERT_TRUE(log);
  raft::Entry entry = make_entry(1, 1, 24, static_cast<raft::EntryKind>(kNewKind));
  LogBatch batch{{Term(1), NodeId(1), Index(0)}, std::nullopt, {&entry, 1}};
  ASSERT_TRUE((*log)->append(std::span(&batch, 1)));
  auto read = (*log)->read(Index(1), Index(2), 1000);
  ASSERT_FALSE(read);
  EXPECT_EQ(read.error().kind, ErrorKind::kNewerVersion);
}

// ---- snapshots

class NewerSnapshotTest : public ::testing::Test {
 protected:
  void SetUp() override {
    store_ = open();
    for (uint64_t index : {5, 9}) {
      auto writer = store_->begin({Index(index), Term(3)}, as_bytes("metadata"));
      ASSERT_TRUE(writer);
      ASSERT_TRUE((*writer)->write(as_bytes("stream")));
      ASSERT_TRUE((*writer)->finish());
    }
  }
  std::unique_ptr<SnapshotStore> open() {
    auto store = SnapshotStore::open(files_, "/data/snapshots", {});
    EXPECT_TRUE(store);
    return std::move(*store);
  }
  void expect_refused(const std::string& bytes, const std::string& what) {
    files_.put(path_, bytes);
    std::vector<std::string> warnings;
    auto reader = open()->open_newest(warnings);
    ASSERT_FALSE(reader) << "an older one was taken";
    EXPECT_EQ(reader.error().kind, ErrorKind::kNewerVersion) << reader.error().text;
    EXPECT_THAT(reader.error().text, HasSubstr(what));
    EXPECT_THAT(reader.error().text, HasSubstr(path_));
    EXPECT_EQ(files_.content(path_), bytes);
  }
  // The header of the first block, changed.
  std::string with_block(const std::function<void(BlockHeader&)>& change) {
    std::string bytes = files_.content(path_);
    BlockHeader block;
    std::memcpy(&block, bytes.data() + sizeof(SnapshotHeader), sizeof block);
    change(block);
    block.checksum = struct_checksum(block, sizeof(SnapshotHeader));
    std::memcpy(bytes.data() + sizeof(SnapshotHeader), &block, sizeof block);
    return bytes;
  }

  FaultyFileSystem files_;
  std::unique_ptr<SnapshotStore> store_;
  const std::string path_ = "/data/snapshots/0000000000000009-0000000000000003.snapshot";
};

TEST_F(NewerSnapshotTest, BlockKind) {
  expect_refused(with_block([](BlockHeader& block) { block.kind = 4; }), "a block of kind 4");
}

TEST_F(NewerSnapshotTest, BlockField) {
  expect_refused(with_block([](BlockHeader& block) { block.reserved = 1; }),
                 "more fields in a block header");
}

TEST_F(NewerSnapshotTest, HeaderField) {
  std::string bytes = files_.content(path_);
  SnapshotHeader header;
  std::memcpy(&header, bytes.data(), sizeof header);
  header.reserved = 1;
  header.checksum = struct_checksum(header, 0);
  std::memcpy(bytes.data(), &header, sizeof header);
  expect_refused(bytes, "more fields in its header");
}

TEST_F(NewerSnapshotTest, FlippedKindIsDamage) {
  std::string bytes = files_.content(path_);
  bytes[sizeof(SnapshotHeader)] ^= 4;
  files_.put(path_, bytes);
  std::vector<std::string> warnings;
  auto reader = open()->open_newest(warnings);
  ASSERT_TRUE(reader);
  EXPECT_EQ((*reader)->info().mark.index, Index(5));
  EXPECT_EQ(warnings.size(), 1u);
}

}  // namespace
}  // namespace connectd::storage
