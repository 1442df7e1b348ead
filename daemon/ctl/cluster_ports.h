// The ports of `cluster start`: node i has FIRST + i, FIRST + 100 + i and FIRST + 200 + i. Pure.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>

#include "base/local_ports.h"

namespace connectd::ctl {

inline constexpr size_t kMaxLocalNodes = 9;
inline constexpr uint64_t kUsualFirstPort = 7101;
inline constexpr uint64_t kMaxFirstPort = 65535 - 200 - kMaxLocalNodes;

// A port of the cluster that the kernel may give to an outgoing connection.
std::optional<uint16_t> ephemeral_port(const EphemeralPorts& ephemeral, uint64_t first,
                                       size_t nodes);

// kUsualFirstPort, unless it has such ports; then another without any, if there is one.
uint64_t choose_first_port(const EphemeralPorts& ephemeral, size_t nodes);

}  // namespace connectd::ctl
