#include "app/traffic_maker.h"

#include <utility>

#include "base/clock.h"
#include "tls/credentials.h"

namespace connectd::app {
namespace {

constexpr int64_t kNsPerSecond = 1'000'000'000;

void add_peers(node::TrafficSnapshot& traffic, const transport::PeerNetwork& network) {
  for (const auto& [id, peer] : network.counters()) {
    traffic.peers[id] = {peer.messages_sent,     peer.bytes_sent,     peer.messages_dropped,
                         peer.messages_received, peer.bytes_received, peer.times_lost};
  }
  for (const NodeId id : network.plain_peers()) traffic.peers[id].is_plain = true;
}

void add_certificates(node::TrafficSnapshot& traffic, const AllTls& tls) {
  for (const auto& [port, one] : {std::pair("peer", &tls.peer), std::pair("client", &tls.client),
                                  std::pair("http", &tls.http)}) {
    const tls::Certificate* own = one->credentials ? one->credentials->own() : nullptr;
    if (own != nullptr) traffic.certificates[port] = own->not_after;
  }
}

}  // namespace

std::shared_ptr<node::TrafficSnapshot> TrafficMaker::make(const node::Node& node,
                                                          const transport::PeerNetwork& network,
                                                          const client::ClientPort* clients,
                                                          const AllTls& tls) const {
  auto traffic = std::make_shared<node::TrafficSnapshot>();
  add_peers(*traffic, network);
  if (clients != nullptr) {
    const client::ClientPortCounters& port = clients->counters();
    traffic->clients = {clients->connections(), port.accepted,  port.rejected, port.bad_frames,
                        port.stalled,           port.half_sent, port.unknown,  port.too_large};
  }
  traffic->requests_held = node.holder().held();
  traffic->requests_held_bytes = node.holder().held_bytes();
  traffic->snapshots_failed = node.snapshots_failed();
  traffic->snapshots_installed = node.snapshots_installed();
  add_certificates(*traffic, tls);
  traffic->reloaded_wall_s = reloaded_wall_s_;
  traffic->reload_succeeded = reload_succeeded_;
  traffic->plugin = node.plugin_metrics();
  return traffic;
}

void TrafficMaker::reload_ended(bool succeeded) {
  reloaded_wall_s_ = read_clocks().wall_ns / kNsPerSecond;
  reload_succeeded_ = succeeded;
}

}  // namespace connectd::app
