#include "auth/roles.h"

#include <fmt/format.h>

#include <algorithm>
#include <vector>

#include "base/words.h"

namespace connectd::auth {
namespace {

constexpr size_t kMaxShown = 32;

const std::vector<std::string_view>& words() {
  static const std::vector<std::string_view> kWords = [] {
    std::vector<std::string_view> list;
    for (Role role : kAllRoles) list.push_back(role_name(role));
    return list;
  }();
  return kWords;
}

// A typing error that is shown must not carry what somebody pasted into the wrong place.
std::string shown(std::string_view word) {
  const bool is_plain = std::ranges::all_of(word, [](char c) { return c >= 'a' && c <= 'z'; });
  return is_plain && word.size() <= kMaxShown ? fmt::format("unknown role '{}'", word)
                                              : "unknown role";
}

Result<Role> parse_role(std::string_view word) {
  for (Role role : kAllRoles) {
    if (role_name(role) == word) return role;
  }
  const std::string_view near = nearest(word, words());
  return failure(
      ErrorKind::kUsage,
      near.empty()
          ? fmt::format("{}; must be {}, several joined with commas", shown(word), joined(words()))
          : fmt::format("{} (must be {}); did you mean '{}'?", shown(word), joined(words()), near));
}

}  // namespace

std::string_view role_name(Role role) {
  switch (role) {
    case Role::kRead:
      return "read";
    case Role::kWrite:
      return "write";
    case Role::kAdmin:
      return "admin";
    case Role::kMonitor:
      return "monitor";
    case Role::kBackup:
      return "backup";
  }
  return "?";
}

Result<Roles> parse_roles(std::string_view text) {
  if (text.empty()) {
    return failure(ErrorKind::kUsage, fmt::format("missing role; must be {}, several joined with "
                                                  "commas",
                                                  joined(words())));
  }
  Roles roles;
  for (size_t begin = 0; begin <= text.size();) {
    const size_t end = std::min(text.find(',', begin), text.size());
    auto role = parse_role(text.substr(begin, end - begin));
    if (!role) return failure(role.error());
    if (roles.has(*role)) {
      return failure(ErrorKind::kUsage, fmt::format("duplicate role '{}'", role_name(*role)));
    }
    roles |= Roles{*role};
    begin = end + 1;
  }
  return roles;
}

std::string format_roles(Roles roles) {
  std::string text;
  for (Role role : kAllRoles) {
    if (roles.has(role)) text += fmt::format("{}{}", text.empty() ? "" : ",", role_name(role));
  }
  return text.empty() ? "none" : text;
}

}  // namespace connectd::auth
