// docs/storage-format.md is held to the code: its examples are read by it, and written by it.
#include "storage/format.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <fstream>
#include <sstream>

#include "storage/identity.h"
#include "storage/snapshot_store.h"
#include "tests/paths.h"
#include "tests/unit/storage/log_harness.h"

namespace connectd::storage {
namespace {

using sim::FaultyFileSystem;

std::string page() {
  std::ifstream in(CONNECTD_SOURCE_DIR "/docs/storage-format.md");
  std::stringstream text;
  text << in.rdbuf();
  return text.str();
}

// As in the page: offset, 16 bytes, text. A line of zeros is left out, as hexdump -C does with '*'.
std::string dump(const std::string& bytes) {
  std::string text;
  for (size_t at = 0; at < bytes.size(); at += 16) {
    std::string line = fmt::format("{:08x} ", at);
    std::string letters;
    for (size_t i = at; i < std::min(at + 16, bytes.size()); ++i) {
      const auto byte = static_cast<uint8_t>(bytes[i]);
      line += fmt::format(" {:02x}", byte);
      letters += byte >= 0x20 && byte < 0x7f ? bytes[i] : '.';
    }
    text += fmt::format("{:<57}  |{}|\n", line, letters);
  }
  return text;
}

// The bytes of the block that begins with "```hex NAME".
std::string example(const std::string& name) {
  const std::string text = page();
  const size_t begin = text.find("```hex " + name + "\n");
  if (begin == std::string::npos) return {};
  std::istringstream lines(text.substr(begin, text.find("\n```\n", begin) - begin));
  std::string line;
  std::getline(lines, line);
  std::string bytes;
  while (std::getline(lines, line)) {
    std::istringstream words(line.substr(0, line.find('|')));
    std::string word;
    words >> word;
    while (words >> word) bytes += static_cast<char>(std::stoul(word, nullptr, 16));
  }
  return bytes;
}

std::string example_log(FaultyFileSystem& files) {
  Recovered recovered;
  auto log = Log::open(files, kDirectory, {.segment_bytes = 4096}, {}, recovered);
  raft::Entry entry;
  entry.index = Index(1);
  entry.term = Term(1);
  entry.kind = raft::EntryKind::kCommand;
  entry.session = SessionId(7);
  entry.sequence = Sequence(3);
  entry.acked_below = Sequence(2);
  entry.stamp_ns = 1'700'000'000'000'000'000;
  entry.payload = Slice::copy_of("incr");
  entry.checksum = raft::entry_checksum(entry);
  LogBatch batch{{Term(1), NodeId(2), Index(0)}, std::nullopt, std::span(&entry, 1)};
  EXPECT_TRUE((*log)->append(std::span(&batch, 1)));
  EXPECT_TRUE((*log)->seal_if_idle(Time{}));
  EXPECT_TRUE((*log)->seal_if_idle(Time{} + kSealAfter));
  std::string bytes = files.content(kDirectory + "/0000000000000001.wal");
  bytes.resize(bytes.find_last_not_of('\0') + 1);
  return bytes;
}

TEST(FormatPageTest, LogExampleIsWhatTheLogWrites) {
  FaultyFileSystem files;
  const std::string bytes = example_log(files);
  EXPECT_EQ(example("log"), bytes) << dump(bytes);
  EXPECT_NE(page().find(dump(bytes)), std::string::npos);
}

TEST(FormatPageTest, LogExampleIsRead) {
  FaultyFileSystem files;
  ASSERT_TRUE(files.make_directory(kDirectory));
  std::string bytes = example("log");
  bytes.resize(4096);
  files.put(kDirectory + "/0000000000000001.wal", bytes);
  Recovered recovered;
  auto log = Log::open(files, kDirectory, {.segment_bytes = 4096}, {}, recovered);
  ASSERT_TRUE(log) << log.error().text;
  EXPECT_EQ(recovered.hard_state, (raft::HardState{Term(1), NodeId(2), Index(0)}));
  auto entries = (*log)->read(Index(1), Index(2), 100);
  ASSERT_TRUE(entries && entries->size() == 1);
  EXPECT_EQ((*entries)[0].payload.text(), "incr");
  EXPECT_EQ((*entries)[0].acked_below, Sequence(2));
}

TEST(FormatPageTest, SnapshotExampleIsRead) {
  FaultyFileSystem files;
  auto store = SnapshotStore::open(files, "/s", {.keep = 1, .compression_level = 0});
  auto writer = (*store)->begin({Index(5), Term(2)}, as_bytes("meta"));
  ASSERT_TRUE((*writer)->write(as_bytes("hello")));
  auto info = (*writer)->finish();
  const std::string written = files.content("/s/" + info->name);
  files.put("/s/" + info->name, example("snapshot"));
  auto reader = (*store)->open_reader({Index(5), Term(2)});
  ASSERT_TRUE(reader) << reader.error().text << "\n" << dump(written);
  EXPECT_EQ((*reader)->metadata(), "meta");
  std::vector<uint8_t> bytes(10);
  ASSERT_EQ(*(*reader)->read(bytes), 5u);
  EXPECT_EQ(as_text(ByteView(bytes).first(5)), "hello");
}

TEST(FormatPageTest, IdentityExampleIsWhatIsWritten) {
  Identity identity;
  identity.node_id = NodeId(3);
  for (uint8_t i = 0; i < 16; ++i) {
    identity.disk_id.bytes[i] = static_cast<uint8_t>(0xd0 + i);
    identity.cluster_id.bytes[i] = static_cast<uint8_t>(0xc0 + i);
  }
  identity.genesis = "genesis";
  identity.log_begun = true;
  identity.former_cluster_ids.emplace_back().bytes.fill(0xbb);
  identity.skips.push_back({Index(57), Term(2), 0x0807060504030201});
  const std::string bytes = encode_identity(identity);
  EXPECT_EQ(example("identity"), bytes) << dump(bytes);
  auto decoded = decode_identity(as_bytes(example("identity")), "page");
  ASSERT_TRUE(decoded);
  EXPECT_EQ(*decoded, identity);
}

// The tables of the page and the structs agree on each field's place.
TEST(FormatPageTest, TablesNameEveryField) {
  const std::string text = page();
  const std::vector<std::pair<size_t, const char*>> fields = {
      {offsetof(SegmentHeader, version), "version"},
      {offsetof(SegmentHeader, group), "group"},
      {offsetof(SegmentHeader, segment_id), "segment_id"},
      {offsetof(SegmentHeader, segment_bytes), "segment_bytes"},
      {offsetof(SegmentHeader, previous_end), "previous_end"},
      {offsetof(SegmentHeader, last_index), "last_index"},
      {offsetof(SegmentHeader, last_term), "last_term"},
      {offsetof(SegmentHeader, hard_term), "hard_term"},
      {offsetof(SegmentHeader, hard_vote), "hard_vote"},
      {offsetof(SegmentHeader, hard_commit), "hard_commit"},
      {offsetof(RecordHeader, kind), "kind"},
      {offsetof(RecordHeader, offset), "offset"},
      {offsetof(RecordHeader, index), "index"},
      {offsetof(RecordHeader, term), "term"},
      {offsetof(RecordHeader, length), "length"},
      {offsetof(BatchBody, durable_segment), "durable_segment"},
      {offsetof(BatchBody, durable_offset), "durable_offset"},
      {offsetof(BatchBody, replaces_from), "replaces_from"},
      {offsetof(BatchBody, bytes), "bytes"},
      {offsetof(BatchBody, count), "count"}};
  for (const auto& [offset, name] : fields) {
    bool found = false;
    for (int size : {1, 4, 8}) {
      found |= text.find(fmt::format("| {} | {} | {} |", offset, size, name)) != std::string::npos;
    }
    EXPECT_TRUE(found) << name << " at " << offset;
  }
}

}  // namespace
}  // namespace connectd::storage
