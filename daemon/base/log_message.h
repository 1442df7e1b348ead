// The text of a log line, and where the values of its `key=` are in it. Formatted on the stack; a
// text of more than 500 bytes is allocated.
#pragma once

#include <fmt/format.h>

#include <array>
#include <cstddef>
#include <span>
#include <string_view>

namespace connectd {

class LogMessage final {
 public:
  struct Field {
    std::string_view key;  // of the format, which outlives this
    size_t begin = 0;      // in the text
    size_t end = 0;
    bool is_number = false;
  };
  static constexpr size_t kFieldsMax = 16;

  LogMessage(fmt::string_view format, fmt::format_args args);
  // Without fields.
  explicit LogMessage(std::string_view text) { text_.append(text); }

  std::string_view text() const { return {text_.data(), text_.size()}; }
  std::span<const Field> fields() const { return {fields_.data(), count_}; }
  std::string_view value_of(const Field& field) const {
    return text().substr(field.begin, field.end - field.begin);
  }

 private:
  void add_field(std::string_view key, size_t begin, bool may_be_number);

  fmt::memory_buffer text_;
  std::array<Field, kFieldsMax> fields_;
  size_t count_ = 0;
};

}  // namespace connectd
