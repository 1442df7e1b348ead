#include "base/random.h"

#include <sys/random.h>

#include <bit>
#include <cstring>

#include "base/log.h"

namespace connectd {

Random::Random(uint64_t seed) {
  for (uint64_t& word : state_) {  // splitmix64
    seed += 0x9e3779b97f4a7c15;
    uint64_t z = seed;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
    z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
    word = z ^ (z >> 31);
  }
}

uint64_t Random::next() {
  uint64_t result = std::rotl(state_[1] * 5, 7) * 9;
  uint64_t t = state_[1] << 17;
  state_[2] ^= state_[0];
  state_[3] ^= state_[1];
  state_[1] ^= state_[2];
  state_[0] ^= state_[3];
  state_[2] ^= t;
  state_[3] = std::rotl(state_[3], 45);
  return result;
}

uint64_t Random::below(uint64_t bound) {
  // Lemire's multiplication; its bias is below 2^-64 * bound, which no use here can see.
  __extension__ using Wide = unsigned __int128;
  return static_cast<uint64_t>((static_cast<Wide>(next()) * bound) >> 64);
}

bool Random::chance(double percent) {
  return static_cast<double>(next() >> 11) * 0x1.0p-53 * 100.0 < percent;
}

std::array<uint8_t, 16> random_128() {
  std::array<uint8_t, 16> bytes{};
  CHECK_EQ(getrandom(bytes.data(), bytes.size(), 0), static_cast<ssize_t>(bytes.size()));
  return bytes;
}

uint64_t random_seed() {
  auto bytes = random_128();
  uint64_t seed;
  std::memcpy(&seed, bytes.data(), sizeof seed);
  return seed;
}

}  // namespace connectd
