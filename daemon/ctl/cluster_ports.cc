#include "ctl/cluster_ports.h"

#include <initializer_list>

namespace connectd::ctl {

std::optional<uint16_t> ephemeral_port(const EphemeralPorts& ephemeral, uint64_t first,
                                       size_t nodes) {
  for (size_t node = 0; node < nodes; ++node) {
    for (const uint64_t kind : std::initializer_list<uint64_t>{0, 100, 200}) {
      const auto port = static_cast<uint16_t>(first + kind + node);
      if (ephemeral.contains(port)) return port;
    }
  }
  return std::nullopt;
}

uint64_t choose_first_port(const EphemeralPorts& ephemeral, size_t nodes) {
  if (!ephemeral_port(ephemeral, kUsualFirstPort, nodes)) return kUsualFirstPort;
  // Not below 1024, which need a privilege.
  for (uint64_t first = 1101; first <= kMaxFirstPort; first += 1000) {
    if (!ephemeral_port(ephemeral, first, nodes)) return first;
  }
  return kUsualFirstPort;
}

}  // namespace connectd::ctl
