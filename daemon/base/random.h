// Random numbers: a reproducible generator for everything that is drawn, and 128 bits from the
// system for identities.
#pragma once

#include <array>
#include <cstdint>

namespace connectd {

// xoshiro256** seeded through splitmix64. The same seed gives the same numbers on every machine;
// std:: distributions do not promise that. One owner, no locking.
class Random {
 public:
  explicit Random(uint64_t seed);

  uint64_t next();
  // Uniform in [0, bound); bound > 0.
  uint64_t below(uint64_t bound);
  // Uniform in [low, high]; low <= high.
  uint64_t between(uint64_t low, uint64_t high) { return low + below(high - low + 1); }
  // True `percent` times in a hundred.
  bool chance(double percent);

 private:
  std::array<uint64_t, 4> state_;
};

// From the operating system. Ends the process when there is none. Any thread.
std::array<uint8_t, 16> random_128();
uint64_t random_seed();

}  // namespace connectd
