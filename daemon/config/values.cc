#include "config/values.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <limits>
#include <utility>
#include <vector>

namespace connectd::config {
namespace {

struct Unit {
  std::string_view name;
  uint64_t factor;
};
constexpr std::array<Unit, 6> kDurationUnits{{{"ns", 1},
                                              {"us", 1'000},
                                              {"ms", 1'000'000},
                                              {"s", 1'000'000'000},
                                              {"m", 60'000'000'000},
                                              {"h", 3'600'000'000'000}}};
constexpr std::array<Unit, 5> kSizeUnits{
    {{"B", 1}, {"KiB", 1ull << 10}, {"MiB", 1ull << 20}, {"GiB", 1ull << 30}, {"TiB", 1ull << 40}}};

tl::unexpected<std::string> wrong(std::string text) {
  return tl::unexpected<std::string>(std::move(text));
}

bool is_digit(char c) { return c >= '0' && c <= '9'; }

Parsed<uint64_t> parse_digits(std::string_view digits) {
  if (digits.size() > 1 && digits[0] == '0') {
    size_t first = std::min(digits.find_first_not_of('0'), digits.size() - 1);
    return wrong(fmt::format("'{}' has a leading zero, which may mean octal; write {}", digits,
                             digits.substr(first)));
  }
  uint64_t value = 0;
  auto [end, problem] = std::from_chars(digits.data(), digits.data() + digits.size(), value);
  if (problem != std::errc() || end != digits.data() + digits.size()) {
    return wrong(fmt::format("'{}' is too large", digits));
  }
  return value;
}

template <size_t N>
Parsed<uint64_t> parse_with_unit(std::string_view text, const std::array<Unit, N>& units,
                                 std::string_view what, std::string_view example) {
  std::string names;
  for (const Unit& unit : units) names += fmt::format("{}{}", names.empty() ? "" : " ", unit.name);

  size_t digits = 0;
  while (digits < text.size() && is_digit(text[digits])) ++digits;
  if (digits == 0) {
    return wrong(fmt::format("'{}' is not a {}: write a whole number and a unit, such as {}", text,
                             what, example));
  }
  std::string_view unit_text = text.substr(digits);
  while (!unit_text.empty() && unit_text.front() == ' ') unit_text.remove_prefix(1);
  if (unit_text.empty()) {
    return wrong(
        fmt::format("'{}' has no unit; append one of {}, such as {}", text, names, example));
  }
  if (unit_text.front() == '.' || unit_text.front() == ',') {
    return wrong(fmt::format("'{}' is not a whole number; use a smaller unit ({})", text, names));
  }
  auto unit =
      std::find_if(units.begin(), units.end(), [&](const Unit& u) { return u.name == unit_text; });
  if (unit == units.end()) {
    return wrong(
        fmt::format("'{}' has the unknown unit '{}'; must be one of {}", text, unit_text, names));
  }
  Parsed<uint64_t> number = parse_digits(text.substr(0, digits));
  if (!number) return number;
  if (*number > std::numeric_limits<int64_t>::max() / unit->factor) {
    return wrong(fmt::format("'{}' is too large", text));
  }
  return *number * unit->factor;
}

template <size_t N>
std::string format_with_unit(uint64_t value, const std::array<Unit, N>& units) {
  for (size_t i = N; i-- > 1;) {
    if (value != 0 && value % units[i].factor == 0) {
      return fmt::format("{}{}", value / units[i].factor, units[i].name);
    }
  }
  return fmt::format("{}{}", value, units[0].name);
}

}  // namespace

Parsed<bool> parse_bool(std::string_view text) {
  if (text == "true") return true;
  if (text == "false") return false;
  return wrong(fmt::format("'{}' is not true or false", text));
}

Parsed<uint64_t> parse_integer(std::string_view text) {
  if (text.starts_with("0x") || text.starts_with("0o") || text.starts_with("0X")) {
    return wrong(fmt::format("'{}' must be a decimal number", text));
  }
  if (text.empty() || !std::all_of(text.begin(), text.end(), is_digit)) {
    return wrong(fmt::format("'{}' is not a whole number", text));
  }
  return parse_digits(text);
}

Parsed<Duration> parse_duration(std::string_view text) {
  Parsed<uint64_t> ns = parse_with_unit(text, kDurationUnits, "duration", "50ms");
  if (!ns) return wrong(ns.error());
  return Duration(static_cast<int64_t>(*ns));
}

Parsed<uint64_t> parse_size(std::string_view text) {
  return parse_with_unit(text, kSizeUnits, "size", "64MiB");
}

std::string format_duration(Duration value) {
  return format_with_unit(static_cast<uint64_t>(value.count()), kDurationUnits);
}

std::string format_size(uint64_t value) { return format_with_unit(value, kSizeUnits); }

std::optional<ClusterId> parse_cluster_id(std::string_view text) {
  ClusterId id;
  if (text.size() != 2 * id.bytes.size()) return std::nullopt;
  for (size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    const bool is_digit = c >= '0' && c <= '9';
    if (!is_digit && (c < 'a' || c > 'f')) return std::nullopt;
    const int value = is_digit ? c - '0' : c - 'a' + 10;
    id.bytes[i / 2] = static_cast<uint8_t>(id.bytes[i / 2] * 16 + value);
  }
  if (!id) return std::nullopt;
  return id;
}

}  // namespace connectd::config
