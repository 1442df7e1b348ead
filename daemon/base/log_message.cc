#include "base/log_message.h"

#include <algorithm>
#include <charconv>
#include <iterator>
#include <type_traits>

namespace connectd {
namespace {

bool is_of_key(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' ||
         c == '-' || c == '.';
}

// The key of what follows: `before` ends with `key=`, perhaps with a quote behind it.
std::string_view key_before(std::string_view before) {
  if (before.ends_with('\'') || before.ends_with('"')) before.remove_suffix(1);
  if (!before.ends_with('=')) return {};
  before.remove_suffix(1);
  size_t begin = before.size();
  while (begin > 0 && is_of_key(before[begin - 1])) --begin;
  return before.substr(begin);
}

bool is_text(fmt::format_args::format_arg value) {
  return fmt::visit_format_arg(
      [](auto held) {
        return std::is_same_v<decltype(held), fmt::string_view> ||
               std::is_same_v<decltype(held), const char*>;
      },
      value);
}

// As JSON has integers: the shortest form, and not so large that readers round it.
bool is_integer(std::string_view text) {
  constexpr size_t kDigitsMax = 15;
  if (text.starts_with('-')) text.remove_prefix(1);
  return !text.empty() && text.size() <= kDigitsMax && (text.size() == 1 || text.front() != '0') &&
         std::ranges::all_of(text, [](char c) { return c >= '0' && c <= '9'; });
}

}  // namespace

// Piece by piece, so that it is known where each value is. fmt has checked the format when it was
// compiled.
LogMessage::LogMessage(fmt::string_view whole, fmt::format_args args) {
  const std::string_view format(whole.data(), whole.size());
  int next = 0;
  size_t at = 0;
  while (at < format.size()) {
    const char c = format[at];
    if ((c == '{' || c == '}') && format[at + 1] == c) {
      text_.push_back(c);
      at += 2;
    } else if (c == '{') {
      const size_t end = format.find('}', at);
      std::string_view spec = format.substr(at + 1, end - at - 1);
      int index = 0;
      const auto [rest, error] = std::from_chars(spec.data(), spec.data() + spec.size(), index);
      if (error != std::errc()) index = next++;
      spec.remove_prefix(static_cast<size_t>(rest - spec.data()));
      char piece[32];
      const auto piece_end = fmt::format_to_n(piece, sizeof piece, "{{{}{}}}", index, spec);
      const size_t begin = text_.size();
      fmt::vformat_to(std::back_inserter(text_), {piece, piece_end.size}, args);
      add_field(key_before(format.substr(0, at)), begin, !is_text(args.get(index)));
      at = end + 1;
    } else {
      // `key=word` of the format itself
      const std::string_view key =
          c == '=' ? key_before(format.substr(0, at + 1)) : std::string_view();
      text_.push_back(c);
      ++at;
      if (key.empty()) continue;
      const size_t begin = text_.size();
      while (at < format.size() && is_of_key(format[at])) text_.push_back(format[at++]);
      if (text_.size() > begin) add_field(key, begin, true);
    }
  }
}

void LogMessage::add_field(std::string_view key, size_t begin, bool may_be_number) {
  if (key.empty() || count_ == kFieldsMax) return;
  for (const Field& field : fields()) {
    if (field.key == key) return;
  }
  Field field{key, begin, text_.size(), false};
  field.is_number = may_be_number && is_integer(value_of(field));
  fields_[count_++] = field;
}

}  // namespace connectd
