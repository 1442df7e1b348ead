// JSON in a buffer of the caller, by means that are safe in a signal handler: for log lines and the
// flight recorder. The result is valid UTF-8 whatever the strings are: a byte that is not part of a
// valid sequence becomes \xHH (the backslash escaped), a control character \u00HH.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <string_view>

#include "base/digits.h"

namespace connectd {

class JsonText final {
 public:
  JsonText(char* buffer, size_t size) : buffer_(buffer), size_(size) {}

  // As it is, if there is room.
  JsonText& raw(std::string_view text) {
    if (text.size() <= size_ - used_) used_ += text.copy(buffer_ + used_, text.size());
    return *this;
  }
  JsonText& number(uint64_t value) { return raw(Digits(value).view()); }
  // As a string. At most `most` bytes stand between the quotes; longer text is cut and ends with
  // "...".
  JsonText& string(std::string_view text, size_t most) {
    if (size_ - used_ < kLeastString) return *this;
    most = std::min(most, size_ - used_ - 2);
    buffer_[used_++] = '"';
    const size_t begin = used_;
    size_t cut_at = begin;  // the dots have room behind it
    while (!text.empty()) {
      char piece[6];
      const size_t length = next_piece(text, piece);
      if (used_ - begin + length > most) {
        used_ = cut_at;
        raw("...");
        break;
      }
      raw({piece, length});
      if (used_ - begin + 3 <= most) cut_at = used_;
    }
    buffer_[used_++] = '"';
    return *this;
  }
  std::string_view view() const { return {buffer_, used_}; }
  size_t room() const { return size_ - used_; }
  void clear() { used_ = 0; }

 private:
  static constexpr size_t kLeastString = 5;  // "..."

  // Takes one character off the text; the bytes that it has in JSON.
  static size_t next_piece(std::string_view& text, char (&piece)[6]) {
    const auto byte = static_cast<unsigned char>(text.front());
    const size_t length = utf8_length(text);
    if (length == 0) {  // invalid
      text.remove_prefix(1);
      return put(piece, {'\\', '\\', 'x', hex(byte >> 4), hex(byte & 15)});
    }
    // Terminals take U+0080 to U+009F for commands, too.
    const bool is_control = length == 1   ? byte < 0x20 || byte == 0x7f
                            : length == 2 ? byte == 0xc2 && second(text) < 0xa0
                                          : false;
    if (is_control) {
      const unsigned char code = length == 1 ? byte : second(text);
      text.remove_prefix(length);
      if (code == '\n') return put(piece, {'\\', 'n'});
      if (code == '\t') return put(piece, {'\\', 't'});
      return put(piece, {'\\', 'u', '0', '0', hex(code >> 4), hex(code & 15)});
    }
    size_t used = 0;
    if (byte == '"' || byte == '\\') piece[used++] = '\\';
    used += text.copy(piece + used, length);
    text.remove_prefix(length);
    return used;
  }
  static size_t put(char (&piece)[6], std::initializer_list<char> bytes) {
    std::copy(bytes.begin(), bytes.end(), piece);
    return bytes.size();
  }
  static char hex(unsigned digit) { return "0123456789abcdef"[digit]; }
  static unsigned char second(std::string_view text) { return static_cast<unsigned char>(text[1]); }
  // Of the sequence that the text begins with (RFC 3629, section 4); 0: it is invalid.
  static size_t utf8_length(std::string_view text) {
    const auto first = static_cast<unsigned char>(text.front());
    if (first < 0x80) return 1;
    const size_t length = first >= 0xf0 ? 4 : first >= 0xe0 ? 3 : 2;
    if (first < 0xc2 || first > 0xf4 || text.size() < length) return 0;
    for (size_t i = 1; i < length; ++i) {
      if ((static_cast<unsigned char>(text[i]) & 0xc0) != 0x80) return 0;
    }
    const unsigned char next = second(text);
    const bool is_overlong = (first == 0xe0 && next < 0xa0) || (first == 0xf0 && next < 0x90);
    const bool is_outside = (first == 0xed && next >= 0xa0) || (first == 0xf4 && next >= 0x90);
    return is_overlong || is_outside ? 0 : length;
  }

  char* const buffer_;
  const size_t size_;
  size_t used_ = 0;
};

}  // namespace connectd
