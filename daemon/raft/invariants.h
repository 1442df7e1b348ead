// The invariants of one core's state, and of a step from one state to the next. A failure is
// returned, not CHECKed, so that tests can see it. Called after every step in tests and in the
// simulator.
#pragma once

#include <map>
#include <memory>
#include <string>

#include "raft/core.h"

namespace connectd::raft {

class InvariantChecker {
 public:
  // Empty when all hold, else the first that does not, in words.
  std::string after_step(const Core& core);
  // The node was restarted from what was durable: what was not may be gone.
  void restarted(NodeId id);

 private:
  struct Seen;
  static void remember(const Core& core, Seen& seen);
  std::map<NodeId, std::shared_ptr<Seen>> seen_;
};

}  // namespace connectd::raft
