// Node 1 of a cluster of three, and times that begin at a moment that is not zero.
#pragma once

#include <chrono>
#include <cstdint>

#include "base/clock.h"
#include "raft/types.h"

namespace connectd::raft {

inline const NodeId kSelf(1);

inline ConfState three() { return {{NodeId(1), NodeId(2), NodeId(3)}, {}, {}}; }

inline Time at(int64_t ms) {
  return Time(std::chrono::seconds(10) + std::chrono::milliseconds(ms));
}

}  // namespace connectd::raft
