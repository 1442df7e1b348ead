#include <sys/stat.h>

#include <boost/json.hpp>
#include <fstream>

#include "node/apply/replicated_state.h"
#include "storage/file_system.h"
#include "storage/identity.h"
#include "storage/log.h"
#include "storage/snapshot_store.h"
#include "support.h"

namespace connectd::ctl {
namespace {

namespace json = boost::json;
using ::testing::HasSubstr;

// A data directory as a node leaves it.
class InspectTest : public ::testing::Test {
 protected:
  void SetUp() override {
    files_ = storage::make_real_file_system();
    storage::Identity identity;
    identity.node_id = NodeId(2);
    identity.disk_id.bytes[0] = 0xaa;
    identity.cluster_id.bytes[0] = 0xbb;
    identity.genesis = "founding document";
    ASSERT_TRUE(storage::save_identity(*files_, directory_.path(), identity));

    storage::Recovered recovered;
    storage::LogOptions options;
    options.segment_bytes = 1 << 20;
    auto log = storage::Log::open(*files_, directory_.path("log"), options, {}, recovered);
    ASSERT_TRUE(log) << log.error().text;
    raft::Entry entry;
    entry.index = Index(1);
    entry.term = Term(1);
    entry.kind = raft::EntryKind::kCommand;
    entry.payload = Slice::copy_of("incr");
    entry.checksum = raft::entry_checksum(entry);
    storage::LogBatch batch;
    batch.hard_state.term = Term(1);
    batch.entries = {&entry, 1};
    ASSERT_TRUE((*log)->append({&batch, 1}));

    auto store = storage::SnapshotStore::open(*files_, directory_.path("snapshots"), {});
    ASSERT_TRUE(store);
    auto writer = (*store)->begin({Index(1), Term(1)}, as_bytes("metadata"));
    ASSERT_TRUE(writer);
    ASSERT_TRUE((*writer)->write(as_bytes("state of the plugin")));
    ASSERT_TRUE((*writer)->finish());
  }
  std::string only_file(const std::string& part) {
    for (const auto& entry : std::filesystem::directory_iterator(directory_.path(part))) {
      if (entry.is_regular_file()) return entry.path().string();
    }
    ADD_FAILURE() << part << " is empty";
    return "";
  }
  // Turns one bit of the file.
  static void damage(const std::string& file, std::streamoff offset) {
    std::fstream stream(file, std::ios::binary | std::ios::in | std::ios::out);
    stream.seekg(offset);
    char byte = static_cast<char>(stream.get() ^ 1);
    stream.seekp(offset);
    stream.put(byte);
  }

  TemporaryDirectory directory_;
  std::unique_ptr<storage::FileSystem> files_;
};

TEST_F(InspectTest, Identity) {
  Outcome outcome = connectctl({"inspect", "identity", directory_.path()});
  EXPECT_EQ(outcome.code, ExitCode::kOk) << outcome.err;
  EXPECT_EQ(outcome.out,
            "node     2\n"
            "disk     aa000000000000000000000000000000\n"
            "cluster  bb000000000000000000000000000000\n"
            "genesis  17 bytes\n");
  Outcome as_json = connectctl({"inspect", "identity", directory_.path(), "-o", "json"});
  EXPECT_EQ(json::parse(as_json.out).as_object()["node_id"].to_number<int>(), 2);
  damage(directory_.path("identity"), 20);
  EXPECT_EQ(connectctl({"inspect", "identity", directory_.path()}).code, ExitCode::kData);
}

TEST_F(InspectTest, Log) {
  for (const std::string& directory : {directory_.path(), directory_.path("log")}) {
    Outcome outcome = connectctl({"inspect", "wal", directory});
    EXPECT_EQ(outcome.code, ExitCode::kOk) << outcome.err;
    for (const char* kind : {" segment ", " batch ", " entry "}) {
      EXPECT_THAT(outcome.out, HasSubstr(kind));
    }
    EXPECT_THAT(outcome.err, HasSubstr(" 0 invalid"));
  }
  Outcome as_json = connectctl({"inspect", "wal", directory_.path(), "-o", "json"});
  std::istringstream lines(as_json.out);
  int entries = 0;
  for (std::string line; std::getline(lines, line);) {
    json::object object = json::parse(line).as_object();
    if (object["kind"].as_string() == "entry") ++entries;
    EXPECT_TRUE(object["valid"].as_bool());
  }
  EXPECT_EQ(entries, 1);
  damage(only_file("log"), 200);  // in the first record
  Outcome damaged = connectctl({"inspect", "wal", directory_.path()});
  EXPECT_EQ(damaged.code, ExitCode::kNegative);
  EXPECT_THAT(damaged.out, HasSubstr("INVALID"));
}

TEST_F(InspectTest, Snapshot) {
  for (const std::string& what :
       {directory_.path(), directory_.path("snapshots"), only_file("snapshots")}) {
    Outcome outcome = connectctl({"inspect", "snapshot", what});
    EXPECT_EQ(outcome.code, ExitCode::kOk) << outcome.err;
    EXPECT_THAT(outcome.out, HasSubstr(".snapshot  1      1"));
    EXPECT_THAT(outcome.out, HasSubstr("valid"));
  }
  Outcome as_json = connectctl({"inspect", "snapshot", directory_.path(), "-o", "json"});
  json::object object = json::parse(as_json.out).as_object();
  EXPECT_EQ(object["stream_bytes"].to_number<int>(), 19);
  EXPECT_EQ(object["metadata_bytes"].to_number<int>(), 8);
  damage(only_file("snapshots"), 40);
  Outcome damaged = connectctl({"inspect", "snapshot", directory_.path()});
  EXPECT_EQ(damaged.code, ExitCode::kNegative);
  EXPECT_THAT(damaged.out, HasSubstr("DAMAGED"));
}

TEST(Inspect, OtherDirectoriesAreRefused) {
  TemporaryDirectory empty;
  for (const char* part : {"wal", "snapshot", "identity"}) {
    Outcome outcome = connectctl({"inspect", part, empty.path()});
    EXPECT_EQ(outcome.code, ExitCode::kNoInput) << part;
    EXPECT_THAT(outcome.err, HasSubstr("it is not a data directory"));
  }
  EXPECT_EQ(connectctl({"inspect", "wal", "/nonexistent"}).code, ExitCode::kNoInput);
}

// What a newer version wrote is no damage.
TEST_F(InspectTest, LogOfNewerVersion) {
  {
    storage::Recovered recovered;
    auto log = storage::Log::open(*files_, directory_.path("log"), {.segment_bytes = 1 << 20}, {},
                                  recovered);
    ASSERT_TRUE(log) << log.error().text;
    raft::Entry entry;
    entry.index = Index(2);
    entry.term = Term(1);
    entry.kind = static_cast<raft::EntryKind>(250);
    entry.checksum = raft::entry_checksum(entry);
    storage::LogBatch batch;
    batch.hard_state.term = Term(1);
    batch.entries = {&entry, 1};
    ASSERT_TRUE((*log)->append({&batch, 1}));
  }
  Outcome outcome = connectctl({"inspect", "wal", directory_.path()});
  EXPECT_EQ(outcome.code, ExitCode::kMismatch);
  EXPECT_THAT(outcome.out, HasSubstr(" newer "));
  EXPECT_THAT(outcome.out, HasSubstr("an entry with kind 250"));
  EXPECT_THAT(outcome.err, HasSubstr("0 invalid"));
  EXPECT_THAT(outcome.err, HasSubstr("a newer connectd wrote"));
}

// It made the first directory, and the second one has too long a name.
TEST(SnapshotRestore, FailedOneLeavesNothingOfRoot) {
  if (::geteuid() != 0) GTEST_SKIP() << "only root can give files away";
  constexpr uid_t kOther = 65534;
  TemporaryDirectory directory;
  ASSERT_EQ(::chown(directory.path().c_str(), kOther, kOther), 0);
  auto files = storage::make_real_file_system();
  node::ReplicatedState state;
  state.genesis.cluster_id.bytes[0] = 1;
  state.genesis.cluster_name = "old";
  state.genesis.max_request = 64;
  state.genesis.plugin_name = "counter";
  state.genesis.plugin_level = 1;
  state.genesis.members.push_back({NodeId(1), DiskId(), "h:1", "h:2", "h:3"});
  state.conf = state.genesis.conf();
  state.members = node::MemberList::of(state.genesis);
  state.applied = Index(5);
  state.applied_term = Term(1);
  auto store = storage::SnapshotStore::open(*files, directory.path("backups"), {});
  ASSERT_TRUE(store);
  auto writer = (*store)->begin({Index(5), Term(1)}, as_bytes(state.encode()));
  ASSERT_TRUE(writer);
  auto info = (*writer)->finish();
  ASSERT_TRUE(info);

  const Outcome restored =
      connectctl({"snapshot", "restore", directory.path("backups/" + info->name), "--data-dir",
                  directory.path("home/" + std::string(300, 'x')), "--peer", "h:1", "--client",
                  "h:2", "--http", "h:3"});
  EXPECT_NE(restored.code, ExitCode::kOk);
  EXPECT_THAT(restored.err, HasSubstr("cannot create directory"));
  struct stat status {};
  ASSERT_EQ(::lstat(directory.path("home").c_str(), &status), 0);
  EXPECT_EQ(status.st_uid, kOther);
}

}  // namespace
}  // namespace connectd::ctl
