// Reads PEM files: certificates, a key, revocation lists. Bounded, and each error names the file
// and says what to do. kNotFound, kPermission, kBadConfig, or kDisk where a read fails. On the
// caller's thread; it may block.
#pragma once

#include <string>
#include <vector>

#include "base/error.h"
#include "tls/handles.h"

namespace connectd::tls {

// Every certificate in the file, in its order; at least one.
Result<std::vector<Handle<x509_st>>> read_certificates(const std::string& path);

// Refuses a key that is encrypted, or weak, or that users other than its owner may read: an access
// list that names this process's user alone is allowed, as systemd's LoadCredential= makes it.
Result<Handle<evp_pkey_st>> read_key(const std::string& path);

// At least one.
Result<std::vector<Handle<X509_crl_st>>> read_revocations(const std::string& path);

// Why a key is too weak, or of a kind that is not supported; empty: it is good.
std::string weakness_of(const evp_pkey_st* key);

}  // namespace connectd::tls
