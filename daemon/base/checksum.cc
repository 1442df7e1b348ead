#include "base/checksum.h"

#include <xxhash.h>

namespace connectd {

uint64_t checksum64(ByteView bytes, uint64_t seed) {
  return XXH3_64bits_withSeed(bytes.data(), bytes.size(), seed);
}

}  // namespace connectd
