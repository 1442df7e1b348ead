// What a caller may do who has shown neither a token nor a certificate. Pure; any thread.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "auth/roles.h"
#include "base/error.h"

namespace connectd::auth {

// What this node can know callers by.
struct Credentials {
  bool tokens = false;        // auth.tokens
  bool certificates = false;  // of clients
};

// The word of auth.anonymous that means "as the credentials say".
inline constexpr std::string_view kAutoWord = "auto";

// auth.anonymous as a list of words: kAutoWord alone, or roles; none: auto. kUsage: a word is
// unknown or occurs twice; or it is admin or backup, which nobody has who is not known.
Result<std::optional<Roles>> parse_anonymous(const std::vector<std::string>& words);
// `configured`: of auth.anonymous; none: read, write and monitor while there are no credentials,
// which is what a node without any configuration does, else nothing.
Roles anonymous_roles(std::optional<Roles> configured, Credentials credentials);

// admin.local
enum class LocalAdmin : uint8_t {
  kAuto,  // on while there are no credentials
  kOn,
  kOff,
};
// What callers on this machine have beside anonymous_roles().
Roles local_roles(LocalAdmin configured, Credentials credentials);

}  // namespace connectd::auth
