// The headers of a plugin's file, also of a damaged one.
#include "plugin/elf_image.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <random>
#include <sstream>
#include <string>

#include "tests/unit/plugin/support.h"

namespace connectd::plugin {
namespace {

using ::testing::Contains;
using ::testing::Each;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;
using ::testing::StartsWith;

std::string bytes_of(const std::string& path) {
  std::ifstream in(build_path(path), std::ios::binary);
  std::stringstream bytes;
  bytes << in.rdbuf();
  return bytes.str();
}

TEST(ElfImage, OriginIsFound) {
  EXPECT_TRUE(uses_origin(bytes_of("tests/plugins/liborigin.so")));
  EXPECT_FALSE(uses_origin(bytes_of("tests/plugins/libbeside.so")));
  EXPECT_FALSE(uses_origin(bytes_of("plugins/libecho.so")));
}

TEST(ElfImage, ExportedSymbolsAreListed) {
  EXPECT_THAT(exported_symbols(bytes_of("plugins/libecho.so")), IsEmpty());
  const auto crowded = exported_symbols(bytes_of("tests/plugins/libcrowded.so"));
  EXPECT_THAT(crowded, Contains("ZSTD_versionNumber"));
  // Inline functions of the plugin's own count; those of the C++ library cannot be hidden.
  EXPECT_THAT(crowded, Contains(HasSubstr("Crowded")));
  EXPECT_THAT(crowded, Each(Not(StartsWith("_ZNSt6vector"))));
  EXPECT_THAT(crowded, Each(Not(StartsWith("connectd_plugin_v"))));
}

TEST(ElfImage, ProblemsAreNamed) {
  const std::string good = bytes_of("plugins/libcounter.so");
  EXPECT_EQ(elf_problem(good), "");
  EXPECT_THAT(elf_problem(""), HasSubstr("no ELF header"));
  EXPECT_THAT(elf_problem(good.substr(0, good.size() - 1)), HasSubstr("is truncated"));
  std::string other = good;
  other[18] ^= 1;  // e_machine
  EXPECT_THAT(elf_problem(other), HasSubstr("another processor"));
}

// Nothing is read outside of the bytes, whatever they say; the sanitizers would see it.
TEST(ElfImage, DamagedFilesAreReadWithinBounds) {
  const std::string good = bytes_of("tests/plugins/liborigin.so");
  std::mt19937 random(7);
  for (int round = 0; round < 300; ++round) {
    std::string bad = good;
    // The headers are at the beginning, those of the sections at the end.
    for (int damage = 0; damage < 8; ++damage) {
      const size_t at = round % 3 == 0   ? random() % 1024
                        : round % 3 == 1 ? bad.size() - 1 - random() % 2048
                                         : random() % bad.size();
      bad[at] = static_cast<char>(random());
    }
    if (round % 5 == 0) bad.resize(random() % bad.size());
    (void)elf_problem(bad);
    (void)uses_origin(bad);
    (void)exported_symbols(bad);
  }
}

}  // namespace
}  // namespace connectd::plugin
