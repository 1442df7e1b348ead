// The context in which the plugin applies an entry.
#pragma once

#include "base/types.h"
#include "plugin/instance.h"
#include "raft/types.h"

namespace connectd::node {

// The same on every node. `cluster` and `level`: of the genesis.
plugin::ApplyContext apply_context(const raft::Entry& entry, const ClusterId& cluster,
                                   uint32_t level);

}  // namespace connectd::node
