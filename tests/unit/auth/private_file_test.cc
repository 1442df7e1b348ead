#include "auth/private_file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>
#include <fstream>
#include <vector>

#include "base/bytes.h"

namespace connectd::auth {
namespace {

using ::testing::HasSubstr;

class PrivateFileTest : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = ::testing::TempDir() + "connectd-private-XXXXXX";
    ASSERT_NE(mkdtemp(pattern.data()), nullptr);
    directory_ = pattern;
    path_ = directory_ + "/secret";
    std::ofstream(path_) << "hello";
    ASSERT_EQ(::chmod(path_.c_str(), 0600), 0);
  }
  void TearDown() override { std::filesystem::remove_all(directory_); }

  std::string directory_;
  std::string path_;
};

TEST_F(PrivateFileTest, OnlyTheOwnerMayReadOrChangeIt) {
  for (const mode_t mode : {0400U, 0600U, 0700U, 0500U}) {
    ASSERT_EQ(::chmod(path_.c_str(), mode), 0);
    auto content = read_private_file(path_, 100);
    ASSERT_TRUE(content) << content.error().text;
    EXPECT_EQ(*content, "hello");
  }
  for (const mode_t mode : {0640U, 0604U, 0620U, 0602U, 0644U, 0666U}) {
    ASSERT_EQ(::chmod(path_.c_str(), mode), 0);
    auto content = read_private_file(path_, 100);
    ASSERT_FALSE(content) << mode;
    EXPECT_EQ(content.error().kind, ErrorKind::kPermission);
    EXPECT_THAT(content.error().text, HasSubstr("chmod 600 " + path_));
  }
}

// {tag, permissions, id} of an access control list, as Linux stores them.
struct AclEntry {
  uint16_t tag;
  uint16_t permissions;
  uint32_t id;
};
bool set_acl(const std::string& path, const std::vector<AclEntry>& entries) {
  std::string bytes;
  ByteWriter writer(bytes);
  writer.number<uint32_t>(2);
  for (const AclEntry& entry : entries) {
    writer.number(entry.tag);
    writer.number(entry.permissions);
    writer.number(entry.id);
  }
  return ::setxattr(path.c_str(), "system.posix_acl_access", bytes.data(), bytes.size(), 0) == 0;
}

TEST_F(PrivateFileTest, AListForTheUserItselfIsGood) {
  constexpr uint32_t kNoId = 0xffffffff;
  auto list = [](uint32_t user, uint16_t group, uint16_t other) {
    return std::vector<AclEntry>{{0x01, 4, kNoId},
                                 {0x02, 4, user},
                                 {0x04, group, kNoId},
                                 {0x10, 4, kNoId},
                                 {0x20, other, kNoId}};
  };
  // As systemd gives a service its credentials: the mode shows 0440.
  if (!set_acl(path_, list(::geteuid(), 0, 0))) GTEST_SKIP() << "no lists here: " << errno;
  struct stat info {};
  ASSERT_EQ(::stat(path_.c_str(), &info), 0);
  ASSERT_EQ(info.st_mode & 0777, 0440u);
  EXPECT_TRUE(read_private_file(path_, 100));
  for (const auto& open : {list(12345, 0, 0), list(::geteuid(), 4, 0), list(::geteuid(), 0, 4)}) {
    ASSERT_TRUE(set_acl(path_, open));
    auto content = read_private_file(path_, 100);
    ASSERT_FALSE(content);
    EXPECT_EQ(content.error().kind, ErrorKind::kPermission);
  }
}

TEST_F(PrivateFileTest, OtherFilesAreRefused) {
  EXPECT_EQ(read_private_file(directory_ + "/none", 100).error().kind, ErrorKind::kNotFound);
  EXPECT_EQ(read_private_file(directory_, 100).error().kind, ErrorKind::kBadConfig);
  const std::string pipe = directory_ + "/pipe";
  ASSERT_EQ(::mkfifo(pipe.c_str(), 0600), 0);
  EXPECT_EQ(read_private_file(pipe, 100).error().kind, ErrorKind::kBadConfig);
  EXPECT_TRUE(read_private_file(path_, 5));
  EXPECT_THAT(read_private_file(path_, 4).error().text, HasSubstr("at most 4 bytes"));
}

TEST_F(PrivateFileTest, ReplacedFilesArePrivate) {
  ASSERT_EQ(::chmod(path_.c_str(), 0644), 0);
  ASSERT_TRUE(replace_private_file(path_, "new"));
  auto content = read_private_file(path_, 100);
  ASSERT_TRUE(content) << content.error().text;
  EXPECT_EQ(*content, "new");
  ASSERT_TRUE(replace_private_file(directory_ + "/second", "2"));
  EXPECT_EQ(*read_private_file(directory_ + "/second", 100), "2");
}

TEST_F(PrivateFileTest, TheOwnerStays) {
  if (::geteuid() != 0) GTEST_SKIP() << "only root can give files away";
  ASSERT_EQ(::chown(path_.c_str(), 12345, 12345), 0);
  ASSERT_TRUE(replace_private_file(path_, "new"));
  struct stat info {};
  ASSERT_EQ(::stat(path_.c_str(), &info), 0);
  EXPECT_EQ(info.st_uid, 12345u);
  EXPECT_EQ(info.st_gid, 12345u);
}

}  // namespace
}  // namespace connectd::auth
