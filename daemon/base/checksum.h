// XXH3-64, the one checksum of connectd's formats. It finds accidents, not attackers.
#pragma once

#include <cstdint>

#include "base/bytes.h"

namespace connectd {

// A seed made of the position (a file offset, an index) makes right bytes in a wrong place fail
// too.
uint64_t checksum64(ByteView bytes, uint64_t seed = 0);

}  // namespace connectd
