// How much a node holds for its clients, and for how long.
#pragma once

#include <cstddef>

#include "base/clock.h"

namespace connectd::node {

struct HolderLimits {
  Duration request_timeout = std::chrono::seconds(5);
  size_t max_request = 1 << 20;
  size_t max_inflight_bytes = 256 << 20;  // all requests held; over it: OVERLOADED
  // Numbered and not yet applied here. Bounds what this node can put into the leader's memory: its
  // static credit.
  size_t credit_bytes = 16 << 20;
  size_t forward_bytes = 1 << 20;  // of one message of forwarded proposals
  Duration retry_interval = std::chrono::milliseconds(250);  // of a session open, or a read index
  Duration tick = std::chrono::milliseconds(10);             // how exactly times are kept
  // Numbered writes of which none was applied for this long, nor is among the entries that wait for
  // the plugin: one was lost on the way and holds up all after it. A new session settles them.
  Duration stuck_timeout = std::chrono::seconds(1);
  // Asks for a read index once a second, whether or not clients read: for /readyz.
  bool checks_ready = false;
};
// What a held request costs beside its bytes.
inline constexpr size_t kRequestOverhead = 256;

}  // namespace connectd::node
