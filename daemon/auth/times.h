// Points in time as people write them: when a token or a certificate ends. UTC, in seconds since
// 1970. Pure functions; any thread.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "base/error.h"

namespace connectd::auth {

inline constexpr int64_t kDaySeconds = 24 * 60 * 60;

// Of "2027-01-31T00:00:00Z", or "2027-01-31", which is its beginning. kUsage: it is neither, no
// such day exists, or the year is not of 2023 to 2115.
Result<int64_t> parse_time(std::string_view text);
// "2027-01-31T00:00:00Z". For what parse_time() gave.
std::string format_time(int64_t seconds);

}  // namespace connectd::auth
