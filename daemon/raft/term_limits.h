// How far one message takes the term of a core.
#pragma once

#include <algorithm>
#include <cstdint>

#include "base/types.h"

namespace connectd::raft {

// Up to here a term is adopted from a message whatever our own term is; beyond it only in steps. So
// no message takes this node to where it cannot count on (what storage and wire accept:
// base/limits.h): to walk there takes 2^45 of them. A node that is far behind a cluster which is
// beyond it gets there with a few.
inline constexpr uint64_t kMaxTermJump = uint64_t{1} << 61;
inline constexpr uint64_t kMaxTermStep = uint64_t{1} << 16;

// The highest term that a node at term `ours` adopts from one message.
inline Term reach_of(Term ours) {
  return Term(std::max(ours.value(), kMaxTermJump) + kMaxTermStep);
}

}  // namespace connectd::raft
