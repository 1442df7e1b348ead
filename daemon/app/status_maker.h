// What this node shows of itself: made by the loop from the node's state, for HTTP, systemd and the
// log. On the loop thread.
#pragma once

#include <memory>
#include <optional>
#include <string>

#include "app/clock_report.h"
#include "client/client_port.h"
#include "config/config.h"
#include "node/membership/bootstrap.h"
#include "node/node.h"
#include "node/requests/ready_check.h"
#include "node/status.h"
#include "plugin/file_watch.h"
#include "plugin/plugin.h"
#include "transport/peer_network.h"

namespace connectd::app {

// `reason`, why no leader is known, and what is wrong with the clock if that may be the cause: with
// TLS between nodes a wrong clock finds the others' certificates not yet valid, or expired, which
// otherwise looks like a network that fails. `clock_warning`: of ClockReport, may be empty. Any
// thread.
std::string with_clock_warning(std::string reason, const std::string& clock_warning,
                               config::TlsMode peer_tls);

class StatusMaker final {
 public:
  // All are read whenever a status is made; `config` may have been reloaded by then.
  StatusMaker(const config::Config& config, const plugin::Plugin& plugin,
              const plugin::FileWatch& plugin_file);

  // Before there is a cluster.
  std::shared_ptr<node::StatusSnapshot> make(const node::Bootstrap& bootstrap);
  // `removed`: a member may have said so before this node's log did. Not const: that it has caught
  // up once is remembered.
  std::shared_ptr<node::StatusSnapshot> make(const node::Node& node, bool stopping, bool removed);
  // Connections that the client port accepts; client.max_connections until it is known.
  void set_max_clients(size_t connections) { max_clients_ = connections; }

 private:
  std::shared_ptr<node::StatusSnapshot> begin() const;

  const config::Config& config_;
  const plugin::Plugin& plugin_;
  const plugin::FileWatch& plugin_file_;
  const int64_t started_wall_ns_;
  std::optional<size_t> max_clients_;
  node::Readiness readiness_;
  ClockReport clocks_;
};

// For SIGUSR2: everything that a developer asks first: the status, and what it does not have.
void log_state(const node::Node& node, const node::StatusSnapshot& status,
               const transport::PeerNetwork& network, const client::ClientPort& clients);

}  // namespace connectd::app
