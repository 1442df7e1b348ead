// Snapshot files: whole, verified, published durably or not at all.
#include "storage/snapshot_store.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <functional>
#include <future>
#include <memory>
#include <thread>

#include "base/random.h"
#include "sim/faulty_file_system.h"

namespace connectd::storage {
namespace {

using sim::FaultyFileSystem;
using sim::FileCall;

const std::string kSnapshots = "/data/snapshots";

std::string make_stream(size_t bytes, uint64_t seed) {
  Random random(seed);
  std::string stream;
  stream.reserve(bytes + 8);
  while (stream.size() < bytes) {
    uint64_t word = random.next();
    // Half of it compresses well.
    if (stream.size() % 8192 < 4096) word %= 3;
    stream.append(reinterpret_cast<const char*>(&word), sizeof word);
  }
  stream.resize(bytes);
  return stream;
}

std::unique_ptr<SnapshotStore> open_store(FileSystem& files, SnapshotOptions options = {}) {
  auto store = SnapshotStore::open(files, kSnapshots, options);
  if (!store) {
    ADD_FAILURE() << store.error().text;
    return nullptr;
  }
  return std::move(*store);
}

Result<SnapshotInfo> take(SnapshotStore& store, uint64_t index, const std::string& metadata,
                          const std::string& stream, size_t piece = 100'000) {
  auto writer = store.begin({Index(index), Term(3)}, as_bytes(metadata));
  if (!writer) return failure(writer.error());
  for (size_t at = 0; at < stream.size(); at += piece) {
    auto done = (*writer)->write(as_bytes(std::string_view(stream).substr(at, piece)));
    if (!done) return failure(done.error());
  }
  return (*writer)->finish();
}

std::string read_all(SnapshotReader& reader, size_t piece = 70'000) {
  std::string all;
  std::vector<uint8_t> part(piece);
  while (true) {
    auto got = reader.read(part);
    if (!got) {
      ADD_FAILURE() << got.error().text;
      return all;
    }
    if (*got == 0) return all;
    all.append(as_text(ByteView(part.data(), *got)));
  }
}

TEST(SnapshotStoreTest, WrittenSnapshotIsReadBack) {
  for (size_t bytes : {size_t{0}, size_t{1}, kSnapshotChunkBytes - 1, kSnapshotChunkBytes,
                       kSnapshotChunkBytes + 1, size_t{3'000'000}}) {
    for (int level : {0, 1}) {
      for (size_t metadata_bytes : {size_t{0}, size_t{5}, kSnapshotChunkBytes * 2 + 7}) {
        FaultyFileSystem files;
        auto store = open_store(files, {.keep = 2, .compression_level = level});
        const std::string stream = make_stream(bytes, 1);
        const std::string metadata = make_stream(metadata_bytes, 2);
        auto info = take(*store, 9, metadata, stream, 300'001);
        ASSERT_TRUE(info) << info.error().text;
        files.crash({0, 0});
        store = open_store(files, {.keep = 2, .compression_level = level});
        std::vector<std::string> warnings;
        auto reader = store->open_newest(warnings);
        ASSERT_TRUE(reader) << reader.error().text;
        ASSERT_TRUE(*reader);
        EXPECT_EQ((*reader)->info().mark, (raft::SnapshotMark{Index(9), Term(3)}));
        EXPECT_EQ((*reader)->info().file_bytes, info->file_bytes);
        EXPECT_EQ((*reader)->stream_bytes(), bytes);
        EXPECT_TRUE((*reader)->metadata() == metadata);
        EXPECT_TRUE(read_all(**reader) == stream);
        EXPECT_TRUE(warnings.empty());
      }
    }
  }
}

// A sync of the log waits behind one of the snapshot: docs/performance.md has what larger pieces
// cost.
TEST(SnapshotStoreTest, IsSyncedInSmallPiecesWhileItIsWritten) {
  FaultyFileSystem files;
  auto store = open_store(files);
  const uint64_t syncs_before = files.calls(FileCall::kSync);
  auto writer = store->begin({Index(8), Term(3)}, as_bytes("m"));
  ASSERT_TRUE(writer) << writer.error().text;
  const std::string name = files.names(kSnapshots).at(0);
  size_t synced = 0;
  size_t most_unsynced = 0;
  const std::string stream = make_stream(8 << 20, 1);
  for (size_t at = 0; at < stream.size(); at += 50'000) {
    const uint64_t syncs = files.calls(FileCall::kSync);
    ASSERT_TRUE((*writer)->write(as_bytes(std::string_view(stream).substr(at, 50'000))));
    const size_t size = files.content(kSnapshots + "/" + name).size();
    if (files.calls(FileCall::kSync) != syncs) synced = size;
    most_unsynced = std::max(most_unsynced, size - synced);
  }
  auto info = (*writer)->finish();
  ASSERT_TRUE(info) << info.error().text;
  EXPECT_LT(most_unsynced, 256U << 10);
  // Nor in pieces that are too small to be worth one: the pieces, and the end of it.
  EXPECT_LE(files.calls(FileCall::kSync) - syncs_before, info->file_bytes / (256 << 10) + 2);
  EXPECT_GT(info->file_bytes, 2U << 20);
}

TEST(SnapshotStoreTest, KeepsTheNewestAndRemovesHalfWrittenOnes) {
  FaultyFileSystem files;
  auto store = open_store(files);
  for (uint64_t index : {10, 20, 30}) ASSERT_TRUE(take(*store, index, "m", "stream"));
  ASSERT_EQ(store->list().size(), 2u);
  EXPECT_EQ(store->list()[0].mark.index, Index(30));
  EXPECT_EQ(store->list()[1].mark.index, Index(20));
  EXPECT_EQ(files.names(kSnapshots).size(), 2u);
  {
    auto dropped = store->begin({Index(40), Term(3)}, {});
    ASSERT_TRUE(dropped);
    ASSERT_TRUE((*dropped)->write(as_bytes("half")));
    EXPECT_EQ(files.names(kSnapshots).size(), 3u);
  }
  EXPECT_EQ(files.names(kSnapshots).size(), 2u);
  auto left = store->begin({Index(40), Term(3)}, {});
  ASSERT_TRUE(left);
  files.restart_process();
  auto again = open_store(files);
  EXPECT_EQ(files.names(kSnapshots).size(), 2u);
  EXPECT_EQ(again->list().size(), 2u);
}

TEST(SnapshotStoreTest, NoSnapshotIsNoError) {
  FaultyFileSystem files;
  auto store = open_store(files);
  std::vector<std::string> warnings;
  auto reader = store->open_newest(warnings);
  ASSERT_TRUE(reader);
  EXPECT_FALSE(*reader);
  EXPECT_EQ(store->open_reader({Index(4), Term(1)}).error().kind, ErrorKind::kNotFound);
}

// Catalogue row 53: a damaged newest snapshot neither counts nor blocks the start.
TEST(SnapshotStoreTest, EveryFlippedByteIsFound) {
  FaultyFileSystem files;
  auto store = open_store(files);
  ASSERT_TRUE(take(*store, 10, "older", "older stream"));
  auto info = take(*store, 20, "metadata", make_stream(1500, 4));
  ASSERT_TRUE(info);
  const std::string path = kSnapshots + "/" + info->name;
  for (uint64_t at = 0; at < info->file_bytes; ++at) {
    for (uint8_t mask : {0x01, 0x80}) {
      files.flip(path, at, mask);
      std::vector<std::string> warnings;
      auto reader = store->open_newest(warnings);
      if (reader) {
        ASSERT_EQ((*reader)->info().mark.index, Index(10)) << at;
        ASSERT_EQ(warnings.size(), 1u);
        ASSERT_NE(warnings[0].find(info->name), std::string::npos);
      } else {
        // A flipped version is not damage, but a file this connectd must not guess at; the header's
        // checksum is looked at first, so it cannot be a flip.
        FAIL() << at << ": " << reader.error().text;
      }
      files.flip(path, at, mask);
    }
  }
  const std::string whole = files.content(path);
  for (size_t size = 0; size < whole.size(); ++size) {
    files.put(path, whole.substr(0, size));
    ASSERT_EQ(store->open_reader(info->mark).error().kind, ErrorKind::kCorrupt) << size;
  }
  files.put(path, whole + "x");
  EXPECT_EQ(store->open_reader(info->mark).error().kind, ErrorKind::kCorrupt);
}

TEST(SnapshotStoreTest, OnlyDamagedOnesAreRefused) {
  FaultyFileSystem files;
  auto store = open_store(files);
  auto info = take(*store, 20, "metadata", "stream");
  files.flip(kSnapshots + "/" + info->name, 100);
  std::vector<std::string> warnings;
  auto reader = store->open_newest(warnings);
  ASSERT_FALSE(reader);
  EXPECT_EQ(reader.error().kind, ErrorKind::kCorrupt);
  EXPECT_NE(reader.error().text.find("connectctl inspect snapshot"), std::string::npos);
}

TEST(SnapshotStoreTest, BlocksOfAnotherFileOrLeftOutAreFound) {
  FaultyFileSystem files;
  auto store = open_store(files, {.keep = 9, .compression_level = 0});
  const size_t chunk = kSnapshotChunkBytes;
  auto a = take(*store, 20, "", make_stream(2 * chunk, 1));
  auto b = take(*store, 21, "", make_stream(2 * chunk, 2));
  std::string one = files.content(kSnapshots + "/" + a->name);
  const std::string two = files.content(kSnapshots + "/" + b->name);
  ASSERT_EQ(one.size(), two.size());
  const size_t block = 32 + chunk;
  std::string mixed = one;
  mixed.replace(96 + block, block, two, 96 + block, block);
  files.put(kSnapshots + "/" + a->name, mixed);
  EXPECT_EQ(store->open_reader(a->mark).error().kind, ErrorKind::kCorrupt);
  std::string shorter = one;
  shorter.erase(96, block);
  files.put(kSnapshots + "/" + a->name, shorter);
  EXPECT_EQ(store->open_reader(a->mark).error().kind, ErrorKind::kCorrupt);
}

// The process ended because the sync of the directory failed; the name is in the cache only.
TEST(SnapshotStoreTest, FileThatIsSeenAtTheStartIsThereForGood) {
  FaultyFileSystem files;
  auto store = open_store(files);
  files.fail_nth(FileCall::kSyncDirectory, 1, EIO);
  auto writer = store->begin({Index(50), Term(3)}, as_bytes("sessions"));
  ASSERT_TRUE(writer);
  ASSERT_FALSE((*writer)->finish());
  writer->reset();
  files.restart_process();
  store = open_store(files);
  ASSERT_EQ(store->list().size(), 1u);
  files.crash({.keep_sector_percent = 0, .keep_name_percent = 0});
  EXPECT_EQ(open_store(files)->list().size(), 1u);
}

TEST(SnapshotStoreTest, IsStreamedToAFollower) {
  FaultyFileSystem files;
  FaultyFileSystem theirs(2);
  auto from = open_store(files, {.keep = 1, .compression_level = 1});
  auto to = open_store(theirs);
  const std::string stream = make_stream(1'000'000, 5);
  auto info = take(*from, 50, "sessions", stream);
  auto source = from->open_source(info->mark);
  ASSERT_TRUE(source);
  // The sender's store drops the file meanwhile.
  ASSERT_TRUE(take(*from, 60, "sessions", "newer"));
  ASSERT_EQ(from->list().size(), 1u);

  auto receiver = to->receive((*source)->file());
  ASSERT_TRUE(receiver);
  EXPECT_FALSE((*receiver)->verify());
  constexpr size_t kPiece = 65'536;
  while ((*receiver)->received() < info->file_bytes) {
    auto chunk = (*source)->read((*receiver)->received(), kPiece);
    ASSERT_TRUE(chunk);
    const uint64_t at = (*receiver)->received();
    EXPECT_FALSE((*receiver)->write(at + 1, chunk->view()));
    ASSERT_TRUE((*receiver)->write(at, chunk->view()));
    ASSERT_TRUE((*receiver)->write(at, chunk->view()));  // a repetition
  }
  EXPECT_FALSE((*receiver)->write(info->file_bytes, as_bytes("x")));
  {
    auto arrived = (*receiver)->verify();
    ASSERT_TRUE(arrived) << arrived.error().text;
    EXPECT_EQ((*arrived)->metadata(), "sessions");
    EXPECT_TRUE(read_all(**arrived) == stream);
  }
  EXPECT_TRUE(to->list().empty());
  auto installed = (*receiver)->publish();
  ASSERT_TRUE(installed) << installed.error().text;
  EXPECT_FALSE(to->partial());
  theirs.crash({0, 0});
  to = open_store(theirs);
  auto reader = to->open_reader(info->mark);
  ASSERT_TRUE(reader) << reader.error().text;
  EXPECT_EQ((*reader)->metadata(), "sessions");
  EXPECT_TRUE(read_all(**reader) == stream);
}

TEST(SnapshotStoreTest, DamagedStreamIsNotPublished) {
  FaultyFileSystem files;
  auto from = open_store(files);
  auto info = take(*from, 50, "sessions", make_stream(10'000, 5));
  auto source = from->open_source(info->mark);
  for (uint64_t flip = 0; flip < info->file_bytes; flip += 97) {
    FaultyFileSystem theirs(2);
    auto to = open_store(theirs);
    auto receiver = to->receive((*source)->file());
    auto bytes = (*source)->read(0, info->file_bytes);
    std::string copy(bytes->text());
    copy[flip] = static_cast<char>(copy[flip] ^ 4);
    ASSERT_TRUE((*receiver)->write(0, as_bytes(copy)));
    auto installed = (*receiver)->verify();
    ASSERT_FALSE(installed) << flip;
    EXPECT_EQ(installed.error().kind, ErrorKind::kCorrupt);
    (*receiver)->discard();
    receiver->reset();
    EXPECT_TRUE(theirs.names(kSnapshots).empty());
  }
  FaultyFileSystem theirs(2);
  auto to = open_store(theirs);
  wire::SnapshotFile other_mark = (*source)->file();
  other_mark.mark.index = Index(51);
  auto receiver = to->receive(other_mark);
  ASSERT_TRUE((*receiver)->write(0, (*source)->read(0, info->file_bytes)->view()));
  EXPECT_FALSE((*receiver)->verify()) << "another mark";
}

class PartOfASnapshot : public ::testing::Test {
 protected:
  void SetUp() override {
    from = open_store(files);
    auto info = take(*from, 50, "sessions", make_stream(2'000'000, 5));
    ASSERT_TRUE(info);
    source = std::move(*from->open_source(info->mark));
    bytes = std::string((*source).read(0, info->file_bytes)->text());
    to = open_store(theirs);
  }
  // The first `length` bytes arrive.
  void begin(size_t length) {
    auto receiver = to->receive(source->file());
    ASSERT_TRUE(receiver) << receiver.error().text;
    ASSERT_TRUE((*receiver)->write(0, as_bytes(bytes).first(length)));
  }
  uint64_t rest() {
    auto receiver = to->receive(source->file());
    EXPECT_TRUE(receiver) << receiver.error().text;
    const uint64_t had = (*receiver)->received();
    EXPECT_TRUE((*receiver)->write(had, as_bytes(bytes).subspan(had)));
    auto verified = (*receiver)->verify();
    EXPECT_TRUE(verified) << verified.error().text;
    EXPECT_TRUE((*receiver)->publish());
    EXPECT_EQ(theirs.content(std::string(kSnapshots) + "/" + to->list().front().name), bytes);
    return had;
  }

  FaultyFileSystem files;
  FaultyFileSystem theirs{2};
  std::unique_ptr<SnapshotStore> from;
  std::unique_ptr<SnapshotStore> to;
  std::unique_ptr<SnapshotSource> source;
  std::string bytes;
};

// Catalogue row 52: the receiver ends at any point, and resumes with all complete blocks that it
// has.
TEST_F(PartOfASnapshot, IsWhereANewProcessGoesOn) {
  uint64_t most = 0;
  for (size_t length = 1; length < bytes.size(); length += bytes.size() / 40) {
    begin(length);
    to.reset();
    theirs.restart_process();
    to = open_store(theirs);
    ASSERT_EQ(to->partial(), source->file());
    EXPECT_TRUE(to->list().empty());
    const uint64_t had = rest();
    EXPECT_LE(had, length);
    EXPECT_GE(had + kSnapshotChunkBytes + 200, length);
    most = std::max(most, had);
    EXPECT_FALSE(to->partial());
    theirs.erase(std::string(kSnapshots) + "/" + to->list().front().name);
    to = open_store(theirs);
  }
  EXPECT_GT(most, bytes.size() / 2);
  begin(bytes.size());
  to = open_store(theirs);
  EXPECT_EQ(rest(), bytes.size()) << "all of it was there";
}

TEST_F(PartOfASnapshot, IsGoodAfterAPowerCutOrIsSentAgain) {
  for (uint64_t seed = 1; seed <= 50; ++seed) {
    begin(bytes.size() * seed / 51);
    to.reset();
    theirs.crash({static_cast<double>(seed * 2), 50});
    to = open_store(theirs);
    rest();
    theirs.erase(std::string(kSnapshots) + "/" + to->list().front().name);
    to = open_store(theirs);
  }
}

// Another file with the same mark, as a node with another compression would take it.
TEST_F(PartOfASnapshot, IsNotGoneOnWithInAnotherFile) {
  FaultyFileSystem other_files;
  auto other = open_store(other_files, {.keep = 1, .compression_level = 0});
  auto info = take(*other, 50, "sessions", make_stream(2'000'000, 5));
  auto other_source = other->open_source(info->mark);
  ASSERT_TRUE(other_source);
  ASSERT_EQ((*other_source)->file().mark, source->file().mark);
  ASSERT_NE((*other_source)->file(), source->file());
  begin(bytes.size() / 2);
  auto receiver = to->receive((*other_source)->file());
  ASSERT_TRUE(receiver);
  EXPECT_EQ((*receiver)->received(), 0u);
  EXPECT_EQ(theirs.names(kSnapshots).size(), 1u) << "one part at a time";
  // And were they mixed all the same, it would be seen.
  wire::SnapshotFile claimed = source->file();
  claimed.checksum ^= 1;
  receiver = to->receive(claimed);
  ASSERT_TRUE((*receiver)->write(0, as_bytes(bytes)));
  auto verified = (*receiver)->verify();
  ASSERT_FALSE(verified);
  EXPECT_EQ(verified.error().kind, ErrorKind::kCorrupt);
}

TEST_F(PartOfASnapshot, IsOneAtMostAndGoesWhenItIsNotNeeded) {
  begin(1000);
  theirs.put(std::string(kSnapshots) +
                 "/0000000000000046-0000000000000003-00000000000003e8-0000000000000007.partial",
             "of a crash between two steps");
  to.reset();
  theirs.restart_process();
  to = open_store(theirs);
  ASSERT_TRUE(to->partial());
  EXPECT_EQ(to->partial()->mark.index, Index(0x46));
  EXPECT_EQ(theirs.names(kSnapshots).size(), 1u);
  to->drop_partial();
  EXPECT_FALSE(to->partial());
  EXPECT_TRUE(theirs.names(kSnapshots).empty());
}

// Every change of the disk fails once, and for good; and the power goes at that moment. Whatever
// happens, the newest snapshot that was reported as taken is there (catalogue rows 53, 54, 60, 61).
TEST(SnapshotStoreTest, NthFailureNeverLosesAReportedSnapshot) {
  uint64_t hit = 0;
  for (bool sticky : {false, true}) {
    for (uint64_t nth = 1;; ++nth) {
      FaultyFileSystem files(nth);
      uint64_t reported = 0;
      bool was_hit = false;
      {
        auto store = open_store(files);
        ASSERT_TRUE(take(*store, 1, "meta 1", make_stream(3000, 1)));
        reported = 1;
        files.fail_nth_change(nth, EIO, sticky);
        for (uint64_t index = 2; index <= 4; ++index) {
          if (take(*store, index, fmt::format("meta {}", index), make_stream(3000, index))) {
            reported = index;
          }
        }
        was_hit = files.failure_hit();
        files.clear_failures();
      }
      files.crash();
      auto store = open_store(files);
      std::vector<std::string> warnings;
      auto reader = store->open_newest(warnings);
      ASSERT_TRUE(reader) << nth << ": " << reader.error().text;
      ASSERT_TRUE(*reader) << nth;
      const uint64_t index = (*reader)->info().mark.index.value();
      EXPECT_GE(index, reported) << nth;
      EXPECT_TRUE(warnings.empty()) << nth << ": " << warnings[0];
      EXPECT_EQ((*reader)->metadata(), fmt::format("meta {}", index));
      EXPECT_TRUE(read_all(**reader) == make_stream(3000, index));
      if (!was_hit) break;
      ++hit;
    }
  }
  EXPECT_GT(hit, 20u);
}

TEST(SnapshotStoreTest, InspectionSaysWhatIsInIt) {
  FaultyFileSystem files;
  auto store = open_store(files);
  auto info = take(*store, 50, "sessions", make_stream(600'000, 5));
  auto content = inspect_snapshot(files, kSnapshots + "/" + info->name);
  ASSERT_TRUE(content);
  EXPECT_EQ(content->info.mark.index, Index(50));
  EXPECT_EQ(content->metadata_bytes, 8u);
  EXPECT_EQ(content->stream_bytes, 600'000u);
  EXPECT_EQ(content->chunks, 3u);
  EXPECT_EQ(content->writer.rfind("connectd ", 0), 0u);
}

// Another disk, whose calls that change a directory do something first.
class InterruptedFiles final : public FileSystem {
 public:
  explicit InterruptedFiles(FileSystem& files) : files_(files) {}
  std::function<void()> before = [] {};

  Result<std::unique_ptr<File>> open(const std::string& path, OpenMode mode) override {
    return files_.open(path, mode);
  }
  Result<void> rename(const std::string& from, const std::string& to) override {
    before();
    return files_.rename(from, to);
  }
  Result<void> remove(const std::string& path) override {
    before();
    return files_.remove(path);
  }
  Result<void> sync_directory(const std::string& path) override {
    before();
    return files_.sync_directory(path);
  }
  Result<void> make_directory(const std::string& path) override {
    return files_.make_directory(path);
  }
  Result<std::vector<std::string>> list(const std::string& path) override {
    return files_.list(path);
  }
  Result<bool> exists(const std::string& path) override { return files_.exists(path); }
  Result<uint64_t> free_bytes(const std::string& path) override { return files_.free_bytes(path); }
  Result<std::unique_ptr<FileLock>> lock(const std::string& path) override {
    return files_.lock(path);
  }

 private:
  FileSystem& files_;
};

// The loop asks the store while the disk is slow.
TEST(SnapshotStore, NobodyWaitsForTheDiskOfAnother) {
  FaultyFileSystem disk(1);
  InterruptedFiles files(disk);
  auto store = open_store(files, {.keep = 1});
  ASSERT_NE(store, nullptr);
  ASSERT_TRUE(take(*store, 10, "m", make_stream(1000, 1)));
  int calls = 0;
  int waits = 0;
  std::vector<std::thread> askers;
  files.before = [&] {
    ++calls;
    auto asked = std::make_shared<std::promise<void>>();
    std::future<void> answered = asked->get_future();
    askers.emplace_back([asked, store = store.get()] {
      (void)store->list();
      (void)store->partial();
      asked->set_value();
    });
    waits += answered.wait_for(std::chrono::seconds(2)) != std::future_status::ready;
  };
  auto taken = take(*store, 20, "m", make_stream(1000, 1));
  for (std::thread& asker : askers) asker.join();
  ASSERT_TRUE(taken) << taken.error().text;
  EXPECT_EQ(store->list().size(), 1u);
  EXPECT_GE(calls, 4);
  EXPECT_EQ(waits, 0);
}

}  // namespace
}  // namespace connectd::storage
