#include "tls/handles.h"

#include <fmt/format.h>
#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/provider.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>

#include "base/log.h"

namespace connectd::tls {

void Free::operator()(ssl_st* ssl) const { SSL_free(ssl); }
void Free::operator()(ssl_ctx_st* context) const { SSL_CTX_free(context); }
void Free::operator()(bio_st* bio) const { BIO_free_all(bio); }
void Free::operator()(x509_st* certificate) const { X509_free(certificate); }
void Free::operator()(X509_crl_st* list) const { X509_CRL_free(list); }
void Free::operator()(x509_store_st* store) const { X509_STORE_free(store); }
void Free::operator()(x509_store_ctx_st* context) const { X509_STORE_CTX_free(context); }
void Free::operator()(evp_pkey_st* key) const { EVP_PKEY_free(key); }

ossl_lib_ctx_st* library() {
  // Never freed: sessions and contexts of other threads may still use it when the process ends.
  static OSSL_LIB_CTX* const kContext = [] {
    OSSL_LIB_CTX* context = OSSL_LIB_CTX_new();
    CHECK(context != nullptr) << "no memory for an OpenSSL library context";
    // Named, so that it is there whatever the default context falls back to.
    CHECK(OSSL_PROVIDER_load(context, "default") != nullptr) << take_reasons();
    return context;
  }();
  return kContext;
}

std::string take_reasons() {
  std::string text;
  while (const unsigned long code = ERR_get_error()) {
    const char* reason = ERR_reason_error_string(code);
    if (!text.empty()) text += ", ";
    text += reason != nullptr ? reason : fmt::format("error {}", code);
  }
  return text.empty() ? "no reason given" : text;
}

}  // namespace connectd::tls
