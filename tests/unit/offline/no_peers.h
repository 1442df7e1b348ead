// The transport of a node that is alone.
#pragma once

#include "wire/transport.h"

namespace connectd::offline {

class NoPeers final : public wire::Transport {
 public:
  void send(NodeId, wire::PeerMessage) override {}
  void flush() override {}
};

}  // namespace connectd::offline
