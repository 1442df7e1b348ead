// What a node needs of the world: the seams that production and the simulator fill differently.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "base/clock.h"
#include "base/error.h"
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
  std::function<void(Duration)> rest;  // snapshot thread; see Snapshotter. May be empty
  std::function<void()> wake;          // any thread: a turn is wanted
  std::function<void(Error)> fatal;    // any thread: the process must end with it
};

}  // namespace connectd::node
