// Stands in for the fuzzer in ordinary builds: gives each file of the named folders to the target
// once, in the order of their names. What fails is named.
#include <fmt/format.h>
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

#include "tests/fuzz/input.h"

namespace {

char current[4096];

void tell_and_die(int number) {
  constexpr const char kText[] = "fuzz: this happened with ";
  [[maybe_unused]] ssize_t done = write(STDERR_FILENO, kText, sizeof kText - 1);
  done = write(STDERR_FILENO, current, std::strlen(current));
  done = write(STDERR_FILENO, "\n", 1);
  signal(number, SIG_DFL);
  raise(number);
}

}  // namespace

int main(int argc, char** argv) {
  std::vector<std::filesystem::path> files;
  for (int i = 1; i < argc; ++i) {
    std::error_code error;
    for (const auto& file : std::filesystem::directory_iterator(argv[i], error)) {
      if (file.is_regular_file()) files.push_back(file.path());
    }
    if (error) {
      fmt::print(stderr, "fuzz: {}: {}\n", argv[i], error.message());
      return 66;
    }
  }
  if (files.empty()) {
    fmt::print(stderr, "usage: {} FOLDER...\nfuzz: there is no input\n", argv[0]);
    return 64;
  }
  std::sort(files.begin(), files.end());
  LLVMFuzzerInitialize(&argc, &argv);
  signal(SIGABRT, tell_and_die);
  signal(SIGSEGV, tell_and_die);
  for (const auto& file : files) {
    std::strncpy(current, file.c_str(), sizeof current - 1);
    std::ifstream in(file, std::ios::binary);
    std::string bytes{std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>()};
    if (!in) {
      fmt::print(stderr, "fuzz: {} cannot be read\n", current);
      return 66;
    }
    LLVMFuzzerTestOneInput(reinterpret_cast<const uint8_t*>(bytes.data()), bytes.size());
  }
  fmt::print("{} inputs\n", files.size());
  return 0;
}
