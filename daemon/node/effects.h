// Effects that a part of the node requests. A part decides and Node carries out: a part has no
// pointer to its owner and makes no calls. Filled during one call, carried out and emptied right
// after it: what is for the loop in the order of the fields, then the orders to the threads.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/error.h"
#include "node/jobs.h"
#include "raft/core.h"
#include "wire/peer_messages.h"

namespace connectd {
enum class LogEvent : uint16_t;
}

namespace connectd::node {

// Writes for the leader of `term`, this node or another, in order.
struct WritesToLeader {
  NodeId leader;
  Term term;
  std::vector<raft::Proposal> proposals;
};

struct Effects : jobs::Orders {
  // Errors for the log.
  std::vector<std::pair<LogEvent, std::string>> errors;
  // This process must end with it; set once.
  std::optional<Error> stop;
  std::vector<WritesToLeader> writes;
  std::vector<raft::Event> events;  // for the core
  std::vector<std::pair<NodeId, wire::PeerMessage>> messages;
  // A decision outside a turn requires a turn.
  bool wake = false;

  // What may be the last reference to a state is given up where its end may take long.
  void retire(std::shared_ptr<plugin::Instance> instance) {
    if (instance != nullptr) tasks.push_back(jobs::Retire{std::move(instance)});
  }
  void send(NodeId to, wire::PeerMessage message) { messages.emplace_back(to, std::move(message)); }
};

}  // namespace connectd::node
