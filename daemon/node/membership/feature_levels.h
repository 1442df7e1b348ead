// Whether the cluster's feature level may be raised (docs/adr/0026-feature-level.md). Values; loop
// thread.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "base/error.h"
#include "base/types.h"
#include "node/membership/genesis.h"

namespace connectd::node {

// What the peers have announced since this process started; a peer that is down keeps its last
// announcement.
class FeatureLevels {
 public:
  FeatureLevels(NodeId self, uint32_t highest) : self_(self), highest_(highest) {}

  void announced(NodeId peer, const DiskId& disk, uint32_t highest);
  // Every member supports `level`; else kUsage with the members that do not, and those that have
  // announced nothing.
  Result<void> check_raise(uint32_t level, const std::vector<GenesisMember>& members) const;

 private:
  struct Announcement {
    DiskId disk;
    uint32_t highest = 0;
  };
  const NodeId self_;
  const uint32_t highest_;
  std::map<NodeId, Announcement> announcements_;
};

}  // namespace connectd::node
