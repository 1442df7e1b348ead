#include "app/port_tls.h"

#include <algorithm>
#include <string>
#include <utility>

#include "config/checks.h"
#include "node/service.h"
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

// Of a port whose mode is not off.
Result<std::shared_ptr<const tls::Credentials>> read_files(const config::Config& config,
                                                           const tls::Files& files, tls::Use use) {
  tls::CredentialsOptions options;
  options.use = use;
  options.stale_crl = config.tls.crl_stale == config::StaleCrl::kRefuse ? tls::StaleCrl::kRefuse
                                                                        : tls::StaleCrl::kWarn;
  return tls::load_credentials({.certificate = config.file_at(files.certificate),
                                .key = config.file_at(files.key),
                                .authorities = config.file_at(files.authorities),
                                .revocations = config.file_at(files.revocations)},
                               options);
}

Result<net::PortTls> read_server(const config::Config& config, const config::TlsPort& port) {
  net::PortTls tls;
  tls.mode = mode_of(port.mode);
  if (tls.mode == net::TlsMode::kOff) return tls;
  auto own = read_files(config, {port.cert, port.key, port.ca, port.crl}, tls::Use::kServer);
  if (!own) return failure(own.error());
  tls.credentials = std::move(*own);
  return tls;
}

}  // namespace

Result<net::PortTls> read_peer_tls(const config::Config& config) {
  const config::TlsPort& peer = config.tls.peer;
  net::PortTls tls;
  tls.mode = mode_of(peer.mode);
  if (tls.mode == net::TlsMode::kOff) return tls;
  auto credentials = read_files(config, {peer.cert, peer.key, peer.ca, peer.crl}, tls::Use::kPeers);
  if (!credentials) return failure(credentials.error());
  const tls::Certificate& own = *(*credentials)->own();
  if (tls::node_of(own, config.cluster.name) != config.node.id) {
    return failure(ErrorKind::kBadConfig,
                   fmt::format("tls.peer.cert: {} is the certificate of {}, without the name of "
                               "this node: its alternative names must have the URI {}",
                               peer.cert, tls::name_of(own),
                               tls::node_uri(config.cluster.name, config.node.id)));
  }
  tls.credentials = std::move(*credentials);
  return tls;
}

Result<net::PortTls> read_client_tls(const config::Config& config) {
  return read_server(config, config.tls.client);
}

Result<net::PortTls> read_http_tls(const config::Config& config) {
  const config::TlsPort& http = config.tls.http;
  auto tls = read_server(config, http);
  if (!tls || !tls->dials_tls()) return tls;
  // With the port's certificate, if it is one for clients, too: then this node is known to the
  // others.
  auto dialler = read_files(config, {http.cert, http.key, http.ca, http.crl}, tls::Use::kClient);
  if (!dialler) dialler = read_files(config, {"", "", http.ca, http.crl}, tls::Use::kClient);
  if (!dialler) return failure(dialler.error());
  tls->dial_credentials = std::move(*dialler);
  return tls;
}

Result<void> check_client_framing(const config::Config& config, const plugin::Plugin& plugin) {
  const auto problem = config::length_framing_problem(config.tls.client.mode);
  if (problem.empty()) return {};
  switch (config.client.framing) {
    case config::FramingChoice::kLine:
    case config::FramingChoice::kResp:
      return {};
    case config::FramingChoice::kLength:  // of this process, though its file may have another now
      return failure(ErrorKind::kBadConfig,
                     fmt::format("{} (client.framing changes at a restart only)", problem));
    case config::FramingChoice::kAuto:
      break;
  }
  if (node::framing_of(plugin) != node::Framing::kLength) return {};
  return failure(ErrorKind::kBadConfig,
                 fmt::format("{} (the plugin {} {} declares this framing; client.framing overrides "
                             "it)",
                             problem, plugin.name(), plugin.version()));
}

std::string tls_warning(const AllTls& tls, const std::vector<NodeId>& plain_peers, int64_t now) {
  std::vector<std::string> found;
  if (tls.peer.takes_tls() && !plain_peers.empty()) {
    std::string ids;
    for (NodeId id : plain_peers) ids += fmt::format("{}{}", ids.empty() ? "" : ", ", id);
    found.push_back(fmt::format("the connections with node{} {} are plain",
                                plain_peers.size() == 1 ? "" : "s", ids));
  }
  for (const net::PortTls* one : {&tls.peer, &tls.client, &tls.http}) {
    if (!one->credentials) continue;
    for (std::string& warning : one->credentials->warnings(now)) {
      if (std::ranges::find(found, warning) == found.end()) found.push_back(std::move(warning));
    }
  }
  return fmt::format("{}", fmt::join(found, "; "));
}

}  // namespace connectd::app
