// Who asks, and whether they may: what each route needs, and the check of a request against it.
// The node that holds the connection checks, by its own policy (auth/policy.h).
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "admin/guards.h"
#include "admin/hooks.h"
#include "admin/http_message.h"
#include "auth/policy.h"
#include "auth/roles.h"
#include "auth/token_checker.h"
#include "base/clock.h"

namespace connectd::admin {

// The role that a route needs: one of several.
class Needs final {
 public:
  constexpr explicit Needs(auth::Roles any_of) : any_of_(any_of) {}
  static constexpr Needs when_verbose(auth::Roles any_of) {
    Needs needs{any_of};
    needs.only_verbose_ = true;
    return needs;
  }
  // Empty: none. `verbose`: the request asks for more than yes or no.
  constexpr auth::Roles roles(bool verbose) const {
    return only_verbose_ && !verbose ? auth::Roles() : any_of_;
  }

 private:
  auth::Roles any_of_;
  bool only_verbose_ = false;
};

inline constexpr Needs kHealthNeeds = Needs::when_verbose({auth::Role::kMonitor});
inline constexpr Needs kMonitorNeeds{{auth::Role::kMonitor}};
// The plugin then says which of the two it is.
inline constexpr Needs kDataNeeds{{auth::Role::kRead, auth::Role::kWrite}};
inline constexpr Needs kBackupNeeds{{auth::Role::kBackup}};
inline constexpr Needs kAdminNeeds{{auth::Role::kAdmin}};

// For docs: "`monitor`", ...
std::string needs_text(const Needs& needs);

struct Refusal {
  Response response;
  // For the log only: why exactly. Names no secret.
  std::string reason;
};

// On the server's thread.
class Authorizer final {
 public:
  Authorizer(std::shared_ptr<const auth::SharedPolicy> policy,
             std::shared_ptr<auth::TokenChecker> tokens)
      : policy_(std::move(policy)), tokens_(std::move(tokens)) {}

  // Sets request.principal. The answer to a request that may not pass; none: it may.
  //
  // - A token on an unencrypted connection from another machine: 403, unchecked, whatever it asks.
  // - A token that is not good: 401, and the same text for every reason; 429 after many.
  // - A caller that has shown nothing and lacks the role: 401 if a token would help, else 403.
  // - A token or certificate without the role, and another machine where the guard refuses those:
  //   403.
  //
  // Without auth.tokens the header Authorization is ignored, as everything unknown is.
  std::optional<Refusal> refusal(const Guard& guard, const Needs& needs, bool verbose,
                                 Request& request, AdminFrom from, const Now& now);

 private:
  std::optional<Refusal> take_token(std::string_view token, const auth::TokenTable& tokens,
                                    Request& request, const Now& now);

  const std::shared_ptr<const auth::SharedPolicy> policy_;
  const std::shared_ptr<auth::TokenChecker> tokens_;
};

}  // namespace connectd::admin
