#include "base/cgroup.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <fstream>

namespace connectd {
namespace {

// Version 1 has a hierarchy for each controller, and its files have other names.
struct Names {
  const char* file;
  const char* controller;
  const char* file_of_version_1;
};
constexpr Names kMemory{"memory.max", "memory", "memory.limit_in_bytes"};
constexpr Names kThreads{"pids.max", "pids", "pids.max"};

// Nothing for "max", and where there is no such file.
std::optional<uint64_t> read_number(const std::string& path) {
  std::ifstream file(path);
  std::string text;
  if (!std::getline(file, text)) return std::nullopt;
  uint64_t number = 0;
  auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return number;
}

// The smallest limit from the group at `path` up to the mount. In a container the path of /proc may
// lie outside of what is mounted: then only the mount itself has the file.
void look_up(const std::string& mount, std::string path, const std::string& file,
             std::optional<uint64_t>& smallest) {
  while (true) {
    if (auto number = read_number(fmt::format("{}{}/{}", mount, path, file))) {
      smallest = std::min(smallest.value_or(UINT64_MAX), *number);
    }
    if (path.empty()) return;
    path.resize(path.rfind('/') == std::string::npos ? 0 : path.rfind('/'));
  }
}

bool lists(const std::string& controllers, const std::string& wanted) {
  return ("," + controllers + ",").find("," + wanted + ",") != std::string::npos;
}

}  // namespace

std::optional<uint64_t> cgroup_limit(CgroupLimit limit, const std::string& root) {
  const Names& names = limit == CgroupLimit::kMemory ? kMemory : kThreads;
  std::optional<uint64_t> smallest;
  std::ifstream groups(root + "/proc/self/cgroup");
  // "0::/system.slice/x.service", and in version 1 "5:memory:/docker/x".
  for (std::string line; std::getline(groups, line);) {
    const size_t first = line.find(':');
    const size_t second = line.find(':', first + 1);
    if (first == std::string::npos || second == std::string::npos) continue;
    const std::string controllers = line.substr(first + 1, second - first - 1);
    std::string path = line.substr(second + 1);
    if (path == "/") path.clear();
    if (controllers.empty()) {
      look_up(root + "/sys/fs/cgroup", path, names.file, smallest);
    } else if (lists(controllers, names.controller)) {
      look_up(root + "/sys/fs/cgroup/" + names.controller, path, names.file_of_version_1, smallest);
    }
  }
  return smallest;
}

uint64_t usable_memory(const std::string& root) {
  const uint64_t machine =
      static_cast<uint64_t>(sysconf(_SC_PHYS_PAGES)) * static_cast<uint64_t>(sysconf(_SC_PAGESIZE));
  return std::min(machine, cgroup_limit(CgroupLimit::kMemory, root).value_or(machine));
}

}  // namespace connectd
