// Which snapshot file it is: two nodes that write of the same name mean the same bytes.
#pragma once

#include <cstdint>

#include "raft/types.h"

namespace connectd::wire {

// The mark alone does not tell files apart: two nodes take snapshots at the same index, with
// different builds of the plugin or another compression, and their bytes must never be mixed. The
// checksum is the chain in the file's trailer (storage/snapshot_format.h), which covers the header
// and, by their own checksums, all blocks.
struct SnapshotFile {
  raft::SnapshotMark mark;
  uint64_t bytes = 0;
  uint64_t checksum = 0;
  bool operator==(const SnapshotFile&) const = default;
};

}  // namespace connectd::wire
