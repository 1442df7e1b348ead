// A plugin's file that is changed after it was loaded.
#include "plugin/file_watch.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <string>
#include <thread>

#include "tests/unit/plugin/support.h"

namespace connectd::plugin {
namespace {

namespace fs = std::filesystem;
using std::chrono::milliseconds;

class FileWatchTest : public ::testing::Test {
 protected:
  FileWatchTest()
      : path_(fs::path(::testing::TempDir()) / ("watched-" + std::to_string(::getpid()) + ".so")) {
    install();
  }
  ~FileWatchTest() override { fs::remove(path_); }

  // Into the same file.
  void install() {
    std::ifstream from(build_path("plugins/libcounter.so"), std::ios::binary);
    std::ofstream(path_, std::ios::binary) << from.rdbuf();
  }
  static bool comes(const FileWatch& watch, std::string_view warning) {
    for (int i = 0; i < 2000 && watch.warning() != warning; ++i) {
      std::this_thread::sleep_for(milliseconds(5));
    }
    return watch.warning() == warning;
  }

  fs::path path_;
};

TEST_F(FileWatchTest, ChangesOfTheFileAreSeen) {
  auto plugin = Plugin::load(at(path_.string()));
  ASSERT_TRUE(plugin.has_value()) << plugin.error().text;
  FileWatch watch(**plugin, milliseconds(5));
  ASSERT_TRUE(watch.start().has_value());
  EXPECT_EQ(watch.warning(), "");
  std::ofstream(path_, std::ios::binary | std::ios::app) << "x";
  EXPECT_TRUE(comes(watch, "file changed since start")) << watch.warning();
  // The same bytes again, with another time.
  install();
  EXPECT_TRUE(comes(watch, "")) << watch.warning();
  fs::remove(path_);
  EXPECT_TRUE(comes(watch, "file removed since start")) << watch.warning();
  install();
  EXPECT_TRUE(comes(watch, "")) << watch.warning();
}

TEST_F(FileWatchTest, ReinstalledFileIsTheSame) {
  auto plugin = Plugin::load(at(path_.string()));
  ASSERT_TRUE(plugin.has_value()) << plugin.error().text;
  FileWatch watch(**plugin, milliseconds(5));
  ASSERT_TRUE(watch.start().has_value());
  fs::copy_file(build_path("plugins/libcounter.so"), path_.string() + ".new");
  fs::rename(path_.string() + ".new", path_);
  std::this_thread::sleep_for(milliseconds(100));
  EXPECT_EQ(watch.warning(), "");
}

TEST_F(FileWatchTest, BuiltInPluginHasNoFile) {
  auto loaded = Plugin::load(at(path_.string()));
  ASSERT_TRUE(loaded.has_value()) << loaded.error().text;
  auto plugin = Plugin::wrap(&(*loaded)->table());
  ASSERT_TRUE(plugin.has_value());
  FileWatch watch(**plugin, milliseconds(5));
  ASSERT_TRUE(watch.start().has_value());
  std::this_thread::sleep_for(milliseconds(50));
  EXPECT_EQ(watch.warning(), "");
}

}  // namespace
}  // namespace connectd::plugin
