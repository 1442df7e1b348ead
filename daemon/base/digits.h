// A number in decimal digits, by means that are safe in a signal handler.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

namespace connectd {

class Digits final {
 public:
  explicit Digits(uint64_t value) {
    do {
      text_[--begin_] = static_cast<char>('0' + value % 10);
      value /= 10;
    } while (value != 0);
  }
  // As long as this lives.
  std::string_view view() const { return {text_ + begin_, sizeof text_ - begin_}; }

 private:
  char text_[20];  // 2^64 - 1 has so many
  size_t begin_ = sizeof text_;
};

}  // namespace connectd
