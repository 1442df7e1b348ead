// The messages that the tests of transport send.
#pragma once

#include <cstdint>

#include "wire/peer_messages.h"

namespace connectd::transport {

inline wire::PeerMessage heartbeat(NodeId from, NodeId to, uint64_t round) {
  raft::Envelope envelope;
  envelope.from = from;
  envelope.to = to;
  envelope.term = Term(1);
  envelope.message.emplace<raft::Heartbeat>(Index(1), round);
  return envelope;
}

inline uint64_t round_of(const wire::PeerMessage& message) {
  return std::get<raft::Heartbeat>(std::get<raft::Envelope>(message).message).round;
}

}  // namespace connectd::transport
