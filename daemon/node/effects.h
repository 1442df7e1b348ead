// What a part of the node wants done. A part decides and Node carries out: a part holds no pointer
// to its owner, and calls nobody. Filled during one call, carried out and emptied right behind it,
// in the order of the fields.
#pragma once

#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "node/jobs.h"
#include "raft/core.h"
#include "wire/peer_messages.h"

namespace connectd::node {

struct Effects {
  std::vector<raft::Event> events;  // for the core
  std::vector<std::pair<NodeId, wire::PeerMessage>> messages;
  std::vector<jobs::WorkerTask> tasks;  // for the worker thread
  // The state is to be captured, or written on the apply thread.
  std::optional<SnapshotHow> take_snapshot;
  // The snapshot that is being written is not wanted any more.
  bool cancel_snapshot = false;
  // Captures whose bytes are written, or will not be: back to the apply thread.
  std::vector<std::unique_ptr<plugin::Capture>> releases;
  // What was decided outside a turn needs one.
  bool wake = false;

  void send(NodeId to, wire::PeerMessage message) { messages.emplace_back(to, std::move(message)); }
};

}  // namespace connectd::node
