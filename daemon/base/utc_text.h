// A moment as RFC 3339 has it, in UTC, with microseconds: 2026-01-02T03:04:05.678901Z. Safe in a
// signal handler, as gmtime_r() is not.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

namespace connectd {

class UtcText final {
 public:
  // `wall_ns`: Unix time, nanoseconds.
  explicit UtcText(int64_t wall_ns) {
    int64_t micros = wall_ns / 1000 - (wall_ns % 1000 < 0 ? 1 : 0);
    int64_t seconds = micros / 1'000'000 - (micros % 1'000'000 < 0 ? 1 : 0);
    micros -= seconds * 1'000'000;
    const int64_t days = seconds / kDay - (seconds % kDay < 0 ? 1 : 0);
    seconds -= days * kDay;
    put_date(days);
    put('T', seconds / 3600, 2);
    put(':', seconds / 60 % 60, 2);
    put(':', seconds % 60, 2);
    put('.', micros, 6);
    text_[used_++] = 'Z';
  }
  std::string_view view() const { return {text_, used_}; }

 private:
  static constexpr int64_t kDay = 86400;

  // Days since 1970-01-01, in years that begin on 1 March: a leap day is then the last of its year.
  void put_date(int64_t days) {
    days += 719468;  // since 0000-03-01
    const int64_t era = (days >= 0 ? days : days - 146096) / 146097;
    const int64_t day_of_era = days - era * 146097;
    const int64_t year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36524 - day_of_era / 146096) / 365;
    const int64_t day = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    const int64_t month = (5 * day + 2) / 153;  // 0: March
    put(0, era * 400 + year_of_era + (month >= 10 ? 1 : 0), 4);
    put('-', month < 10 ? month + 3 : month - 9, 2);
    put('-', day - (153 * month + 2) / 5 + 1, 2);
  }
  void put(char before, int64_t value, size_t digits) {
    if (before != 0) text_[used_++] = before;
    for (size_t i = digits; i-- > 0; value /= 10) {
      text_[used_ + i] = static_cast<char>('0' + value % 10);
    }
    used_ += digits;
  }

  char text_[27];
  size_t used_ = 0;
};

}  // namespace connectd
