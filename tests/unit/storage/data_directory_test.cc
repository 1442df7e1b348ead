// What is in a data directory before its node uses it: what is missing, unfinished, or of nobody.
#include "storage/data_directory.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "sim/faulty_file_system.h"

namespace connectd::storage {
namespace {

using sim::FaultyFileSystem;
using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr const char* kSegment = "/data/log/0000000000000001.wal";
constexpr const char* kSnapshot = "/data/snapshots/0000000000000009-0000000000000001.snapshot";

class DataDirectory : public ::testing::Test {
 protected:
  void SetUp() override {
    for (const char* part : {"/data", "/data/log", "/data/snapshots"}) {
      ASSERT_TRUE(files.make_directory(part));
    }
  }
  void save(bool in_cluster, bool log_begun) {
    Identity identity;
    identity.node_id = NodeId(3);
    identity.disk_id.bytes.fill(1);
    if (in_cluster) identity.genesis = "genesis";
    identity.log_begun = log_begun;
    ASSERT_TRUE(save_identity(files, "/data", identity));
  }
  // Empty: a start may go on.
  std::string problem() {
    auto found = examine_directory(files, "/data", NodeId(3));
    if (found) return {};
    EXPECT_EQ(found.error().kind, ErrorKind::kCorrupt);
    return found.error().text;
  }

  FaultyFileSystem files;
};

TEST_F(DataDirectory, UnusedOneHasNoIdentity) {
  files.put("/data/notes", "of the operator");
  ASSERT_TRUE(files.make_directory("/data/lost+found"));
  auto found = examine_directory(files, "/data", NodeId(3));
  ASSERT_TRUE(found) << found.error().text;
  EXPECT_FALSE(*found);
  auto none = examine_directory(files, "/nowhere", NodeId(3));
  ASSERT_TRUE(none) << none.error().text;
  EXPECT_FALSE(*none);
}

TEST_F(DataDirectory, UsedOneHasItsIdentity) {
  save(false, false);
  EXPECT_EQ(problem(), "");
  save(true, false);
  EXPECT_EQ(problem(), "") << "killed before the log began";
  files.put(kSegment, "x");
  EXPECT_EQ(problem(), "") << "killed before the identity says that it began";
  save(true, true);
  EXPECT_EQ(problem(), "");
}

TEST_F(DataDirectory, LogWithoutIdentityIsRefused) {
  for (const char* path : {kSegment, kSnapshot}) {
    files.put(path, "x");
    const auto names = files.names("/data");
    EXPECT_THAT(problem(),
                AllOf(HasSubstr("/data/identity is missing"), HasSubstr("member replace 3"),
                      HasSubstr("snapshot restore FILE --config CONFIG")));
    auto opened = open_identity(files, "/data", NodeId(3), DiskId{{1}});
    ASSERT_FALSE(opened);
    EXPECT_EQ(files.names("/data"), names) << "nothing is written";
    files.erase(path);
  }
  EXPECT_EQ(problem(), "");
}

TEST_F(DataDirectory, LogBesideAnIdentityOfNoClusterIsRefused) {
  save(false, false);
  files.put(kSegment, "x");
  EXPECT_THAT(problem(), HasSubstr("belongs to no cluster"));
}

TEST_F(DataDirectory, LostLogIsRefused) {
  save(true, true);
  EXPECT_THAT(problem(), AllOf(HasSubstr("the log is empty, though this node has run before"),
                               HasSubstr("member replace 3")));
  files.put(kSnapshot, "x");
  files.put("/data/log/spare", "x");
  EXPECT_THAT(problem(), HasSubstr("the log is empty"));
}

TEST_F(DataDirectory, DamagedIdentityNamesTheCommand) {
  files.put("/data/identity", "x");
  EXPECT_THAT(problem(), AllOf(HasSubstr("is too short"), HasSubstr("member replace 3")));
  files.put("/data/identity", std::string(2 << 20, 'x'));
  EXPECT_THAT(problem(), AllOf(HasSubstr("more than the limit"), HasSubstr("member replace 3")));
}

TEST_F(DataDirectory, UnfinishedRestoreIsRefused) {
  save(true, true);
  files.put(kSegment, "x");
  for (const char* marker : {"/data/restore.incomplete", "/data/restore.incomplete.tmp"}) {
    files.put(marker, "");
    EXPECT_THAT(problem(), AllOf(HasSubstr("unfinished restore"),
                                 HasSubstr("connectctl snapshot restore FILE")));
    files.erase(marker);
  }
  EXPECT_EQ(problem(), "");
}

TEST_F(DataDirectory, RestoreMayFindLocksOnly) {
  FaultyFileSystem empty;
  ASSERT_TRUE(empty.make_directory("/data"));
  ASSERT_TRUE(empty.make_directory("/data/lost+found"));
  empty.put("/data/lock", "");
  empty.put("/data/restore.incomplete.tmp", "");
  EXPECT_TRUE(check_free_for_restore(empty, "/data"));
  empty.put("/data/identity", "x");
  auto taken = check_free_for_restore(empty, "/data");
  ASSERT_FALSE(taken);
  EXPECT_EQ(taken.error().kind, ErrorKind::kExists);
  EXPECT_THAT(taken.error().text, HasSubstr("it has 'identity'"));
}

TEST_F(DataDirectory, OnlyFilesOfARestoreAreRemoved) {
  save(true, true);
  files.put(kSegment, "x");
  files.put(kSnapshot, "x");
  files.put("/data/lock", "");
  files.put("/data/restore.incomplete", "");
  EXPECT_TRUE(check_free_for_restore(files, "/data"));
  ASSERT_TRUE(remove_unfinished_restore(files, "/data"));
  EXPECT_FALSE(files.has("/data/identity"));
  EXPECT_FALSE(files.has(kSegment));
  EXPECT_FALSE(files.has(kSnapshot));
  EXPECT_TRUE(files.has("/data/lock"));
  EXPECT_TRUE(files.has("/data/restore.incomplete"));
  files.put("/data/notes", "of the operator");
  EXPECT_FALSE(check_free_for_restore(files, "/data"));
}

}  // namespace
}  // namespace connectd::storage
