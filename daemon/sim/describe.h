// Bytes and messages as text, for traces and violations.
#pragma once

#include <string>
#include <string_view>

#include "wire/peer_messages.h"

namespace connectd::sim {

// 'text', with \xHH for what is not printable; long ones are cut.
std::string quoted(std::string_view bytes);
std::string describe(const wire::PeerMessage& message);

}  // namespace connectd::sim
