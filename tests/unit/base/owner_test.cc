// What root makes in another user's directory.
#include "base/owner.h"

#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>

namespace connectd {
namespace {

constexpr uid_t kOther = 65534;

uid_t owner_of(const std::string& path) {
  struct stat status {};
  EXPECT_EQ(::lstat(path.c_str(), &status), 0) << path;
  return status.st_uid;
}

TEST(KeepOwner, FilesOfRootGoToTheDirectorysOwner) {
  if (::geteuid() != 0) GTEST_SKIP() << "only root can give files away";
  char name[] = "/tmp/connectd-owner-XXXXXX";
  ASSERT_NE(::mkdtemp(name), nullptr);
  const std::string home = name;
  ASSERT_EQ(::chown(home.c_str(), kOther, kOther), 0);
  const std::string dir = home + "/state/node/";
  const KeepOwner owner(dir);
  EXPECT_EQ(owner.owner(), user_name(kOther));
  std::filesystem::create_directories(dir + "snapshots");
  std::ofstream(dir + "lock") << "x";
  std::ofstream(dir + "snapshots/1") << "x";
  std::ofstream(dir + "of-somebody-else") << "x";
  ASSERT_EQ(::chown((dir + "of-somebody-else").c_str(), 12345, 12345), 0);
  EXPECT_EQ(owner.give_back(), "");
  for (const char* path : {"/state", "/state/node", "/state/node/lock", "/state/node/snapshots",
                           "/state/node/snapshots/1"}) {
    EXPECT_EQ(owner_of(home + path), kOther) << path;
  }
  EXPECT_EQ(owner_of(dir + "of-somebody-else"), 12345u);

  // A directory of root stays one.
  ASSERT_EQ(::chown(home.c_str(), 0, 0), 0);
  const KeepOwner own(home + "/other");
  EXPECT_EQ(own.owner(), "");
  std::filesystem::create_directories(home + "/other");
  EXPECT_EQ(own.give_back(), "");
  EXPECT_EQ(owner_of(home + "/other"), 0u);
  std::filesystem::remove_all(home);
}

}  // namespace
}  // namespace connectd
