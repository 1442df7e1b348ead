#include "client/access.h"

#include <fmt/format.h>

#include <utility>

#include "auth/audit_line.h"
#include "auth/token.h"
#include "net/certificate_owner.h"
#include "net/origin.h"
#include "wire/framing.h"

namespace connectd::client {
namespace {

// Clients know the texts of Redis.
constexpr std::string_view kWrong = "invalid username-password pair or user is disabled.";
constexpr std::string_view kNoPasswords =
    "AUTH <password> called without any password configured for the default user. Are you sure "
    "your configuration is correct? (auth.tokens is not set)";
constexpr std::string_view kExposed =
    "the token came over an unencrypted connection from another machine: it is exposed, and was "
    "not checked. Replace it, and use TLS";
constexpr std::string_view kTooMany =
    "too many tokens from this address were not good; try again in a minute";
constexpr int64_t kNsPerSecond = 1'000'000'000;

}  // namespace

Source source_of(net::Stream& stream) {
  boost::system::error_code error;
  const auto remote = stream.socket().remote_endpoint(error);
  const bool is_encrypted = stream.session() != nullptr;
  if (error) return {.token = {.is_encrypted = is_encrypted}, .address = ""};
  const auto local = stream.socket().local_endpoint(error);
  const bool is_here =
      !error && net::origin_of(remote.address(), local.address()) != net::Origin::kOtherMachine;
  return {.token = {.is_encrypted = is_encrypted,
                    .is_this_machine = is_here,
                    .network = net::network_of(remote.address())},
          .address = net::without_mapping(remote.address()).to_string()};
}

void Access::set(std::shared_ptr<const auth::Policy> policy, std::string cluster) {
  policy_ = std::move(policy);
  cluster_ = std::move(cluster);
}

Caller Access::caller_of(const tls::Session* session) const {
  if (!policy_) return {};
  if (session != nullptr && session->other() != nullptr) {
    return {net::owner_of(*session->other(), cluster_, policy_->certificates), {}};
  }
  return {auth::Principal::anonymous(policy_->anonymous), {}};
}

std::optional<CredentialsError> Access::authenticate(Caller& caller, const Source& source,
                                                     std::string_view user, std::string_view secret,
                                                     const Now& now) {
  if (!policy_ || !policy_->tokens) return CredentialsError{"ERR", std::string(kNoPasswords)};
  // Who names another user than the default one says which token it shows.
  const auto named_id = user == wire::kDefaultUser ? std::nullopt : std::optional(user);
  auth::TokenAnswer answer = tokens_->check(*policy_->tokens, secret, source.token, now, named_id);
  const auto refuse = [&](std::string_view code, std::string_view text) {
    auth::write({.is_refusal = true,
                 .principal = caller.principal.text(),
                 .address = source.address,
                 .outcome = fmt::format("{} ({})", code, answer.reason),
                 .what = "AUTH"});
    return CredentialsError{code, std::string(text)};
  };
  switch (answer.outcome) {
    case auth::TokenOutcome::kExposed:
      return refuse("EXPOSED", kExposed);
    case auth::TokenOutcome::kTooMany:
      return refuse("WRONGPASS", kTooMany);
    case auth::TokenOutcome::kNotGood:
      return refuse("WRONGPASS", kWrong);
    case auth::TokenOutcome::kGood:
      break;
  }
  caller = {std::move(answer.principal), auth::token_hash(secret)};
  return std::nullopt;
}

bool Access::check_again(Caller& caller, const tls::Session* session, const Now& now) const {
  if (caller.token_hash.empty()) {
    caller = caller_of(session);
    return true;
  }
  if (!policy_ || !policy_->tokens) return false;
  const auto found = policy_->tokens->entries().find(caller.principal.name());
  if (found == policy_->tokens->entries().end() || found->second.hash != caller.token_hash) {
    return false;
  }
  caller.principal = auth::Principal::token(found->first, found->second.roles, found->second.until);
  return !has_ended(caller, now);
}

bool Access::has_ended(const Caller& caller, const Now& now) {
  return caller.principal.until() && *caller.principal.until() <= now.wall_ns / kNsPerSecond;
}

node::Rights Access::rights_of(const Caller& caller) const {
  if (!policy_) return {};
  const auth::Roles roles = caller.principal.roles();
  return {roles.has(auth::Role::kRead), roles.has(auth::Role::kWrite)};
}

bool Access::is_known(const Caller& caller) const {
  if (!policy_ || caller.principal.is_authenticated()) return true;
  return caller.principal.roles().has_any({auth::Role::kRead, auth::Role::kWrite});
}

}  // namespace connectd::client
