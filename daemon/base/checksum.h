// XXH3-64, the one checksum of connectd's formats. It finds accidents, not attackers.
#pragma once

#include <cstdint>
#include <memory>

#include "base/bytes.h"

namespace connectd {

// A seed made of the position (a file offset, an index) makes right bytes in a wrong place fail
// too.
uint64_t checksum64(ByteView bytes, uint64_t seed = 0);

// The same, of bytes that come in pieces; how they are cut makes no difference.
class Checksum64 final {
 public:
  Checksum64();
  ~Checksum64();
  Checksum64(const Checksum64&) = delete;
  Checksum64& operator=(const Checksum64&) = delete;

  void add(ByteView bytes);
  uint64_t value() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace connectd
