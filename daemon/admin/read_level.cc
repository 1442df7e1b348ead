#include "admin/read_level.h"

#include <fmt/format.h>

#include <string>

#include "admin/limits.h"
#include "config/values.h"

namespace connectd::admin {
namespace {

std::string_view trimmed(std::string_view text) {
  while (!text.empty() && (text.front() == ' ' || text.front() == '\t')) text.remove_prefix(1);
  while (!text.empty() && (text.back() == ' ' || text.back() == '\t')) text.remove_suffix(1);
  return text;
}

}  // namespace

Result<node::ReadOptions> parse_read_level(std::string_view text) {
  auto wrong = [](std::string why) { return failure(ErrorKind::kUsage, std::move(why)); };
  node::ReadOptions read;
  const size_t end = std::min(text.find(';'), text.size());
  const std::string_view level = trimmed(text.substr(0, end));
  if (level == "lease") {
    read.level = node::ReadLevel::kLease;
  } else if (level == "stale") {
    read.level = node::ReadLevel::kStale;
  } else if (level != "linearizable" && !level.empty()) {
    return wrong(fmt::format("unknown read level '{}': must be linearizable, lease or stale",
                             level.substr(0, kMaxShownText)));
  }
  std::string_view rest = text.substr(end);
  while (!rest.empty()) {
    rest.remove_prefix(1);  // ';'
    const size_t length = std::min(rest.find(';'), rest.size());
    const std::string_view bound = trimmed(rest.substr(0, length));
    rest.remove_prefix(length);
    const size_t equals = std::min(bound.find('='), bound.size());
    const std::string_view name = trimmed(bound.substr(0, equals));
    const std::string_view value =
        equals == bound.size() ? std::string_view() : trimmed(bound.substr(equals + 1));
    if (name != "max-age" && name != "min-index") {
      return wrong(fmt::format("unknown bound '{}': must be max-age or min-index",
                               name.substr(0, kMaxShownText)));
    }
    if (read.level != node::ReadLevel::kStale) {
      return wrong(fmt::format("{} is for stale reads only: write stale; {}={}", name, name,
                               value.substr(0, kMaxShownText)));
    }
    if (name == "max-age") {
      if (read.max_age) return wrong("duplicate max-age");
      auto age = config::parse_duration(value);
      if (!age) return wrong(fmt::format("max-age: {}", age.error()));
      read.max_age = *age;
    } else {
      if (read.min_index) return wrong("duplicate min-index");
      auto index = config::parse_integer(value);
      if (!index) return wrong(fmt::format("min-index: {}", index.error()));
      read.min_index = Index(*index);
    }
  }
  return read;
}

}  // namespace connectd::admin
