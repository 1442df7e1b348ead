// Which terms of other nodes a core adopts.
#pragma once

#include <cstdint>

namespace connectd::raft {

// Up to here a term is adopted from a message whatever our own term is. A higher one only if it is
// at most so many terms ahead of ours: no message takes this node to where it cannot count on, and
// to walk there takes 2^45 of them. (What storage and wire accept: base/limits.h.)
inline constexpr uint64_t kMaxTermJump = uint64_t{1} << 61;
inline constexpr uint64_t kMaxTermStep = uint64_t{1} << 16;

}  // namespace connectd::raft
