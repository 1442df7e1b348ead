#include "net/certificate_owner.h"

#include <utility>

namespace connectd::net {

auth::Principal owner_of(const tls::Certificate& certificate, std::string_view cluster,
                         const auth::CertificateMap& map) {
  const auth::CertificateFacts facts{.units = certificate.units,
                                     .common_names = certificate.common_names,
                                     .dns_names = certificate.dns_names,
                                     .uris = certificate.uris,
                                     .fingerprint = certificate.fingerprint,
                                     .until = certificate.not_after};
  auto owner = auth::owner_of(facts, cluster, map);
  if (owner) return std::move(owner->principal);
  return auth::Principal::certificate(certificate.fingerprint, {}, certificate.not_after);
}

}  // namespace connectd::net
