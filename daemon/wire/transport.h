// The interface between a node and its connections to peers: sockets in production, a virtual
// network in the simulator. Loop thread, in both directions.
#pragma once

#include <string>

#include "base/types.h"
#include "wire/handshake.h"
#include "wire/peer_messages.h"

namespace connectd::wire {

class Transport {
 public:
  virtual ~Transport() = default;
  // Never waits and never fails: a message to a peer that is not connected, or whose queue is full,
  // is dropped; Raft repeats it. Messages to one peer arrive in order, without gaps, until its
  // connection breaks.
  virtual void send(NodeId to, PeerMessage message) = 0;
  // After the last send of a turn: the moment to write to the sockets.
  virtual void flush() = 0;
};

// What the transport reports to its node, always from the loop, never from inside send() or
// flush().
class TransportHandler {
 public:
  // `sender`: the hello of the connection on which it came. Not empty: why the message cannot be
  // true. The connection breaks with this text, and no later message of it arrives.
  [[nodiscard]] virtual std::string on_message(const Hello& sender, PeerMessage message) = 0;
  // This node's connection to the peer is up: each side has accepted the hello of the other.
  virtual void on_peer_reached(NodeId peer, const Hello& hello) = 0;
  // A connection to or from it broke or was closed. Recent messages may or may not have arrived.
  virtual void on_peer_lost(NodeId peer) = 0;

 protected:
  ~TransportHandler() = default;
};

}  // namespace connectd::wire
