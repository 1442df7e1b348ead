// What this node counts of its ports and requests, for /metrics: made by the loop beside the status
// (app/status_maker.h). On the loop thread.
#pragma once

#include <cstdint>
#include <memory>

#include "app/port_tls.h"
#include "client/client_port.h"
#include "node/node.h"
#include "node/status.h"
#include "transport/peer_network.h"

namespace connectd::app {

class TrafficMaker final {
 public:
  // `clients`: null while their port is not open.
  std::shared_ptr<node::TrafficSnapshot> make(const node::Node& node,
                                              const transport::PeerNetwork& network,
                                              const client::ClientPort* clients,
                                              const AllTls& tls) const;
  // A reload has ended now; every later snapshot has its outcome.
  void reload_ended(bool succeeded);

 private:
  int64_t reloaded_wall_s_ = 0;
  bool reload_succeeded_ = true;
};

}  // namespace connectd::app
