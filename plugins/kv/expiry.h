// Times in commands: how an expiry is given, checked and turned into the log's milliseconds.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

#include "resp.h"

namespace connectd::kv {

enum class TimeUnit { kSeconds, kMilliseconds };
enum class TimeBase { kRelative, kAbsolute };

struct TimeForm {
  TimeUnit unit;
  TimeBase base;
};

void reply_invalid_expiry(std::string_view command, Reply& reply);

// The expiry of SET and similar commands: must be positive. Replies the error itself.
std::optional<int64_t> parse_expiry(std::string_view text, TimeForm form, int64_t now_ms,
                                    std::string_view command, Reply& reply);

// The expiry of EXPIRE and similar commands: may be zero or negative, for a time in the past.
std::optional<int64_t> parse_deadline(std::string_view text, TimeForm form, int64_t now_ms,
                                      std::string_view command, Reply& reply);

}  // namespace connectd::kv
