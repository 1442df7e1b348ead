// Shared by the tests of the plugin host: loading, and snapshots in memory.
#pragma once

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <memory>
#include <string>
#include <utility>

#include "plugin/instance.h"
#include "plugin/plugin.h"
#include "tests/paths.h"

namespace connectd::plugin {

inline std::string build_path(const std::string& path) {
  return fmt::format("{}/{}", CONNECTD_BINARY_DIR, path);
}

inline LoadOptions at(std::string path) {
  return LoadOptions{.path = std::move(path), .dirs = {}, .sha256 = {}, .config_dir = {}};
}

inline std::unique_ptr<Instance> make_instance(const Result<std::shared_ptr<const Plugin>>& plugin,
                                               Options options = {}) {
  if (!plugin) {
    ADD_FAILURE() << plugin.error().text;
    return nullptr;
  }
  auto instance = Instance::create(*plugin, std::move(options));
  if (!instance) {
    ADD_FAILURE() << instance.error().text;
    return nullptr;
  }
  return std::move(*instance);
}

inline ApplyContext entry(uint64_t index) {
  ApplyContext context;
  context.index = Index(index);
  context.term = Term(1);
  context.time_ns = static_cast<int64_t>(index) * 1000;
  return context;
}

// The reply; an error as "!" and its text.
inline std::string apply(Instance& instance, uint64_t index, std::string_view command) {
  std::string reply;
  auto status = instance.apply(entry(index), as_bytes(command), reply);
  return status ? reply : "!" + status.error().text;
}
inline std::string read(Instance& instance, std::string_view request) {
  std::string reply;
  auto status = instance.read(ReadContext{}, as_bytes(request), reply);
  return status ? reply : "!" + status.error().text;
}

inline SnapshotSink into(std::string& bytes) {
  return [&bytes](ByteView part) -> Result<void> {
    bytes.append(as_text(part));
    return {};
  };
}
inline SnapshotSource from(const std::string& bytes) {
  return [&bytes, offset = size_t{0}](std::span<uint8_t> to) mutable -> Result<size_t> {
    size_t part = std::min(to.size(), bytes.size() - offset);
    std::memcpy(to.data(), bytes.data() + offset, part);
    offset += part;
    return part;
  };
}
inline SnapshotContext covering(uint64_t index, uint64_t length) {
  SnapshotContext context;
  context.index = Index(index);
  context.term = Term(1);
  context.length = length;
  context.writer_version = "1.0.0";
  return context;
}

}  // namespace connectd::plugin
