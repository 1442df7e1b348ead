// Who could exchange a plugin's file. The tests run as root, or as who owns what they make.
#include "plugin/changeable.h"

#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <string>

namespace connectd::plugin {
namespace {

namespace fs = std::filesystem;

// Root's on every Debian, and no link on the way to it.
const std::string kSafe = "/usr/lib/os-release";

class ChangeableTest : public testing::Test {
 protected:
  ChangeableTest() {
    std::string name = (fs::temp_directory_path() / "changeable-XXXXXX").string();
    if (mkdtemp(name.data()) == nullptr) ADD_FAILURE() << "mkdtemp";
    folder_ = fs::canonical(name).string();
    ::chmod(folder_.c_str(), 0777);
  }
  ~ChangeableTest() override {
    std::error_code ignored;
    fs::remove_all(folder_, ignored);
  }
  std::string file(const std::string& name, mode_t mode) {
    const std::string path = folder_ + "/" + name;
    std::ofstream(path) << "x";
    ::chmod(path.c_str(), mode);
    return path;
  }

  std::string folder_;
};

TEST_F(ChangeableTest, WhatBelongsToRootIsSafe) {
  if (::access(kSafe.c_str(), F_OK) != 0) GTEST_SKIP() << kSafe << " is not there";
  EXPECT_EQ(changeable_part(kSafe), "");
  EXPECT_EQ(changeable_part("/usr/lib/../lib/./os-release"), "");
  EXPECT_EQ(changeable_part("/etc/os-release"), "") << "a link of root's";
}

TEST_F(ChangeableTest, WritableFileIsNamed) {
  const std::string path = file("a.so", 0666);
  EXPECT_EQ(changeable_part(path), path);
}

// Its owner could give itself the right; for root the folder is the one that others may write.
TEST_F(ChangeableTest, OwnFileIsNamedOrItsFolder) {
  const std::string path = file("a.so", 0444);
  EXPECT_EQ(changeable_part(path), ::geteuid() == 0 ? folder_ : path);
}

TEST_F(ChangeableTest, LinksAreFollowedStepByStep) {
  const std::string one = folder_ + "/one.so";
  fs::create_symlink(kSafe, one);
  EXPECT_EQ(changeable_part(one), folder_) << "whoever owns the folder replaces the link";
  fs::create_directory(folder_ + "/inner");
  ::chmod((folder_ + "/inner").c_str(), 0755);
  const std::string target = file("b.so", 0666);
  fs::create_symlink("../b.so", folder_ + "/inner/two.so");
  EXPECT_EQ(changeable_part(folder_ + "/inner/two.so"), folder_ + "/inner/two.so")
      << "the target may be written";
}

// Behind a link, ".." is above the link's target. Not below /tmp, where others may write.
TEST_F(ChangeableTest, UpwardsBehindALinkIsFollowed) {
  const fs::path base = fs::current_path() / ("changeable-" + std::to_string(::getpid()));
  fs::create_directories(base / "bad/sub");
  fs::create_directory(base / "safe");
  for (const char* folder : {"", "bad", "bad/sub", "safe"}) ::chmod((base / folder).c_str(), 0755);
  std::ofstream(base / "bad/c.so") << "x";
  ::chmod((base / "bad/c.so").c_str(), 0644);
  fs::create_symlink("../bad/sub", base / "safe/link");
  fs::create_symlink("link/../c.so", base / "safe/l.so");
  const std::string before = changeable_part((base / "safe/l.so").string());
  ::chmod((base / "bad").c_str(), 0777);
  const std::string found = changeable_part((base / "safe/l.so").string());
  std::error_code ignored;
  const fs::path physical = fs::canonical(found, ignored);
  fs::remove_all(base, ignored);
  if (!before.empty()) GTEST_SKIP() << before << " may be changed anyway";
  EXPECT_EQ(physical, base / "bad");
}

TEST_F(ChangeableTest, LinksInACircleEnd) {
  fs::create_symlink("b.so", folder_ + "/a.so");
  fs::create_symlink("a.so", folder_ + "/b.so");
  EXPECT_EQ(changeable_part(folder_ + "/a.so"), folder_);
  EXPECT_EQ(changeable_part(folder_ + "/nothing.so"), folder_);
}

}  // namespace
}  // namespace connectd::plugin
