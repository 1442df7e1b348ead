// The plugin ABI as others meet it: the header in four language versions, its layout, what plugins
// export, and plugins that are wrong in one way each.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <memory>
#include <set>
#include <sstream>
#include <string>
#include <vector>

#include "plugin/plugin.h"
#include "tests/paths.h"

namespace connectd::plugin {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;

const std::string kBuild = CONNECTD_BINARY_DIR;
const std::string kSource = CONNECTD_SOURCE_DIR;

// What a command prints on both outputs.
std::string output_of(const std::string& command) {
  std::unique_ptr<FILE, int (*)(FILE*)> pipe(::popen((command + " 2>&1").c_str(), "r"), ::pclose);
  std::string text;
  std::array<char, 4096> buffer;
  while (size_t got = std::fread(buffer.data(), 1, buffer.size(), pipe.get())) {
    text.append(buffer.data(), got);
  }
  return text;
}

std::string read_file(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  std::stringstream text;
  text << in.rdbuf();
  return text.str();
}

long lines_of(const std::string& path) {
  const std::string text = read_file(path);
  return std::count(text.begin(), text.end(), '\n');
}

int non_blank_lines(const std::string& path) {
  std::ifstream in(path);
  int lines = 0;
  for (std::string line; std::getline(in, line);) {
    lines += line.find_first_not_of(" \t\r") == std::string::npos ? 0 : 1;
  }
  return lines;
}

TEST(Header, LayoutMatchesTableInEveryLanguage) {
  std::string table = read_file(kSource + "/tests/abi/layout.txt");
  ASSERT_THAT(table, HasSubstr("connectd_plugin - 112"));
  for (std::string language : {"c99", "c11", "cxx17", "cxx20"}) {
    EXPECT_EQ(output_of(kBuild + "/bin/abi_header_" + language), table) << language;
  }
}

TEST(Exports, EveryPluginExportsOneSymbol) {
  int seen = 0;
  std::vector<fs::path> files = {kBuild + "/abi/libabi_counter.so"};
  for (const char* folder : {"/plugins", "/tests/plugins"}) {
    for (const auto& entry : fs::directory_iterator(kBuild + folder)) {
      files.push_back(entry.path());
    }
  }
  for (const fs::path& file : files) {
    // On purpose: libraries of the daemon's, what compiler flags alone leave, and no plugin at all.
    static const std::set<std::string> kOthers = {"libcrowded.so", "libhidden.so", "libbeside.so"};
    if (file.extension() != ".so" || kOthers.contains(file.filename())) continue;
    ++seen;
    std::istringstream symbols(
        output_of("nm -D --defined-only --format=just-symbols " + file.string()));
    std::vector<std::string> names;
    for (std::string name; symbols >> name;) names.push_back(name);
    EXPECT_EQ(names, std::vector<std::string>{"connectd_plugin_v1"}) << file;
  }
  EXPECT_GE(seen, 5);
}

TEST(Counter, FitsOnAPage) {
  // The README and docs/plugin-guide.md say so.
  EXPECT_EQ(lines_of(kSource + "/plugins/counter/counter.c"), 45);
  EXPECT_LE(non_blank_lines(kSource + "/tests/abi/counter.cc"), 20);
}

// The commands of docs/plugin-guide.md give plugins that load, and its examples compile.
class Guide : public ::testing::Test {
 protected:
  Guide() : dir_(fs::path(::testing::TempDir()) / "connectd-abi-guide") {
    fs::create_directories(dir_);
  }
  ~Guide() override { fs::remove_all(dir_); }

  const std::string text_ = read_file(kSource + "/docs/plugin-guide.md");
  fs::path dir_;
};

TEST_F(Guide, BuildCommandsMakePlugins) {
  int commands = 0;
  std::istringstream lines(text_);
  for (std::string line; std::getline(lines, line);) {
    if (!line.starts_with("cc ") && !line.starts_with("c++ ")) continue;
    size_t output = line.find("libmine.so");
    ASSERT_NE(output, line.npos) << line;
    fs::path file = dir_ / ("libmine" + std::to_string(++commands) + ".so");
    line.replace(output, std::string("libmine.so").size(), file.string());
    EXPECT_EQ(output_of("cd " + kSource + " && " + line), "") << line;
    auto plugin = Plugin::load({.path = file.string(), .dirs = {}, .sha256 = {}, .config_dir = {}});
    ASSERT_TRUE(plugin.has_value()) << plugin.error().text;
    EXPECT_STREQ((*plugin)->name(), "counter");
  }
  EXPECT_EQ(commands, 2);
}

TEST_F(Guide, ExamplesCompileAndLoad) {
  int examples = 0;
  const std::string begin = "```cpp\n";
  for (size_t at = text_.find(begin); at != text_.npos; at = text_.find(begin, at)) {
    at += begin.size();
    size_t end = text_.find("```", at);
    ASSERT_NE(end, text_.npos);
    std::string name = "example" + std::to_string(++examples);
    std::string example = text_.substr(at, end - at);
    std::ofstream(dir_ / (name + ".cc")) << example;
    EXPECT_EQ(output_of("cd " + dir_.string() +
                        " && c++ -std=c++20 -Wall -Wextra -Werror -shared -fPIC -I" + kSource +
                        "/sdk/include " + name + ".cc -o " + name + ".so"),
              "");
    auto plugin = Plugin::load(
        {.path = (dir_ / (name + ".so")).string(), .dirs = {}, .sha256 = {}, .config_dir = {}});
    ASSERT_TRUE(plugin.has_value()) << plugin.error().text;
    // The first one is the file that is counted and tested.
    if (examples == 1) {
      EXPECT_EQ(example, read_file(kSource + "/tests/abi/counter.cc"));
    }
    EXPECT_EQ((*plugin)->timers() != nullptr, std::string_view((*plugin)->name()) == "lamp");
    EXPECT_EQ((*plugin)->views() != nullptr, std::string_view((*plugin)->name()) == "words");
  }
  EXPECT_EQ(examples, 5);
}

struct Defect {
  const char* name;
  ErrorKind kind;
  std::vector<std::string> texts;
};

std::string bad_path(const std::string& name) { return kBuild + "/abi/libabi_bad_" + name + ".so"; }

class BadPlugin : public ::testing::TestWithParam<Defect> {};

TEST_P(BadPlugin, IsRejectedWithReason) {
  const Defect& defect = GetParam();
  std::string path = bad_path(defect.name);
  auto plugin = Plugin::load({.path = path, .dirs = {}, .sha256 = {}, .config_dir = {}});
  ASSERT_FALSE(plugin.has_value());
  EXPECT_EQ(plugin.error().kind, defect.kind) << plugin.error().text;
  EXPECT_THAT(plugin.error().text, HasSubstr(path));
  for (const std::string& text : defect.texts) EXPECT_THAT(plugin.error().text, HasSubstr(text));
}

INSTANTIATE_TEST_SUITE_P(
    Abi, BadPlugin,
    ::testing::Values(
        Defect{"symbol", ErrorKind::kBadPlugin, {"missing symbol connectd_plugin_v1", "ABI 1.0"}},
        Defect{"only_v2", ErrorKind::kMismatch, {"plugin ABI 2", "plugin ABI 1.0"}},
        Defect{"null", ErrorKind::kBadPlugin, {"returned nothing"}},
        Defect{"major", ErrorKind::kMismatch, {"plugin ABI 2.4", "plugin ABI 1.0", "upgrade"}},
        Defect{"size", ErrorKind::kBadPlugin, {"104 bytes", "112"}},
        Defect{"name", ErrorKind::kBadPlugin, {"name", "a-z 0-9"}},
        Defect{"long_name", ErrorKind::kBadPlugin, {"name", "a-z 0-9"}},
        Defect{"no_name", ErrorKind::kBadPlugin, {"name", "a-z 0-9"}},
        Defect{"version", ErrorKind::kBadPlugin, {"'sound'", "version"}},
        Defect{"levels", ErrorKind::kBadPlugin, {"'sound 3.2.1'", "level_min 3, level_max 2"}},
        Defect{"level_zero", ErrorKind::kBadPlugin, {"level_min 0, level_max 1"}},
        Defect{"demand", ErrorKind::kBadPlugin, {"flag bits 5, 31;", "ABI is 1.0", "upgrade"}},
        Defect{"framing", ErrorKind::kBadPlugin, {"framing 9"}},
        Defect{"no_apply", ErrorKind::kBadPlugin, {"missing function apply"}},
        Defect{"no_restore", ErrorKind::kBadPlugin, {"missing function restore"}},
        Defect{"no_read", ErrorKind::kBadPlugin, {"function classify but not read"}},
        Defect{"timers", ErrorKind::kBadPlugin, {"connectd.timers/1", "incomplete"}},
        Defect{"view", ErrorKind::kBadPlugin, {"connectd.snapshot-view/1", "incomplete"}}),
    [](const auto& defect) { return std::string(defect.param.name); });

TEST(GoodPlugin, NewerMinorAndUnknownPermissionLoad) {
  for (const char* name : {"sound", "minor", "permission"}) {
    auto plugin =
        Plugin::load({.path = bad_path(name), .dirs = {}, .sha256 = {}, .config_dir = {}});
    ASSERT_TRUE(plugin.has_value()) << name << ": " << plugin.error().text;
    EXPECT_STREQ((*plugin)->name(), "sound");
    EXPECT_STREQ((*plugin)->version(), "3.2.1");
  }
}

class BadFile : public ::testing::Test {
 protected:
  BadFile() : path_(::testing::TempDir() + "connectd-abi-bad-file.so") {}
  ~BadFile() override { fs::remove(path_); }

  void write(const std::string& bytes) {
    std::ofstream(path_, std::ios::binary | std::ios::trunc) << bytes;
  }
  Error load() {
    auto plugin = Plugin::load({.path = path_, .dirs = {}, .sha256 = {}, .config_dir = {}});
    return plugin ? Error{ErrorKind::kInternal, "loaded"} : plugin.error();
  }

  std::string path_;
};

TEST_F(BadFile, TextIsRejected) {
  write("int main() { return 0; }  // long enough to be taken for a header, and yet no ELF file\n");
  Error error = load();
  EXPECT_EQ(error.kind, ErrorKind::kBadPlugin);
  EXPECT_THAT(error.text, HasSubstr("is not a shared object"));
}

TEST_F(BadFile, EmptyFileIsRejected) {
  write("");
  Error error = load();
  EXPECT_EQ(error.kind, ErrorKind::kBadPlugin);
  EXPECT_THAT(error.text, HasSubstr("is not a shared object"));
}

// The loader would map each of these and die of SIGBUS, or worse, go on.
TEST_F(BadFile, TruncatedFileIsRejected) {
  std::string whole = read_file(bad_path("sound"));
  ASSERT_GT(whole.size(), 4096u);
  for (size_t size = 64; size < whole.size(); size += 509) {
    write(whole.substr(0, size));
    Error error = load();
    ASSERT_EQ(error.kind, ErrorKind::kBadPlugin) << size << ": " << error.text;
    ASSERT_THAT(error.text, HasSubstr("is truncated")) << size;
  }
  write(whole.substr(0, whole.size() - 1));
  EXPECT_THAT(load().text, HasSubstr("is truncated"));
}

TEST_F(BadFile, OtherProcessorOrTypeIsRejected) {
  std::string bytes = read_file(bad_path("sound"));
  bytes[18] = 0x28;  // e_machine: ARM, 32 bits
  write(bytes);
  Error error = load();
  EXPECT_EQ(error.kind, ErrorKind::kBadPlugin);
  EXPECT_THAT(error.text, HasSubstr("another processor"));

  bytes = read_file(bad_path("sound"));
  bytes[16] = 1;  // e_type: relocatable, a .o
  write(bytes);
  error = load();
  EXPECT_EQ(error.kind, ErrorKind::kBadPlugin);
  EXPECT_THAT(error.text, HasSubstr("not a shared object"));
}

TEST_F(BadFile, DirectoryIsRejected) {
  path_ = ::testing::TempDir() + "connectd-abi-directory.so";
  fs::create_directory(path_);
  Error error = load();
  EXPECT_EQ(error.kind, ErrorKind::kBadPlugin);
  EXPECT_THAT(error.text, HasSubstr("is not a regular file"));
}

// Built without -Wl,-z,defs: what is missing shows at load.
TEST_F(BadFile, UndefinedSymbolIsNamed) {
  std::string source = ::testing::TempDir() + "connectd-abi-undefined.c";
  std::ofstream(source) << "int missing_function(void); int f(void) { return missing_function(); }";
  std::string said =
      output_of(std::string(CONNECTD_C_COMPILER) + " -shared -fPIC " + source + " -o " + path_);
  ASSERT_EQ(said, "");
  Error error = load();
  fs::remove(source);
  EXPECT_EQ(error.kind, ErrorKind::kBadPlugin);
  EXPECT_THAT(error.text, HasSubstr("missing_function"));
  EXPECT_THAT(error.text, HasSubstr("-z,defs"));
}

}  // namespace
}  // namespace connectd::plugin
