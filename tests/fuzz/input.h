// The bytes that a fuzzer gives, taken apart from the front.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

#include "base/bytes.h"

namespace connectd::fuzz {

class Input {
 public:
  Input(const uint8_t* data, size_t size) : bytes_(data, size) {}

  // 0 behind the end.
  uint8_t byte() {
    if (bytes_.empty()) return 0;
    uint8_t value = bytes_.front();
    bytes_ = bytes_.subspan(1);
    return value;
  }
  uint16_t short_number() { return static_cast<uint16_t>(byte() | byte() << 8); }
  // At most so many.
  ByteView part(size_t size) {
    ByteView part = bytes_.first(size < bytes_.size() ? size : bytes_.size());
    bytes_ = bytes_.subspan(part.size());
    return part;
  }
  ByteView rest() { return part(bytes_.size()); }
  std::string rest_as_text() { return std::string(as_text(rest())); }

 private:
  ByteView bytes_;
};

}  // namespace connectd::fuzz

extern "C" int LLVMFuzzerInitialize(int* argc, char*** argv);
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size);
