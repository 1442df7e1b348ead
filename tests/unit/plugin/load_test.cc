// Where a plugin is searched, and the pin on its bytes.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>

#include "base/sha256.h"
#include "plugin/plugin.h"
#include "tests/unit/plugin/support.h"

namespace connectd::plugin {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;
using ::testing::Not;

class Load : public ::testing::Test {
 protected:
  Load() : dir_(fs::path(::testing::TempDir()) / ("connectd-load-" + std::to_string(::getpid()))) {
    fs::create_directories(dir_ / "config/plugins");
    fs::create_directories(dir_ / "first");
    fs::create_directories(dir_ / "second");
  }
  ~Load() override { fs::remove_all(dir_); }

  // A copy of the counter; the path is relative to the test's directory.
  std::string install(const std::string& path) {
    fs::copy_file(build_path("plugins/libcounter.so"), dir_ / path,
                  fs::copy_options::overwrite_existing);
    return (dir_ / path).string();
  }
  LoadOptions options(const std::string& path) {
    return {.path = path,
            .dirs = {(dir_ / "first").string(), (dir_ / "second").string()},
            .sha256 = {},
            .config_dir = (dir_ / "config").string()};
  }
  std::string found(const LoadOptions& options) {
    auto plugin = Plugin::load(options);
    return plugin ? (*plugin)->path() : "!" + plugin.error().text;
  }

  fs::path dir_;
};

TEST_F(Load, AbsolutePathIsNotSearched) {
  std::string path = install("first/libcounter.so");
  auto plugin = Plugin::load(options(path));
  ASSERT_TRUE(plugin.has_value()) << plugin.error().text;
  EXPECT_STREQ((*plugin)->name(), "counter");
  EXPECT_STREQ((*plugin)->version(), "1.0.0");
  EXPECT_EQ((*plugin)->abi(), "1.0");
  EXPECT_EQ((*plugin)->path(), path);
  EXPECT_EQ((*plugin)->framing(), static_cast<uint32_t>(CONNECTD_FRAMING_LINE));
  EXPECT_TRUE((*plugin)->has_flag(CONNECTD_F_CANONICAL_SNAPSHOT));
  EXPECT_FALSE((*plugin)->has_flag(CONNECTD_F_READ_SHARED));
  EXPECT_EQ((*plugin)->timers(), nullptr);
}

TEST_F(Load, SearchesConfigDirectoryThenDirs) {
  std::string second = install("second/libcounter.so");
  EXPECT_EQ(found(options("libcounter.so")), second);
  std::string first = install("first/libcounter.so");
  EXPECT_EQ(found(options("libcounter.so")), first);
  std::string beside = install("config/libcounter.so");
  EXPECT_EQ(found(options("libcounter.so")), beside);
}

TEST_F(Load, PathWithSlashIsNotSearched) {
  std::string path = install("config/plugins/libcounter.so");
  EXPECT_EQ(found(options("plugins/libcounter.so")), path);
  EXPECT_EQ(found(options("./plugins/../plugins/libcounter.so")), path);
  install("first/libcounter.so");
  EXPECT_THAT(found(options("./libcounter.so")), HasSubstr("not found"));
}

// Never the system's library path: dlopen would look there for a name without a slash.
TEST_F(Load, NoConfigDirectoryUsesWorkingDirectory) {
  fs::path before = fs::current_path();
  fs::current_path(dir_ / "first");
  install("first/libcounter.so");
  LoadOptions here = at("libcounter.so");
  std::string path = found(here);
  here.path = "libm.so.6";
  std::string system = found(here);
  fs::current_path(before);
  EXPECT_EQ(path, (dir_ / "first/libcounter.so").string());
  EXPECT_THAT(system, HasSubstr("not found"));
}

TEST_F(Load, NotFoundListsAvailablePlugins) {
  install("second/libcounter.so");
  install("first/libkv.so");
  auto plugin = Plugin::load(options("libcountr.so"));
  ASSERT_FALSE(plugin.has_value());
  EXPECT_EQ(plugin.error().kind, ErrorKind::kNotFound);
  EXPECT_THAT(plugin.error().text,
              HasSubstr("'libcountr.so' not found in " + (dir_ / "config").string() + ", "));
  EXPECT_THAT(plugin.error().text, HasSubstr("found there: libcounter.so, libkv.so;"));
  EXPECT_THAT(plugin.error().text, HasSubstr("plugin.dirs"));
}

TEST_F(Load, MissingPathIsReported) {
  auto plugin = Plugin::load(options(""));
  ASSERT_FALSE(plugin.has_value());
  EXPECT_EQ(plugin.error().kind, ErrorKind::kBadConfig);
}

TEST_F(Load, ListOfPluginsIsBounded) {
  for (int i = 0; i < 50; ++i) std::ofstream(dir_ / ("first/lib" + std::to_string(i) + ".so"));
  auto plugin = Plugin::load(options("libcountr.so"));
  ASSERT_FALSE(plugin.has_value());
  EXPECT_THAT(plugin.error().text, HasSubstr("and 30 more"));
}

TEST_F(Load, MatchingHashLoadsInEitherCase) {
  LoadOptions pinned = options(install("first/libcounter.so"));
  std::ifstream in(pinned.path, std::ios::binary);
  std::stringstream bytes;
  bytes << in.rdbuf();
  pinned.sha256 = sha256_hex(as_bytes(bytes.str()));
  auto instance = make_instance(Plugin::load(pinned));
  ASSERT_NE(instance, nullptr);
  EXPECT_EQ(apply(*instance, 1, "incr"), "1\n");
  EXPECT_EQ(instance->plugin().path(), pinned.path);
  for (char& digit : pinned.sha256) digit = static_cast<char>(std::toupper(digit));
  EXPECT_TRUE(Plugin::load(pinned).has_value());
}

// The hashed copy is mapped: a later change of the file has no effect.
TEST_F(Load, HashedBytesAreLoadedNotTheFile) {
  LoadOptions pinned = options(install("first/libpinned.so"));
  std::ifstream in(pinned.path, std::ios::binary);
  std::stringstream bytes;
  bytes << in.rdbuf();
  pinned.sha256 = sha256_hex(as_bytes(bytes.str()));
  auto plugin = Plugin::load(pinned);
  ASSERT_TRUE(plugin.has_value()) << plugin.error().text;
  fs::resize_file(pinned.path, 0);
  auto instance = make_instance(plugin);
  ASSERT_NE(instance, nullptr);
  EXPECT_EQ(apply(*instance, 1, "incr"), "1\n");
  std::string snapshot;
  ASSERT_TRUE(instance->snapshot(covering(1, 0), into(snapshot)).has_value());
  std::ifstream maps("/proc/self/maps");
  std::stringstream mapped;
  mapped << maps.rdbuf();
  EXPECT_THAT(mapped.str(), HasSubstr("/memfd:libpinned.so"));
  EXPECT_THAT(mapped.str(), Not(HasSubstr(pinned.path)));
}

TEST_F(Load, OtherHashIsRejected) {
  LoadOptions pinned = options(install("first/libcounter.so"));
  pinned.sha256 = std::string(64, 'a');
  auto plugin = Plugin::load(pinned);
  ASSERT_FALSE(plugin.has_value());
  EXPECT_EQ(plugin.error().kind, ErrorKind::kWrongData);
  EXPECT_THAT(plugin.error().text, HasSubstr(pinned.path));
  EXPECT_THAT(plugin.error().text, HasSubstr("plugin.sha256 is " + pinned.sha256));
}

TEST_F(Load, InvalidHashIsRejected) {
  LoadOptions pinned = options(install("first/libcounter.so"));
  pinned.sha256 = "abc";
  auto plugin = Plugin::load(pinned);
  ASSERT_FALSE(plugin.has_value());
  EXPECT_EQ(plugin.error().kind, ErrorKind::kBadConfig);
  EXPECT_THAT(plugin.error().text, HasSubstr("64 hexadecimal digits"));
}

}  // namespace
}  // namespace connectd::plugin
