#include "app/access.h"

#include <utility>

#include "auth/token_file.h"

namespace connectd::app {
namespace {

auth::LocalAdmin local_admin(config::AdminLocal choice) {
  switch (choice) {
    case config::AdminLocal::kAuto:
      break;
    case config::AdminLocal::kOn:
      return auth::LocalAdmin::kOn;
    case config::AdminLocal::kOff:
      return auth::LocalAdmin::kOff;
  }
  return auth::LocalAdmin::kAuto;
}

}  // namespace

Result<std::shared_ptr<const auth::Policy>> make_policy(const config::Config& config) {
  auto policy = std::make_shared<auth::Policy>();
  auth::Credentials credentials;
  if (!config.auth.tokens.empty()) {
    auto tokens = auth::load_tokens(config.file_at(config.auth.tokens));
    if (!tokens) return failure(tokens.error().kind, "auth.tokens: " + tokens.error().text);
    policy->tokens = std::make_shared<auth::TokenTable>(std::move(*tokens));
    credentials.tokens = true;
  }
  const auto shows_certificates = [](const config::TlsPort& port) {
    return port.mode != config::TlsMode::kOff && !port.ca.empty();
  };
  policy->http_certificates = shows_certificates(config.tls.http);
  credentials.certificates = policy->http_certificates || shows_certificates(config.tls.client);
  // Both were checked when the configuration was read.
  auto certificates = auth::CertificateMap::parse(config.auth.certificates);
  if (!certificates) return failure(certificates.error());
  policy->certificates = std::move(*certificates);
  auto anonymous = auth::parse_anonymous(config.auth.anonymous);
  if (!anonymous) return failure(anonymous.error());
  policy->anonymous = auth::anonymous_roles(*anonymous, credentials);
  policy->local = auth::local_roles(local_admin(config.admin.local), credentials);
  return policy;
}

}  // namespace connectd::app
