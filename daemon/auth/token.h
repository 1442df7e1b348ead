// Tokens: `connectd1_ID_SECRET`, where ID is public (in logs, in the token file) and SECRET are 256
// random bits. They are made here and never chosen by people, so that one SHA-256 without salt or
// stretching is enough to store them. Pure but for the system's random numbers; any thread.
#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>

#include "base/error.h"

namespace connectd::auth {

inline constexpr std::string_view kTokenPrefix = "connectd1_";
inline constexpr size_t kMinTokenId = 8;
inline constexpr size_t kMaxTokenId = 16;

// 8 to 16 of a-z and 0-9.
bool is_token_id(std::string_view text);

struct NewToken {
  std::string id;
  std::string text;  // the secret: to be shown once, and kept nowhere
};
// An empty `id`: a random one. kUsage: it is no id.
Result<NewToken> make_token(std::string_view id);

// The ID in it; none: it has not the form of a token.
std::optional<std::string> token_id(std::string_view token);
// 64 lower-case hexadecimal digits: what a token file holds.
std::string token_hash(std::string_view token);
// Takes as long for different texts as for equal ones, if they have the same length.
bool equals_in_constant_time(std::string_view one, std::string_view other);

}  // namespace connectd::auth
