// Cut at every byte, flip every byte, lose files: recovery gives back exactly what was written, or
// says what is wrong; never a wrong entry (catalogue rows 29, 60, 62 to 66).
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <map>

#include "storage/format.h"
#include "tests/unit/storage/log_harness.h"

namespace connectd::storage {
namespace {

using sim::FaultyFileSystem;

struct Place {
  uint64_t segment = 0;
  uint64_t offset = 0;
  auto operator<=>(const Place&) const = default;
};

// A log of several segments with everything in it: batches of many sizes, hard state alone,
// replaced suffixes (one across segments), seals.
class LogDamageTest : public ::testing::Test {
 protected:
  struct Claim {  // "what is before `durable` is durable", said in [from, to) of a segment
    uint64_t segment;
    uint64_t from;
    uint64_t to;
    Place durable;
  };
  struct Step {
    Place end;  // of the batch
    Model model;
  };

  void SetUp() override {
    Recovered recovered;
    auto opened = Log::open(files_, kDirectory, {.segment_bytes = 4096}, {}, recovered);
    ASSERT_TRUE(opened);
    Log& log = **opened;
    steps_.push_back({{0, 0}, Model()});
    Time now{};
    uint64_t term = 1;
    for (uint64_t i = 1; i <= 30; ++i) {
      const Model& model = steps_.back().model;
      uint64_t next = model.last().value() + 1;
      LogBatch batch;
      if (i % 6 == 0) {
        ++term;
        next -= i == 18 ? 13 : 2;
        batch.replaces_from = Index(next);
      }
      auto entries = make_entries(next, i % 5, term, 1 + 37 * i % 350);
      batch.entries = entries;
      batch.hard_state = {Term(term), NodeId(i % 4), Index(i / 4)};
      ASSERT_TRUE(log.append(std::span(&batch, 1)));
      Model after = model;
      after.apply(batch);
      steps_.push_back({end_of_log(), after});
      if (i % 7 == 0) {
        ASSERT_TRUE(log.seal_if_idle(now));
        now += kSealAfter;
        ASSERT_TRUE(log.seal_if_idle(now));
      }
    }
    collect_claims();
    ASSERT_GE(segments().size(), 4u);
  }

  std::vector<std::string> segments() const {
    std::vector<std::string> names;
    for (const std::string& name : files_.names(kDirectory)) {
      if (name.ends_with(".wal")) names.push_back(name);
    }
    return names;
  }
  static uint64_t id_of(const std::string& name) { return std::stoull(name, nullptr, 16); }
  static std::string path_of(const std::string& name) { return kDirectory + "/" + name; }

  struct Collector final : RecordVisitor {
    void on_record(const InspectedRecord& record) override { records.push_back(record); }
    std::vector<InspectedRecord> records;
  };
  Place end_of_log() {
    Collector all;
    EXPECT_TRUE(inspect_log(files_, kDirectory, all));
    const InspectedRecord& last = all.records.back();
    return {id_of(last.file), last.offset + last.bytes};
  }
  void collect_claims() {
    Collector all;
    ASSERT_TRUE(inspect_log(files_, kDirectory, all));
    for (const InspectedRecord& record : all.records) {
      ASSERT_TRUE(record.valid);
      const uint64_t id = id_of(record.file);
      const std::string bytes = files_.content(path_of(record.file));
      const auto* at = reinterpret_cast<const uint8_t*>(bytes.data()) + record.offset;
      if (record.kind == "segment") {
        // The name shows that the header is durable, so the header claims only what precedes it.
        claims_.push_back({id, 0, sizeof(SegmentHeader), {id, 0}});
      } else if (record.kind == "batch" || record.kind == "seal") {
        const uint64_t durable = load_le<uint64_t>(at + sizeof(RecordHeader) + 8);
        claims_.push_back({id, record.offset, record.offset + record.bytes, {id, durable}});
      }
    }
  }
  // The model after the last batch that ends at or before `place`.
  const Model& model_at(Place place) const {
    const Model* found = &steps_.front().model;
    for (const Step& step : steps_) {
      if (step.end <= place) found = &step.model;
    }
    return *found;
  }
  Place highest_claim_without(Place damaged) const {
    Place highest;
    for (const Claim& claim : claims_) {
      const bool hit = claim.segment == damaged.segment && claim.from <= damaged.offset &&
                       damaged.offset < claim.to;
      if (!hit) highest = std::max(highest, claim.durable);
    }
    return highest;
  }

  FaultyFileSystem files_;
  std::vector<Step> steps_;
  std::vector<Claim> claims_;
};

TEST_F(LogDamageTest, CutAtEveryByte) {
  const auto names = segments();
  uint64_t with_warning = 0;
  for (size_t s = 0; s < names.size(); ++s) {
    const std::string whole = files_.content(path_of(names[s]));
    for (uint64_t cut = 0; cut < whole.size(); ++cut) {
      SCOPED_TRACE(fmt::format("{} cut at {}", names[s], cut));
      auto files = files_.clone(cut);
      for (size_t later = s + 1; later < names.size(); ++later) files->erase(path_of(names[later]));
      std::string bytes = whole;
      std::fill(bytes.begin() + static_cast<ptrdiff_t>(cut), bytes.end(), '\0');
      files->put(path_of(names[s]), bytes);

      // Zeros that were cut (padding) are not missed.
      const uint64_t missing = std::min(whole.find_first_not_of('\0', cut), whole.size());
      Model expected = model_at({id_of(names[s]), missing});
      Recovered recovered;
      auto log = Log::open(*files, kDirectory, {.segment_bytes = 4096}, {}, recovered);
      if (missing < sizeof(SegmentHeader)) {  // no crash leaves that
        ASSERT_FALSE(log);
        ASSERT_EQ(log.error().kind, ErrorKind::kCorrupt);
        continue;
      }
      ASSERT_TRUE(log) << log.error().text;
      ASSERT_TRUE(agrees(recovered, expected));
      ASSERT_TRUE(holds(**log, expected));
      // Bytes of an incomplete record remain: the warning names the indexes.
      const bool left = std::any_of(steps_.begin(), steps_.end(), [&](const Step& step) {
        return step.end == Place{id_of(names[s]), missing};
      });
      if (!recovered.warnings.empty()) {
        ++with_warning;
        ASSERT_FALSE(left);
        const std::string index = fmt::format("ends with index {}", expected.last());
        ASSERT_NE(recovered.warnings[0].find(index), std::string::npos) << recovered.warnings[0];
        ASSERT_NE(recovered.warnings[0].find(names[s]), std::string::npos);
      }
      if (cut % 8 != 0) continue;
      // It continues from there, and a crash does not change that.
      auto entries = make_entries(expected.last().value() + 1, 3, 50, 40);
      LogBatch batch{{Term(50), NodeId(1), Index(1)}, std::nullopt, entries};
      ASSERT_TRUE((*log)->append(std::span(&batch, 1)));
      expected.apply(batch);
      log->reset();
      files->crash({0, 0});
      log = Log::open(*files, kDirectory, {.segment_bytes = 4096}, {}, recovered);
      ASSERT_TRUE(log) << log.error().text;
      ASSERT_TRUE(agrees(recovered, expected));
      ASSERT_TRUE(holds(**log, expected));
      ASSERT_TRUE(recovered.warnings.empty()) << recovered.warnings[0];
    }
  }
  EXPECT_GT(with_warning, 5000u);
}

TEST_F(LogDamageTest, EveryFlippedByte) {
  uint64_t refused = 0;
  uint64_t cut = 0;
  for (const std::string& name : segments()) {
    const uint64_t size = files_.content(path_of(name)).size();
    for (uint64_t at = 0; at < size; ++at) {
      const Place place{id_of(name), at};
      const auto mask = static_cast<uint8_t>(1u << (at * 7 % 8));
      SCOPED_TRACE(fmt::format("{} flipped at {} with {}", name, at, mask));
      auto files = files_.clone(at);
      files->flip(path_of(name), at, mask);
      Recovered recovered;
      auto log = Log::open(*files, kDirectory, {.segment_bytes = 4096}, {}, recovered);
      // A header is durable before its file has a name.
      if (place < highest_claim_without(place) || at < sizeof(SegmentHeader)) {
        ASSERT_FALSE(log);
        ASSERT_EQ(log.error().kind, ErrorKind::kCorrupt);
        ASSERT_NE(log.error().text.find("connectctl inspect wal " + kDirectory), std::string::npos);
        ASSERT_NE(log.error().text.find("offset"), std::string::npos);
        ASSERT_NE(log.error().text.find("index"), std::string::npos);
        ++refused;
        continue;
      }
      ASSERT_TRUE(log) << log.error().text;
      ASSERT_EQ(recovered.warnings.size(), 1u);
      ASSERT_TRUE(agrees(recovered, model_at(place)));
      ASSERT_TRUE(holds(**log, model_at(place)));
      ++cut;
    }
  }
  EXPECT_GT(refused, 12'000u);
  EXPECT_GT(cut, 100u);
}

TEST_F(LogDamageTest, ShorterFileIsDamage) {
  for (const std::string& name : segments()) {
    const std::string whole = files_.content(path_of(name));
    for (uint64_t size = 0; size < whole.size(); size += size < 200 ? 1 : 61) {
      auto files = files_.clone(size);
      files->put(path_of(name), whole.substr(0, size));
      Recovered recovered;
      auto log = Log::open(*files, kDirectory, {.segment_bytes = 4096}, {}, recovered);
      ASSERT_FALSE(log) << name << " with " << size;
      ASSERT_EQ(log.error().kind, ErrorKind::kCorrupt);
      ASSERT_NE(log.error().text.find(name), std::string::npos) << log.error().text;
    }
  }
}

TEST_F(LogDamageTest, MissingSegmentIsDamage) {
  const auto names = segments();
  for (size_t s = 0; s + 1 < names.size(); ++s) {
    auto files = files_.clone(s);
    files->erase(path_of(names[s]));
    Recovered recovered;
    auto log = Log::open(*files, kDirectory, {.segment_bytes = 4096}, {}, recovered);
    ASSERT_FALSE(log) << names[s];
    ASSERT_EQ(log.error().kind, ErrorKind::kCorrupt) << log.error().text;
  }
}

// Also where no record is left that would show that it was in use.
TEST_F(LogDamageTest, LostContentOfTheLastSegmentIsDamage) {
  const auto names = segments();
  const std::string whole = files_.content(path_of(names.back()));
  const std::string contents[] = {std::string(whole.size(), '\0'),
                                  std::string(512, '\0') + whole.substr(512),
                                  files_.content(path_of(names.front()))};
  for (const std::string& content : contents) {
    auto files = files_.clone(1);
    files->put(path_of(names.back()), content);
    Recovered recovered;
    auto log = Log::open(*files, kDirectory, {.segment_bytes = 4096}, {}, recovered);
    ASSERT_FALSE(log);
    EXPECT_EQ(log.error().kind, ErrorKind::kCorrupt);
    EXPECT_TRUE(files->has(path_of(names.back()))) << "nothing is removed";
  }
}

TEST_F(LogDamageTest, SegmentInTheWrongPlaceIsDamage) {
  const auto names = segments();
  auto files = files_.clone(1);
  files->put(path_of(names[1]), files_.content(path_of(names[2])));
  Recovered recovered;
  auto log = Log::open(*files, kDirectory, {.segment_bytes = 4096}, {}, recovered);
  ASSERT_FALSE(log);
  EXPECT_EQ(log.error().kind, ErrorKind::kCorrupt);
}

// A block that was written to another place of the same file (catalogue row 64).
TEST_F(LogDamageTest, MisdirectedSectorsAreDamage) {
  const std::string name = segments().front();
  const std::string whole = files_.content(path_of(name));
  for (uint64_t from = 0; from < whole.size(); from += 512) {
    for (uint64_t to = 0; to < whole.size(); to += 512) {
      std::string bytes = whole;
      bytes.replace(to, 512, whole, from, 512);
      if (bytes == whole) continue;
      auto files = files_.clone(1);
      files->put(path_of(name), bytes);
      Recovered recovered;
      auto log = Log::open(*files, kDirectory, {.segment_bytes = 4096}, {}, recovered);
      ASSERT_FALSE(log) << from << " to " << to;
      ASSERT_EQ(log.error().kind, ErrorKind::kCorrupt);
    }
  }
}

TEST_F(LogDamageTest, ReadingFindsDamageToo) {
  Recovered recovered;
  auto log = Log::open(files_, kDirectory, {.segment_bytes = 4096}, {}, recovered);
  ASSERT_TRUE(log);
  const std::string name = segments().front();
  const std::string bytes = files_.content(path_of(name));
  files_.flip(path_of(name), bytes.find("1/1:"), 4);
  auto entries = (*log)->read(Index(1), Index(2), 1000);
  ASSERT_FALSE(entries);
  EXPECT_EQ(entries.error().kind, ErrorKind::kCorrupt);
  EXPECT_NE(entries.error().text.find(name), std::string::npos);
}

TEST_F(LogDamageTest, InspectionGoesOnBehindDamage) {
  const std::string name = segments().front();
  Collector whole;
  ASSERT_TRUE(inspect_log(files_, kDirectory, whole));
  const auto flipped = whole.records[4];
  files_.flip(path_of(name), flipped.offset + 20);
  Collector damaged;
  ASSERT_TRUE(inspect_log(files_, kDirectory, damaged));
  auto bad = std::find_if(damaged.records.begin(), damaged.records.end(),
                          [](const InspectedRecord& record) { return !record.valid; });
  ASSERT_NE(bad, damaged.records.end());
  EXPECT_EQ(bad->offset, flipped.offset);
  EXPECT_FALSE(bad->text.empty());
  EXPECT_EQ(damaged.records.back().offset, whole.records.back().offset);
}

TEST(LogFormatTest, NewerVersionOrAnotherGroupIsAMismatch) {
  for (uint64_t field : {offsetof(SegmentHeader, version), offsetof(SegmentHeader, group)}) {
    FaultyFileSystem files;
    Recovered recovered;
    { ASSERT_TRUE(Log::open(files, kDirectory, {.segment_bytes = 4096}, {}, recovered)); }
    const std::string path = kDirectory + "/0000000000000001.wal";
    std::string bytes = files.content(path);
    bytes[field] = static_cast<char>(bytes[field] + 1);
    SegmentHeader header;
    std::memcpy(&header, bytes.data(), sizeof header);
    header.checksum = struct_checksum(header, position_seed(1, 0));
    std::memcpy(bytes.data(), &header, sizeof header);
    files.put(path, bytes);
    auto log = Log::open(files, kDirectory, {.segment_bytes = 4096}, {}, recovered);
    ASSERT_FALSE(log);
    EXPECT_EQ(log.error().kind, ErrorKind::kNewerVersion);
  }
}

}  // namespace
}  // namespace connectd::storage
