// Judges refusals by peers: some mean that this node must not run, most that it should try again.
//
// Pure: events in, a verdict out. Owner: the loop thread.
#pragma once

#include <cstddef>
#include <optional>
#include <set>

#include "base/error.h"
#include "base/types.h"
#include "wire/handshake.h"

namespace connectd::node {

class Refusals final {
 public:
  // `members`: how many the configuration file lists, this node among them.
  explicit Refusals(size_t members) : members_(members) {}

  // The peer and this node agree again.
  void reached(NodeId peer) { by_.erase(peer); }
  // `has_node`: this node belongs to a cluster. An error: the process ends with it.
  std::optional<Error> refused(NodeId peer, const wire::Refusal& refusal, bool has_node);

 private:
  const size_t members_;
  std::set<NodeId> by_;  // for reasons that one peer alone does not decide
};

}  // namespace connectd::node
