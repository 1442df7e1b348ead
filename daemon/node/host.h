// The dependencies of a node: interfaces that production and the simulator implement differently.
#pragma once

#include <memory>
#include <string>

#include "base/supervisor.h"
#include "node/metrics.h"
#include "plugin/capture.h"
#include "plugin/plugin.h"
#include "storage/file_system.h"
#include "wire/transport.h"

namespace connectd::node {

struct NodeHost {
  storage::FileSystem* files = nullptr;
  std::string data_dir;
  std::shared_ptr<const plugin::Plugin> plugin;
  wire::Transport* transport = nullptr;
  // How the state is captured for snapshots; none: they are written on the apply thread, and
  // nothing is applied meanwhile. Lives longer than the node.
  plugin::Capturer* capturer = nullptr;
  Supervisor* supervisor = nullptr;  // lives longer than the node
  std::shared_ptr<Metrics> metrics = std::make_shared<Metrics>();
};

}  // namespace connectd::node
