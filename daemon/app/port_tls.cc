#include "app/port_tls.h"

#include <string>
#include <utility>

#include "base/clock.h"
#include "base/log_event.h"
#include "tls/certificate.h"
#include "tls/credentials.h"

namespace connectd::app {
namespace {

net::TlsMode mode_of(config::TlsMode mode) {
  switch (mode) {
    case config::TlsMode::kOff:
      break;
    case config::TlsMode::kAccept:
      return net::TlsMode::kAccept;
    case config::TlsMode::kPrefer:
      return net::TlsMode::kPrefer;
    case config::TlsMode::kRequire:
      return net::TlsMode::kRequire;
  }
  return net::TlsMode::kOff;
}

std::string beside(const std::string& directory, const std::string& path) {
  if (path.empty() || path.front() == '/') return path;
  return directory + "/" + path;
}

int64_t wall_seconds() { return read_clocks().wall_ns / 1'000'000'000; }

}  // namespace

Result<net::PortTls> read_peer_tls(const config::Config& config) {
  const config::TlsPort& peer = config.tls.peer;
  net::PortTls tls;
  tls.mode = mode_of(peer.mode);
  if (tls.mode == net::TlsMode::kOff) return tls;
  const std::string& base = config.tls.base_dir;
  tls::CredentialsOptions options;
  options.use = tls::Use::kPeers;
  options.stale_crl = config.tls.crl_stale == config::StaleCrl::kRefuse ? tls::StaleCrl::kRefuse
                                                                        : tls::StaleCrl::kWarn;
  auto credentials = tls::load_credentials({.certificate = beside(base, peer.cert),
                                            .key = beside(base, peer.key),
                                            .authorities = beside(base, peer.ca),
                                            .revocations = beside(base, peer.crl)},
                                           options);
  if (!credentials) return failure(credentials.error());
  const tls::Certificate& own = *(*credentials)->own();
  if (tls::node_of(own, config.cluster.name) != config.node.id) {
    return failure(ErrorKind::kBadConfig,
                   fmt::format("tls.peer.cert: {} is the certificate of {}, without the name of "
                               "this node: its alternative names must have the URI {}",
                               beside(base, peer.cert), tls::name_of(own),
                               tls::node_uri(config.cluster.name, config.node.id)));
  }
  tls.credentials = std::move(*credentials);
  return tls;
}

void log_tls_warnings(const net::PortTls& tls) {
  if (!tls.credentials) return;
  for (const std::string& warning : tls.credentials->warnings(wall_seconds())) {
    log_event(LogEvent::kTlsWarning, "peers: {}", warning);
  }
}

std::string tls_warning(const net::PortTls& tls, const std::vector<NodeId>& plain_peers,
                        int64_t now) {
  std::vector<std::string> found;
  if (tls.takes_tls() && !plain_peers.empty()) {
    std::string ids;
    for (NodeId id : plain_peers) ids += fmt::format("{}{}", ids.empty() ? "" : ", ", id);
    found.push_back(fmt::format("the connections with node{} {} are plain",
                                plain_peers.size() == 1 ? "" : "s", ids));
  }
  if (tls.credentials) {
    for (std::string& warning : tls.credentials->warnings(now)) found.push_back(std::move(warning));
  }
  return fmt::format("{}", fmt::join(found, "; "));
}

}  // namespace connectd::app
