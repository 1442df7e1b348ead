#include "auth/token_checker.h"

#include <fmt/format.h>

#include "auth/token.h"

namespace connectd::auth {

TokenAnswer TokenChecker::check(const TokenTable& tokens, std::string_view token,
                                const TokenSource& source, const Now& now,
                                std::optional<std::string_view> named_id) {
  const std::string id = token_id(token).value_or("");
  const auto refuse = [&](TokenOutcome outcome, std::string_view what) {
    // What has no ID may be anything.
    return TokenAnswer{outcome,
                       {},
                       id.empty() ? fmt::format("malformed token: {}", what)
                                  : fmt::format("token {}: {}", id, what)};
  };
  if (source.is_exposed()) {
    return refuse(TokenOutcome::kExposed, "exposed by an unencrypted connection");
  }
  if (!may_try(source, id, now.time)) return refuse(TokenOutcome::kTooMany, "too many failures");
  CheckedToken checked = tokens.check(token, now.wall_ns);
  if (checked.verdict != TokenVerdict::kGood) {
    failed(source, id, now.time);
    return refuse(TokenOutcome::kNotGood, verdict_text(checked.verdict));
  }
  if (named_id && *named_id != id) {
    failed(source, id, now.time);
    return refuse(TokenOutcome::kNotGood, "the user name is neither default nor the token's id");
  }
  return {TokenOutcome::kGood, std::move(checked.principal), ""};
}

bool TokenChecker::may_try(const TokenSource& source, std::string_view id, Time now) {
  MutexLock lock(mutex_);
  return failures_.may_try(source.network, id, now);
}

void TokenChecker::failed(const TokenSource& source, std::string_view id, Time now) {
  MutexLock lock(mutex_);
  failures_.failed(source.network, id, now);
}

}  // namespace connectd::auth
