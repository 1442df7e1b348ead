#include "auth/times.h"

#include <fmt/format.h>

#include <charconv>
#include <chrono>

#include "base/wall_clock.h"

namespace connectd::auth {
namespace {

constexpr int kMinYear = 2023;  // as base/wall_clock.h has it
constexpr int kMaxYear = 2115;
constexpr int64_t kSecondNs = 1'000'000'000;

// `pattern`: 'd' is a digit, everything else stands for itself.
bool has_form(std::string_view text, std::string_view pattern) {
  if (text.size() != pattern.size()) return false;
  for (size_t i = 0; i < text.size(); ++i) {
    const bool is_digit = text[i] >= '0' && text[i] <= '9';
    if (pattern[i] == 'd' ? !is_digit : text[i] != pattern[i]) return false;
  }
  return true;
}

int number(std::string_view digits) {
  int value = 0;
  std::from_chars(digits.data(), digits.data() + digits.size(), value);
  return value;
}

}  // namespace

Result<int64_t> parse_time(std::string_view text) {
  const bool has_clock = has_form(text, "dddd-dd-ddTdd:dd:ddZ");
  if (!has_clock && !has_form(text, "dddd-dd-dd")) {
    return failure(ErrorKind::kUsage,
                   "a time must be written as 2027-01-31 or 2027-01-31T00:00:00Z (UTC)");
  }
  const int year = number(text.substr(0, 4));
  const std::chrono::year_month_day day(
      std::chrono::year(year), std::chrono::month(static_cast<unsigned>(number(text.substr(5, 2)))),
      std::chrono::day(static_cast<unsigned>(number(text.substr(8, 2)))));
  const int hours = has_clock ? number(text.substr(11, 2)) : 0;
  const int minutes = has_clock ? number(text.substr(14, 2)) : 0;
  const int seconds = has_clock ? number(text.substr(17, 2)) : 0;
  if (!day.ok() || hours > 23 || minutes > 59 || seconds > 59) {
    return failure(ErrorKind::kUsage, fmt::format("'{}' does not exist", text));
  }
  if (year < kMinYear || year > kMaxYear) {
    return failure(ErrorKind::kUsage,
                   fmt::format("the year of '{}' must be {} to {}", text, kMinYear, kMaxYear));
  }
  const auto days = std::chrono::sys_days(day).time_since_epoch().count();
  return days * kDaySeconds + hours * 3600 + minutes * 60 + seconds;
}

std::string format_time(int64_t seconds) {
  const std::string text = time_text(seconds * kSecondNs);  // ...:00.000000Z
  return text.substr(0, text.find('.')) + "Z";
}

}  // namespace connectd::auth
