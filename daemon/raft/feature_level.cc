#include "raft/feature_level.h"

namespace connectd::raft {

uint32_t highest_feature_level() {
#ifdef CONNECTD_NEXT_LEVEL
  return kNextFeatureLevel;
#else
  return kReleasedFeatureLevel;
#endif
}

}  // namespace connectd::raft
