// The threads of a node: log writer, apply, worker and snapshot. Loop thread.
#pragma once

#include <thread>
#include <vector>

#include "base/error.h"
#include "node/node.h"

namespace connectd::app {

class NodeThreads final {
 public:
  // `node` must outlive them. An error: some run; stop() ends those.
  Result<void> start(node::Node& node);
  // Closes the queues of `node` and joins the threads: what was submitted to the log is still
  // written, a snapshot in progress is given up. kPluginFailed: the plugin's `save` does not
  // return; its thread still runs, and the process must end without waiting for it.
  Result<void> stop(node::Node& node);

 private:
  std::vector<std::thread> threads_;
  std::thread snapshot_;
};

}  // namespace connectd::app
