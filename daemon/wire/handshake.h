// The first frame of each peer connection, both ways: who I am, and what I can talk. A mismatch ends
// the connection with a text that both sides log.
#pragma once

#include <cstdint>
#include <string>

#include "base/types.h"

namespace connectd::wire {

inline constexpr uint16_t kPeerProtocolMin = 1;
inline constexpr uint16_t kPeerProtocolMax = 1;

struct Hello {
  uint16_t protocol_min = kPeerProtocolMin;
  uint16_t protocol_max = kPeerProtocolMax;
  std::string cluster_name;
  ClusterId cluster_id;        // none: this node belongs to no cluster yet (its directory is empty)
  NodeId node_id;
  NodeId to;                   // whom the sender believes to talk to; in an answer: the asker
  DiskId disk_id;
  std::string plugin_name;
  uint32_t plugin_level_min = 0;
  uint32_t plugin_level_max = 0;
  uint32_t plugin_level = 0;   // in force in the sender's cluster; 0 before there is one
};

}  // namespace connectd::wire
