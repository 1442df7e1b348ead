// What root makes in another user's directory.
#include "base/owner.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
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
  std::string home = ::testing::TempDir() + "owner-XXXXXX";
  ASSERT_NE(::mkdtemp(home.data()), nullptr);
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

// A directory of the service's user, who exchanges what is in it meanwhile, and one of root.
class KeepOwnerAttacked : public ::testing::Test {
 protected:
  void SetUp() override {
    if (::geteuid() != 0) GTEST_SKIP() << "only root can give files away";
    top = ::testing::TempDir() + "owner-XXXXXX";
    ASSERT_NE(::mkdtemp(top.data()), nullptr);
    home = top + "/home";
    roots = top + "/etc";
    std::filesystem::create_directory(home);
    std::filesystem::create_directory(roots);
    write(roots + "/shadow");
    ASSERT_EQ(::chown(home.c_str(), kOther, kOther), 0);
  }
  void TearDown() override {
    if (!top.empty()) std::filesystem::remove_all(top);
  }
  static void write(const std::string& path) { std::ofstream(path) << "x"; }

  std::string top;
  std::string home;
  std::string roots;
};

TEST_F(KeepOwnerAttacked, LinksAreNotFollowed) {
  const KeepOwner owner(home + "/state");
  std::filesystem::create_directory_symlink(roots, home + "/state");
  EXPECT_EQ(owner.give_back(), "");
  EXPECT_EQ(owner_of(roots + "/shadow"), 0u);
  EXPECT_EQ(owner_of(home + "/state"), 0u);

  const KeepOwner inside(home);
  std::filesystem::create_directory_symlink(roots, home + "/directory");
  std::filesystem::create_symlink(roots + "/shadow", home + "/file");
  std::filesystem::create_hard_link(roots + "/shadow", home + "/second-name");
  EXPECT_EQ(inside.give_back(), "");
  EXPECT_EQ(owner_of(roots + "/shadow"), 0u);
  for (const char* link : {"/directory", "/file"}) EXPECT_EQ(owner_of(home + link), 0u) << link;
}

TEST_F(KeepOwnerAttacked, OnlyWhatIsNewIsGivenBack) {
  std::filesystem::create_directory(home + "/lost+found");
  write(home + "/lost+found/1");
  write(home + "/notes");
  const KeepOwner owner(home);
  write(home + "/lost+found/2");
  write(home + "/lock");
  EXPECT_EQ(owner.give_back(), "");
  for (const char* old : {"/lost+found", "/lost+found/1", "/notes"}) {
    EXPECT_EQ(owner_of(home + old), 0u) << old;
  }
  for (const char* made : {"/lost+found/2", "/lock"}) {
    EXPECT_EQ(owner_of(home + made), kOther) << made;
  }
}

TEST_F(KeepOwnerAttacked, DirectoryThatCannotBeReadIsNamed) {
  const KeepOwner owner(home);
  write(home + "/lock");
  rlimit before{};
  ASSERT_EQ(::getrlimit(RLIMIT_NOFILE, &before), 0);
  const rlimit none{0, before.rlim_max};
  ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &none), 0);
  const std::string problem = owner.give_back();
  ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &before), 0);
  EXPECT_THAT(problem, ::testing::HasSubstr("cannot read directory " + home));
  EXPECT_EQ(owner.give_back(), "");
  EXPECT_EQ(owner_of(home + "/lock"), kOther);
}

}  // namespace
}  // namespace connectd
