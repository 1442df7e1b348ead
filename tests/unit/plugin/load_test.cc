// Where a plugin is searched, and the pin on its bytes.
#include <dlfcn.h>
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
using ::testing::IsEmpty;
using ::testing::Not;
using ::testing::SizeIs;

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
  EXPECT_EQ((*plugin)->table().abi, CONNECTD_ABI);
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

// As an upgrade by cp does it, into the same file. A pin is not needed.
TEST_F(Load, OverwrittenFileDoesNoHarm) {
  std::string path = install("first/libcounter.so");
  auto instance = make_instance(Plugin::load(at(path)));
  ASSERT_NE(instance, nullptr);
  EXPECT_EQ(apply(*instance, 1, "incr"), "1\n");
  std::string zeros(fs::file_size(path), '\0');
  std::fstream(path, std::ios::in | std::ios::out | std::ios::binary) << zeros;
  fs::resize_file(path, 0);
  EXPECT_EQ(apply(*instance, 2, "incr"), "2\n");
  std::string snapshot;
  EXPECT_TRUE(instance->snapshot(covering(2, 0), into(snapshot)).has_value());
}

// For debuggers, sanitizers, and the line that names a plugin's own thread.
TEST_F(Load, CodeIsKnownByTheFilesPath) {
  std::string path = install("first/libcounter.so");
  auto plugin = Plugin::load(at(path));
  ASSERT_TRUE(plugin.has_value()) << plugin.error().text;
  Dl_info info{};
  ASSERT_NE(::dladdr(reinterpret_cast<void*>((*plugin)->table().apply), &info), 0);
  EXPECT_EQ(info.dli_fname, path);
}

TEST_F(Load, MissingSymbolErrorNamesTheFile) {
  // A name that nothing defines: the version script's linker would have found it.
  std::string path = (dir_ / "first/libundefined.so").string();
  std::ifstream in(build_path("plugins/libcounter.so"), std::ios::binary);
  std::stringstream bytes;
  bytes << in.rdbuf();
  std::string image = bytes.str();
  size_t needed = image.find("memcmp");
  if (needed == image.npos) needed = image.find("calloc");
  ASSERT_NE(needed, image.npos);
  image[needed] = 'q';
  std::ofstream(path, std::ios::binary) << image;
  auto plugin = Plugin::load(at(path));
  ASSERT_FALSE(plugin.has_value());
  EXPECT_THAT(plugin.error().text, HasSubstr(path + ": undefined symbol"));
  EXPECT_THAT(plugin.error().text, Not(HasSubstr("/proc/")));
}

// Unless it is pinned: then it is never mapped from the file.
TEST_F(Load, FileThatUsesOriginIsMapped) {
  for (const char* file : {"libbeside.so", "liborigin.so"}) {
    fs::copy_file(build_path(std::string("tests/plugins/") + file), dir_ / "first" / file);
  }
  LoadOptions load = options((dir_ / "first/liborigin.so").string());
  std::ifstream in(load.path, std::ios::binary);
  std::stringstream bytes;
  bytes << in.rdbuf();
  load.sha256 = sha256_hex(as_bytes(bytes.str()));
  auto pinned = Plugin::load(load);
  ASSERT_FALSE(pinned.has_value());
  EXPECT_THAT(pinned.error().text, HasSubstr("$ORIGIN has no effect"));

  load.sha256.clear();
  auto plugin = Plugin::load(load);
  ASSERT_TRUE(plugin.has_value()) << plugin.error().text;
  ASSERT_THAT((*plugin)->warnings(), SizeIs(1));
  EXPECT_THAT((*plugin)->warnings()[0],
              HasSubstr(load.path + ": its library search path uses $ORIGIN"));
  auto instance = make_instance(plugin);
  ASSERT_NE(instance, nullptr);
  EXPECT_EQ(apply(*instance, 1, "x"), "31\n");
}

TEST_F(Load, ExportsBesideTheEntryAreWarnedOf) {
  auto crowded = Plugin::load(at(build_path("tests/plugins/libcrowded.so")));
  ASSERT_TRUE(crowded.has_value()) << crowded.error().text;
  ASSERT_THAT((*crowded)->warnings(), SizeIs(1));
  EXPECT_THAT((*crowded)->warnings()[0], HasSubstr("symbols besides connectd_plugin_v1: "));
  EXPECT_THAT((*crowded)->warnings()[0], HasSubstr(" more; "));
  EXPECT_THAT((*crowded)->warnings()[0], HasSubstr("-fvisibility=hidden"));
  // By the SDK's CMake function, and by compiler flags alone.
  for (const char* file : {"plugins/libcounter.so", "plugins/libecho.so", "abi/libabi_counter.so",
                           "tests/plugins/libhidden.so"}) {
    auto quiet = Plugin::load(at(build_path(file)));
    ASSERT_TRUE(quiet.has_value()) << quiet.error().text;
    EXPECT_THAT((*quiet)->warnings(), IsEmpty()) << file;
  }
}

TEST_F(Load, NoRoomForStaticTlsGivesAHint) {
  auto plugin = Plugin::load(at(build_path("tests/plugins/libstatic_tls.so")));
  ASSERT_FALSE(plugin.has_value());
  EXPECT_EQ(plugin.error().kind, ErrorKind::kBadPlugin);
  EXPECT_THAT(plugin.error().text, HasSubstr("static TLS block"));
  EXPECT_THAT(plugin.error().text, HasSubstr("GLIBC_TUNABLES=glibc.rtld.optional_static_tls="));
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
