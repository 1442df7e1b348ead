#include "admin/authorization.h"

#include <fmt/format.h>

#include "auth/bearer.h"

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

auth::TokenSource source_of(const Request& request) {
  return {.is_encrypted = request.is_encrypted,
          .is_this_machine = request.origin != Origin::kOtherMachine,
          .network = request.remote_network};
}

// `request.principal` has none of these roles.
Refusal lacks(auth::Roles needed, const Request& request, const auth::Policy& policy) {
  const std::string role = role_text(needed);
  std::string reason = fmt::format("needs {}", role);
  if (request.principal.is_authenticated()) {
    return refuse(403, "Forbidden", fmt::format("{} has not {}", request.principal.text(), role),
                  std::move(reason));
  }
  if (!policy.tokens && policy.http_certificates) {
    return refuse(403, "Forbidden",
                  fmt::format("this needs a client certificate with {}, inside TLS: connectctl "
                              "--cert FILE --key FILE",
                              role),
                  std::move(reason));
  }
  if (!policy.tokens) {
    return refuse(
        403, "Forbidden",
        fmt::format("this needs {}, which auth.anonymous and admin.local give nobody here", role),
        std::move(reason));
  }
  // Nobody is asked for a token that must not be sent.
  if (source_of(request).is_exposed()) {
    return refuse(403, "Forbidden",
                  fmt::format("this needs a token with {}, and this connection is not encrypted: "
                              "ask from the node's own machine. Send no token here",
                              role),
                  std::move(reason));
  }
  constexpr std::string_view kShowToken =
      "connectctl --token-file FILE, or the header Authorization: Bearer TOKEN";
  std::string detail =
      policy.http_certificates
          ? fmt::format(
                "this needs a token or a client certificate with {}: {}; or inside TLS "
                "connectctl --cert FILE --key FILE",
                role, kShowToken)
          : fmt::format("this needs a token with {}: {}", role, kShowToken);
  return unauthorized(std::move(detail), std::move(reason));
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

std::optional<Refusal> Authorizer::take_token(std::string_view token,
                                              const auth::TokenTable& tokens, Request& request,
                                              const Now& now) {
  auth::TokenAnswer answer = tokens_->check(tokens, token, source_of(request), now);
  switch (answer.outcome) {
    case auth::TokenOutcome::kExposed:
      return refuse(403, "Forbidden", std::string(kExposed), std::move(answer.reason), "EXPOSED");
    case auth::TokenOutcome::kTooMany:
      return refuse(429, "Too many failures",
                    "too many tokens from this address were not good; try again in a minute",
                    std::move(answer.reason));
    case auth::TokenOutcome::kNotGood:
      return unauthorized(std::string(kNotGood), std::move(answer.reason));
    case auth::TokenOutcome::kGood:
      break;
  }
  request.principal = std::move(answer.principal);
  return std::nullopt;
}

std::optional<Refusal> Authorizer::refusal(const Guard& guard, const Needs& needs, bool verbose,
                                           Request& request, AdminFrom from, const Now& now) {
  const std::shared_ptr<const auth::Policy> policy = policy_->get();
  const auth::Roles needed = needs.roles(verbose);
  const std::string_view header = request.header("authorization");
  request.principal = request.certificate.value_or(auth::Principal::anonymous(policy->anonymous));
  if (policy->tokens && !header.empty()) {
    const auto token = auth::bearer_token(header);
    if (token && (!needed.empty() || source_of(request).is_exposed())) {
      if (auto refused = take_token(*token, *policy->tokens, request, now)) return refused;
    } else if (!needed.empty()) {
      return unauthorized("the header Authorization must be: Bearer TOKEN", "no bearer token");
    }
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
  return lacks(needed, request, *policy);
}

}  // namespace connectd::admin
