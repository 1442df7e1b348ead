// How the process's file descriptors are shared: those of the log and the snapshots come first,
// then peers and HTTP; clients get what is left. Without that, idle clients would take the
// descriptor that the log's next segment needs (docs/adr/0041-descriptors.md).
#pragma once

#include <algorithm>
#include <cstddef>

#include "base/error.h"

namespace connectd::app {

struct DescriptorShares {
  size_t limit = 0;     // of the process
  size_t http = 0;      // connections of the HTTP port
  size_t clients = 0;   // connections of the client port
  bool capped = false;  // `clients` is less than what was asked for

  // Connections of clients and HTTP in their TLS handshakes, beside the others: so few that they
  // take half of what the smaller port has at most. The silent give way.
  size_t handshakes() const { return std::clamp<size_t>(std::min(clients, http) / 2, 8, 512); }
};

// Raises the soft limit of open files to the hard one. If that is forbidden, the soft one stays.
// Returns the limit. Before other threads.
size_t raise_descriptor_limit();

// How many the process has open now.
size_t open_descriptors();

// `open`: before ports and data directory are opened. `clients`: client.max_connections.
// kNoDescriptors: the limit is too low for a node.
Result<DescriptorShares> share_descriptors(size_t limit, size_t open, size_t clients);

// At the start, one line.
void log_descriptors(const DescriptorShares& shares, size_t clients_wanted);

}  // namespace connectd::app
