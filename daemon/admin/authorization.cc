#include "admin/authorization.h"

#include <fmt/format.h>

#include "auth/bearer.h"
#include "auth/token.h"

namespace connectd::admin {
namespace {

constexpr std::string_view kExposed =
    "a token came over an unencrypted connection from another machine: it is exposed, and was not "
    "checked. Replace it, and use this port from its own machine";
constexpr std::string_view kNotGood =
    "the token is not good: it is unknown, removed or expired (connectctl token check)";

Refusal refuse(int status, std::string_view title, std::string detail, std::string reason,
               std::string_view code = "") {
  return {problem(status, title, std::move(detail), code), std::move(reason)};
}

// RFC 9110 §11.6.1: 401 names the scheme.
Refusal unauthorized(std::string detail, std::string reason) {
  Refusal refusal = refuse(401, "Unauthorized", std::move(detail), std::move(reason));
  refusal.response.headers.emplace_back("WWW-Authenticate", "Bearer realm=\"connectd\"");
  return refusal;
}

// "the role monitor", "the role read or write"
std::string role_text(auth::Roles roles) {
  std::string text;
  for (auth::Role role : auth::kAllRoles) {
    if (roles.has(role)) {
      text += fmt::format("{}{}", text.empty() ? "the role " : " or ", auth::role_name(role));
    }
  }
  return text;
}

// For the log. What has no ID may be anything.
std::string token_text(const std::string& id, std::string_view what) {
  return id.empty() ? fmt::format("malformed token: {}", what)
                    : fmt::format("token {}: {}", id, what);
}

bool comes_in_the_clear(const Request& request) {
  return !request.is_encrypted && request.origin == Origin::kOtherMachine;
}

// `request.principal` has none of these roles.
Refusal lacks(auth::Roles needed, const Request& request, bool has_tokens) {
  const std::string role = role_text(needed);
  std::string reason = fmt::format("needs {}", role);
  if (request.principal.is_authenticated()) {
    return refuse(403, "Forbidden", fmt::format("{} has not {}", request.principal.text(), role),
                  std::move(reason));
  }
  if (!has_tokens) {
    return refuse(
        403, "Forbidden",
        fmt::format("this needs {}, which auth.anonymous and admin.local give nobody here", role),
        std::move(reason));
  }
  // Nobody is asked for a token that must not be sent.
  if (comes_in_the_clear(request)) {
    return refuse(403, "Forbidden",
                  fmt::format("this needs a token with {}, and this connection is not encrypted: "
                              "ask from the node's own machine. Send no token here",
                              role),
                  std::move(reason));
  }
  return unauthorized(
      fmt::format("this needs a token with {}: connectctl --token-file FILE, or the "
                  "header Authorization: Bearer TOKEN",
                  role),
      std::move(reason));
}

}  // namespace

std::string needs_text(const Needs& needs) {
  std::string text;
  for (auth::Role role : auth::kAllRoles) {
    if (!needs.roles(true).has(role)) continue;
    text += fmt::format("{}`{}`", text.empty() ? "" : " or ", auth::role_name(role));
  }
  return needs.roles(false).empty() ? fmt::format("none; {} with `?verbose`", text) : text;
}

std::optional<Refusal> Authorizer::take_token(std::string_view header,
                                              const auth::TokenTable& tokens, Request& request,
                                              const Now& now) {
  const auto token = auth::bearer_token(header);
  if (!token) {
    return unauthorized("the header Authorization must be: Bearer TOKEN", "no bearer token");
  }
  const std::string id = auth::token_id(*token).value_or("");
  if (!failures_.may_try(request.remote_network, id, now.time)) {
    return refuse(429, "Too many failures",
                  "too many tokens from this address were not good; try again in a minute",
                  token_text(id, "too many failures"));
  }
  auth::CheckedToken checked = tokens.check(*token, now.wall_ns);
  if (checked.verdict == auth::TokenVerdict::kGood) {
    request.principal = std::move(checked.principal);
    return std::nullopt;
  }
  failures_.failed(request.remote_network, id, now.time);
  return unauthorized(std::string(kNotGood), token_text(id, auth::verdict_text(checked.verdict)));
}

std::optional<Refusal> Authorizer::refusal(const Guard& guard, const Needs& needs, bool verbose,
                                           Request& request, AdminFrom from, const Now& now) {
  const std::shared_ptr<const auth::Policy> policy = policy_->get();
  const auth::Roles needed = needs.roles(verbose);
  const std::string_view header = request.header("authorization");
  const bool has_header = policy->tokens != nullptr && !header.empty();
  if (has_header && comes_in_the_clear(request) && auth::bearer_token(header)) {
    const std::string id = auth::token_id(*auth::bearer_token(header)).value_or("");
    return refuse(403, "Forbidden", std::string(kExposed),
                  token_text(id, "exposed by an unencrypted connection"), "EXPOSED");
  }
  request.principal = request.certificate.value_or(auth::Principal::anonymous(policy->anonymous));
  if (has_header && !needed.empty()) {
    if (auto refused = take_token(header, *policy->tokens, request, now)) return refused;
  }
  if (auto response = refusal_of_machine(guard, request, from)) {
    return Refusal{std::move(*response), "not from here"};
  }
  if (needed.empty() || request.principal.roles().has_any(needed)) return std::nullopt;
  if (!request.principal.is_authenticated() && policy->local.has_any(needed) &&
      is_local(request, from)) {
    request.principal = auth::Principal::local(policy->local | policy->anonymous);
    return std::nullopt;
  }
  return lacks(needed, request, policy->tokens != nullptr);
}

}  // namespace connectd::admin
