// The context in which the plugin applies an entry.
#pragma once

#include "node/membership/genesis.h"
#include "plugin/instance.h"
#include "raft/types.h"

namespace connectd::node {

// The same on every node.
plugin::ApplyContext apply_context(const raft::Entry& entry, const Genesis& genesis);

}  // namespace connectd::node
