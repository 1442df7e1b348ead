#include "auth/anonymous.h"

#include <fmt/format.h>

#include <algorithm>

namespace connectd::auth {
namespace {

bool has_any(Credentials credentials) { return credentials.tokens || credentials.certificates; }

}  // namespace

Result<std::optional<Roles>> parse_anonymous(const std::vector<std::string>& words) {
  if (words == std::vector{std::string(kAutoWord)}) return std::nullopt;
  if (words.empty()) return Roles();
  if (std::ranges::find(words, kAutoWord) != words.end()) {
    return failure(ErrorKind::kUsage, fmt::format("'{}' must be the only item", kAutoWord));
  }
  auto roles = parse_roles(fmt::format("{}", fmt::join(words, ",")));
  if (!roles) return failure(roles.error());
  for (Role role : {Role::kAdmin, Role::kBackup}) {
    if (!roles->has(role)) continue;
    return failure(ErrorKind::kUsage,
                   fmt::format("'{}' needs a token or a certificate; callers on this machine can "
                               "have it by admin.local",
                               role_name(role)));
  }
  return *roles;
}

Roles anonymous_roles(std::optional<Roles> configured, Credentials credentials) {
  if (configured) return *configured;
  if (has_any(credentials)) return {};
  return {Role::kRead, Role::kWrite, Role::kMonitor};
}

Roles local_roles(LocalAdmin configured, Credentials credentials) {
  switch (configured) {
    case LocalAdmin::kAuto:
      if (has_any(credentials)) return {};
      break;
    case LocalAdmin::kOn:
      break;
    case LocalAdmin::kOff:
      return {};
  }
  return {Role::kAdmin, Role::kMonitor, Role::kBackup};
}

}  // namespace connectd::auth
