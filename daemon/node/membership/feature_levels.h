// Whether the cluster's feature level may be raised (docs/adr/0026-feature-level.md), and whether a
// node may run at the level that its data has. Values; loop thread.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "base/error.h"
#include "base/types.h"
#include "node/membership/genesis.h"
#include "raft/settings.h"

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

// kNewerVersion when `settings`, of the entry at `index` in `place`, are of a level over `highest`.
Result<void> check_supported(const raft::Settings& settings, Index index, uint32_t highest,
                             const std::string& place);

// The settings of an entry of the log in `place`. kNewerVersion when a newer version wrote them.
Result<raft::Settings> read_settings(ByteView payload, Index index, uint32_t highest,
                                     const std::string& place);

}  // namespace connectd::node
