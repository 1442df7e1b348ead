// The payload of an entry that opens a session (docs/protocol.md). Values; any thread.
#pragma once

#include <cstdint>
#include <string>

#include "base/bytes.h"
#include "base/types.h"

namespace connectd::wire {

// Who opens a session: a node, in one process.
struct SessionOwner {
  NodeId node;
  uint64_t incarnation = 0;  // random, drawn at each start
  bool operator==(const SessionOwner&) const = default;

  std::string encode() const;
  static bool decode(ByteView bytes, SessionOwner& out);
};

}  // namespace connectd::wire
