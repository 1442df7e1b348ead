// The feature level: which kinds of entries, fields and peer frames a cluster uses. Each build
// supports the levels from 1 up to its own highest one, and announces that in its hello. The level
// in force is one of the cluster's settings (Settings::feature_level): what came with a level is
// written and sent only when the level in force has reached it (docs/adr/0026-feature-level.md).
#pragma once

#include <cstdint>

namespace connectd::raft {

inline constexpr uint32_t kFirstFeatureLevel = 1;
// The highest level of this version. It rises by one with a version that adds something.
inline constexpr uint32_t kReleasedFeatureLevel = 1;
// Of a build for tests, made with CONNECTD_NEXT_LEVEL: it stands in for the next version.
inline constexpr uint32_t kNextFeatureLevel = kReleasedFeatureLevel + 1;

// The highest level of this build: kReleasedFeatureLevel, or kNextFeatureLevel. Not in a header, so
// that a second build compiles one file again.
uint32_t highest_feature_level();

}  // namespace connectd::raft
