// Plugins, loaded from the build directory as the daemon loads them.
#pragma once

#include <memory>
#include <string>

#include "base/log.h"
#include "plugin/instance.h"
#include "plugin/plugin.h"
#include "tests/paths.h"

namespace connectd::sim {

inline std::shared_ptr<const plugin::Plugin> load_plugin(const std::string& file) {
  plugin::LoadOptions options;
  options.path = CONNECTD_BINARY_DIR "/" + file;
  auto loaded = plugin::Plugin::load(options);
  CHECK(loaded.has_value()) << loaded.error().text;
  return *loaded;
}

inline std::unique_ptr<plugin::Instance> make_instance(
    const std::shared_ptr<const plugin::Plugin>& plugin) {
  auto instance = plugin::Instance::create(plugin, {});
  CHECK(instance.has_value()) << instance.error().text;
  return std::move(*instance);
}

}  // namespace connectd::sim
