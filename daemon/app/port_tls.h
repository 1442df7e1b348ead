// TLS of the ports, as the configuration and its files say (app/own_files.h reads them together).
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/error.h"
#include "base/types.h"
#include "config/config.h"
#include "net/port_tls.h"
#include "plugin/plugin.h"

namespace connectd::app {

struct AllTls {
  net::PortTls peer;
  net::PortTls client;
  net::PortTls http;

  bool is_on() const { return peer.takes_tls() || client.takes_tls() || http.takes_tls(); }
};

// Each reads the files of a port; blocks while it does. Errors as tls::load_credentials() has them;
// each names the file, or the key of the configuration.
Result<net::PortTls> read_peer_tls(const config::Config& config);
Result<net::PortTls> read_client_tls(const config::Config& config);
Result<net::PortTls> read_http_tls(const config::Config& config);

// Whether the client port can tell TLS from plain bytes. Where it takes both, the clients' framing
// must not be `length`, by `client.framing` or, with `auto`, as the plugin declares: kBadConfig.
// Any thread.
Result<void> check_client_framing(const config::Config& config, const plugin::Plugin& plugin);

// For the status: the warnings of all credentials, and with whom connections are plain though TLS
// is on. Empty: all is well. `now`: seconds since 1970.
std::string tls_warning(const AllTls& tls, const std::vector<NodeId>& plain_peers, int64_t now);

}  // namespace connectd::app
