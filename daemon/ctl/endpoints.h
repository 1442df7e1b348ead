// The nodes that a command asks: those of --endpoint, else of the variable CONNECTCTL_ENDPOINTS,
// else of the configurations on this machine, else the default. Reads files; any thread.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/address.h"
#include "base/error.h"
#include "config/config.h"

namespace connectd::ctl {

inline constexpr const char* kEndpointsVariable = "CONNECTCTL_ENDPOINTS";
// Where the units of the package find their configurations.
inline constexpr const char* kConfigDirectory = "/etc/connectd";

struct Endpoints {
  std::vector<Address> addresses;  // HTTP addresses; at least one, at most kMaxEndpoints
  // For the text when no node answers: where the addresses come from, and how to set others.
  std::string origin;
  // The other members in the same files, for a question that any of them can answer: the node of
  // this machine may be down. At most kMaxEndpoints.
  std::vector<Address> members;
  // The CAs of their HTTP ports, where the files demand TLS for connections to them; else empty.
  std::string authorities;
};
inline constexpr size_t kMaxEndpoints = 64;

// The HTTP port of a node of this machine, as it is asked from here.
struct LocalPort {
  Address address;
  std::string authorities;  // the CAs of it; empty: connections are plain
};
LocalPort local_port(const config::Config& config);

// Parses "H:P,H:P" into `out`. kUsage: invalid; the text begins with `name`.
Result<void> take_endpoints(std::string_view list, std::string_view name,
                            std::vector<Address>& out);

// `variable`: the value of CONNECTCTL_ENDPOINTS, or null. kUsage: it is invalid, or the
// configurations are of several clusters.
Result<Endpoints> find_endpoints(const char* variable, const std::string& directory);

}  // namespace connectd::ctl
