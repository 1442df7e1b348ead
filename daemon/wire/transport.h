// The seam between a node and its peers: sockets in production, a virtual network in the simulator.
// Loop thread, both ways.
#pragma once

#include "base/types.h"
#include "wire/handshake.h"
#include "wire/peer_messages.h"

namespace connectd::wire {

class Transport {
 public:
  virtual ~Transport() = default;
  // Never waits and never fails: a message to a peer that is not connected, or whose queue is full,
  // is dropped; Raft sends again. Messages to one peer arrive in order, without gaps, until its
  // connection breaks.
  virtual void send(NodeId to, PeerMessage message) = 0;
  // After the last send of a turn: the moment to write to the sockets.
  virtual void flush() = 0;
};

// What the transport tells its node, always from the loop: never from inside send() or flush().
class TransportHandler {
 public:
  virtual void on_message(NodeId from, PeerMessage message) = 0;
  // A connection to the peer stands, and both sides' hellos agree.
  virtual void on_peer_reached(NodeId peer, const Hello& hello) = 0;
  // It broke, or the peer closed it. What was sent since may or may not have arrived.
  virtual void on_peer_lost(NodeId peer) = 0;

 protected:
  ~TransportHandler() = default;
};

}  // namespace connectd::wire
