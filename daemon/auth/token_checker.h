// Checks the tokens that callers show. One for the whole node, used by every port, so that what
// fails on one of them counts on all (auth/failure_limiter.h).
//
// A token is a secret that its caller sends. One that came over an unencrypted connection from
// another machine may have been read on the way: it is refused without a check, so that nobody gets
// used to sending it.
//
// Any thread: the ports have loops of their own. Only the counts are behind the lock, not the hash;
// so of threads that check at the same moment, each may be one attempt over a limit.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "auth/failure_limiter.h"
#include "auth/principal.h"
#include "auth/token_table.h"
#include "base/clock.h"
#include "base/mutex.h"

namespace connectd::auth {

// The connection that a token came over.
struct TokenSource {
  bool is_encrypted = false;
  bool is_this_machine = false;  // loopback, or one of this machine's own addresses
  std::string network{};         // whom limits count as one: net::network_of()

  // Others can read what it carries.
  bool is_exposed() const { return !is_encrypted && !is_this_machine; }
};

enum class TokenOutcome : uint8_t {
  kGood,
  kExposed,  // not checked: its source is exposed
  kTooMany,  // not checked: too many failures of this token or its source
  kNotGood,
};

struct TokenAnswer {
  TokenOutcome outcome = TokenOutcome::kNotGood;
  Principal principal{};  // kGood: whose it is
  // Else, for the log: which token, if it has the form of one, and what is wrong with it. Names no
  // secret. Callers are told none of it.
  std::string reason{};
};

class TokenChecker final {
 public:
  explicit TokenChecker(FailureLimits limits = {}) : failures_(limits) {}

  // `named_id`: the ID that the caller says its token has; the check fails, and counts, if it has
  // another. None: it says nothing of it.
  TokenAnswer check(const TokenTable& tokens, std::string_view token, const TokenSource& source,
                    const Now& now, std::optional<std::string_view> named_id = std::nullopt);

 private:
  bool may_try(const TokenSource& source, std::string_view id, Time now);
  void failed(const TokenSource& source, std::string_view id, Time now);

  Mutex mutex_;
  FailureLimiter failures_ GUARDED_BY(mutex_);
};

}  // namespace connectd::auth
