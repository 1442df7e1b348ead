// SHA-256, to pin a plugin file to its content.
#pragma once

#include <string>

#include "base/bytes.h"

namespace connectd {

// 64 lower-case hexadecimal digits. Any thread.
std::string sha256_hex(ByteView bytes);

}  // namespace connectd
