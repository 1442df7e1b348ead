// The tokens that a node accepts, from the text of a token file:
//
//   # a comment
//   ID sha256hex ROLES [expires=2027-01-31T00:00:00Z]
//
// separated by blanks. A table never changes: a reload makes another, and whoever checks a token
// holds the table while it does.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>

#include "auth/principal.h"
#include "auth/roles.h"
#include "base/error.h"

namespace connectd::auth {

inline constexpr size_t kMaxTokenFileBytes = 1 << 20;
inline constexpr size_t kMaxTokens = 10'000;

struct TokenEntry {
  std::string hash;  // token_hash() of the token
  Roles roles;
  std::optional<int64_t> until;  // Unix seconds; none: it has no end
  size_t line = 0;
};

// For logs. Clients are told none of it: who guesses must not learn that an ID exists.
enum class TokenVerdict : uint8_t {
  kGood,
  kMalformed,  // it has not the form of a token
  kUnknown,    // no token has its ID
  kWrong,      // the token with its ID is another
  kExpired,
  kNoClock,  // it has an end, and this machine's clock was not set yet
};
// "unknown id", ...
std::string_view verdict_text(TokenVerdict verdict);

struct CheckedToken {
  TokenVerdict verdict = TokenVerdict::kMalformed;
  std::string id{};       // as it was shown; empty: malformed
  Principal principal{};  // kGood
};

// Immutable; any thread.
class TokenTable final {
 public:
  TokenTable() = default;
  // `name` of the file, for errors. kBadConfig: all that is wrong in it, each with its line. No
  // text of the file is repeated but IDs: somebody may have written a token where its hash belongs.
  static Result<TokenTable> parse(std::string_view text, const std::string& name);

  // One hash and one comparison for every text that has the form of a token. `wall_ns`: Unix time,
  // in nanoseconds.
  CheckedToken check(std::string_view token, int64_t wall_ns) const;
  // By ID.
  const std::map<std::string, TokenEntry, std::less<>>& entries() const { return entries_; }

 private:
  std::map<std::string, TokenEntry, std::less<>> entries_;
};

// A line of the file, without its end.
std::string token_line(std::string_view id, const TokenEntry& entry);

}  // namespace connectd::auth
