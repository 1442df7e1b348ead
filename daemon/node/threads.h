// What the threads of a node run, and the files that they share: the log's writer, the applier, the
// worker, the snapshotter, over one log and one store of snapshots.
//
// Each is driven by a thread of its own in production (app/), or by poll_once() in the simulator.
// Made before they run, and destroyed when they have ended.
#pragma once

#include <memory>

#include "node/apply/applier.h"
#include "node/disk/log_writer.h"
#include "node/disk/worker.h"
#include "node/host.h"
#include "node/opening.h"
#include "node/snapshots/snapshotter.h"

namespace connectd::node {

class Threads final {
 public:
  Threads(const NodeOptions& options, const Genesis& genesis, const NodeHost& host, Opened opened);

  void carry_out(jobs::Orders& orders);

  const std::unique_ptr<storage::SnapshotStore> store;
  const std::unique_ptr<storage::Log> log;
  LogWriter writer;
  Applier applier;
  Worker worker;
  Snapshotter snapshotter;
};

}  // namespace connectd::node
