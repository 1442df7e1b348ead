// Whom the certificate of a TLS session names.
#pragma once

#include <string_view>

#include "auth/certificate.h"
#include "auth/principal.h"
#include "tls/certificate.h"

namespace connectd::net {

// Of a certificate that was checked. One that names two clients has no role. Any thread.
auth::Principal owner_of(const tls::Certificate& certificate, std::string_view cluster,
                         const auth::CertificateMap& map);

}  // namespace connectd::net
