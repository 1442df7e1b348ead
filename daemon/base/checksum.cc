#include "base/checksum.h"

#define XXH_STATIC_LINKING_ONLY  // the layout of XXH3_state_t
#include <xxhash.h>

namespace connectd {

uint64_t checksum64(ByteView bytes, uint64_t seed) {
  return XXH3_64bits_withSeed(bytes.data(), bytes.size(), seed);
}

struct Checksum64::State {
  XXH3_state_t xxh3;
};

Checksum64::Checksum64() : state_(std::make_unique<State>()) { XXH3_64bits_reset(&state_->xxh3); }
Checksum64::~Checksum64() = default;

void Checksum64::add(ByteView bytes) {
  XXH3_64bits_update(&state_->xxh3, bytes.data(), bytes.size());
}

uint64_t Checksum64::value() const { return XXH3_64bits_digest(&state_->xxh3); }

}  // namespace connectd
