// What the control groups of this process allow it: a container's limits, or those of a unit. Reads
// files of the kernel; any thread.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

namespace connectd {

enum class CgroupLimit : uint8_t {
  kMemory,   // bytes: memory.max
  kThreads,  // pids.max
};

// The smallest of this process's group and the groups above it. Nothing: none, or not readable.
// `root` stands for "/" in tests.
std::optional<uint64_t> cgroup_limit(CgroupLimit limit, const std::string& root = "");

// Bytes: what the machine has, or the control group's limit when that is smaller.
uint64_t usable_memory(const std::string& root = "");

}  // namespace connectd
