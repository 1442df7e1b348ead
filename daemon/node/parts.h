// The parts of a node.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "node/apply/ticks.h"
#include "node/disk/disks.h"
#include "node/divergence/divergence.h"
#include "node/membership/membership.h"
#include "node/requests/holder.h"
#include "node/snapshots/snapshots.h"
#include "node/threads.h"

namespace connectd::node {

struct Parts {
  std::unique_ptr<raft::Core> core;
  std::unique_ptr<PluginClassifier> classifier;
  std::unique_ptr<Holder> holder;
  std::unique_ptr<Snapshots> snapshots;
  std::unique_ptr<Membership> membership;
  std::unique_ptr<Disks> disks;
  std::unique_ptr<Divergence> divergence;
  std::unique_ptr<Threads> threads;
  Index applied;  // of the state that the node starts with
  uint64_t digest = 0;
  std::vector<raft::EntryId> skips;
  std::vector<std::string> warnings;
};

Parts make_parts(const NodeOptions& options, const Genesis& genesis, const NodeHost& host,
                 Opened opened, Now now);

}  // namespace connectd::node
