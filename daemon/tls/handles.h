// Ownership of OpenSSL's objects, and the library context that all of them belong to. Private to
// this module: its public headers name no type of OpenSSL, so that only its own .cc files include
// <openssl/...>.
#pragma once

#include <memory>
#include <string>

struct ssl_st;
struct ssl_ctx_st;
struct bio_st;
struct x509_st;
struct X509_crl_st;
struct x509_store_st;
struct x509_store_ctx_st;
struct evp_pkey_st;
struct ossl_lib_ctx_st;

namespace connectd::tls {

// How each of them is released.
struct Free {
  void operator()(ssl_st* ssl) const;
  void operator()(ssl_ctx_st* context) const;
  void operator()(bio_st* bio) const;
  void operator()(x509_st* certificate) const;
  void operator()(X509_crl_st* list) const;
  void operator()(x509_store_st* store) const;
  void operator()(x509_store_ctx_st* context) const;
  void operator()(evp_pkey_st* key) const;
};
template <class T>
using Handle = std::unique_ptr<T, Free>;

// The context of this process: made at the first call, never freed, has the default provider, and
// reads no configuration file. What a plugin does to OpenSSL's default context (unload providers,
// set default properties) does not reach it. Any thread.
ossl_lib_ctx_st* library();

// The reasons that OpenSSL has queued on this thread, oldest first, and drops them. For texts.
std::string take_reasons();

}  // namespace connectd::tls
