#include "expiry.h"

#include <algorithm>
#include <string>

#include "commands.h"
#include "number.h"

namespace connectd::kv {
namespace {

// False on overflow.
bool to_log_time(int64_t& value, TimeForm form, int64_t now_ms) {
  if (form.unit == TimeUnit::kSeconds && __builtin_mul_overflow(value, int64_t{1000}, &value)) {
    return false;
  }
  if (form.base == TimeBase::kRelative && __builtin_add_overflow(value, now_ms, &value)) {
    return false;
  }
  value = std::min(value, kNever - 1);  // the last millisecond means no expiry
  return true;
}

}  // namespace

void reply_invalid_expiry(std::string_view command, Reply& reply) {
  std::string text = "ERR invalid expire time in '";
  text += command;
  text += "' command";
  reply.error(text);
}

std::optional<int64_t> parse_expiry(std::string_view text, TimeForm form, int64_t now_ms,
                                    std::string_view command, Reply& reply) {
  auto value = parse_integer(text);
  if (!value) {
    reply.error(kNotAnInteger);
    return std::nullopt;
  }
  if (*value <= 0 || !to_log_time(*value, form, now_ms) || *value <= 0) {
    reply_invalid_expiry(command, reply);
    return std::nullopt;
  }
  return value;
}

std::optional<int64_t> parse_deadline(std::string_view text, TimeForm form, int64_t now_ms,
                                      std::string_view command, Reply& reply) {
  auto value = parse_integer(text);
  if (!value) {
    reply.error(kNotAnInteger);
    return std::nullopt;
  }
  if (!to_log_time(*value, form, now_ms)) {
    reply_invalid_expiry(command, reply);
    return std::nullopt;
  }
  return value;
}

}  // namespace connectd::kv
