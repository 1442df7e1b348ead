#include "tls/verify.h"

#include <openssl/ssl.h>
#include <openssl/x509.h>
#include <openssl/x509_vfy.h>
#include <openssl/x509v3.h>

#include "base/clock.h"
#include "tls/session.h"

namespace connectd::tls {
namespace {

constexpr int64_t kNsPerSecond = 1'000'000'000;
// As OpenSSL's level 2 for keys and signatures: 112 bits of security.
constexpr int kVerifySecurityLevel = 2;

bool is_address(const std::string& host) {
  ASN1_OCTET_STRING* address = a2i_IPADDRESS(host.c_str());
  ASN1_OCTET_STRING_free(address);
  return address != nullptr;
}

std::string joined(const std::vector<std::string>& names) {
  constexpr size_t kMaxShown = 4;
  std::string text;
  for (size_t i = 0; i < names.size() && i < kMaxShown; ++i) {
    text += (i > 0 ? ", " : "") + names[i].substr(0, 256);
  }
  if (names.size() > kMaxShown) text += ", ...";
  return text.empty() ? "none" : text;
}

bool has_uri(X509* certificate, std::string_view uri) {
  auto* names = static_cast<GENERAL_NAMES*>(
      X509_get_ext_d2i(certificate, NID_subject_alt_name, nullptr, nullptr));
  bool found = false;
  for (int i = 0; i < sk_GENERAL_NAME_num(names) && !found; ++i) {
    int type = 0;
    const auto* value = static_cast<const ASN1_STRING*>(
        GENERAL_NAME_get0_value(sk_GENERAL_NAME_value(names, i), &type));
    if (type != GEN_URI) continue;
    found = std::string_view(reinterpret_cast<const char*>(ASN1_STRING_get0_data(value)),
                             static_cast<size_t>(ASN1_STRING_length(value))) == uri;
  }
  GENERAL_NAMES_free(names);
  return found;
}

// Why the certificate is not of the one who was dialled; empty: it is.
std::string wrong_name(X509* certificate, const Expected& expected) {
  const Certificate facts = facts_of(certificate);
  if (!expected.uri.empty()) {
    if (has_uri(certificate, expected.uri)) return "";
    return fmt::format(
        "is not of {} (its URIs: {}): check which node has this address, and "
        "`connectctl cert show` its file",
        expected.uri, joined(facts.uris));
  }
  // A zone is this machine's name for an interface.
  std::string host = expected.host.substr(0, expected.host.find('%'));
  if (is_address(host)) {
    if (X509_check_ip_asc(certificate, host.c_str(), 0) == 1) return "";
    return fmt::format("is not of the address {} (its addresses: {}; a CN does not count)", host,
                       joined(facts.addresses));
  }
  if (host.ends_with('.')) host.pop_back();
  constexpr unsigned kFlags =
      X509_CHECK_FLAG_NEVER_CHECK_SUBJECT | X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS;
  if (X509_check_host(certificate, host.data(), host.size(), kFlags, nullptr) == 1) return "";
  return fmt::format("is not of {} (its DNS names: {}; a CN does not count)", host,
                     joined(facts.dns_names));
}

// Stricter than OpenSSL, which takes a certificate without extended key usage for any purpose.
std::string wrong_purpose(X509* certificate, const Check& check) {
  const bool has_any = (X509_get_extension_flags(certificate) & EXFLAG_XKUSAGE) != 0;
  const uint32_t usage = has_any ? X509_get_extended_key_usage(certificate) : 0;
  const bool both = check.options.use == Use::kPeers;
  std::string missing;
  if ((both || check.is_of_server) && (usage & XKU_SSL_SERVER) == 0) missing = "serverAuth";
  if ((both || !check.is_of_server) && (usage & XKU_SSL_CLIENT) == 0) {
    missing += missing.empty() ? "clientAuth" : " and clientAuth";
  }
  if (missing.empty()) return "";
  return fmt::format("is for another purpose: its extendedKeyUsage lacks {}", missing);
}

bool is_foreign(int code) {
  switch (code) {
    case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT:
    case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY:
    case X509_V_ERR_UNABLE_TO_VERIFY_LEAF_SIGNATURE:
    case X509_V_ERR_DEPTH_ZERO_SELF_SIGNED_CERT:
    case X509_V_ERR_SELF_SIGNED_CERT_IN_CHAIN:
    case X509_V_ERR_CERT_SIGNATURE_FAILURE:
    case X509_V_ERR_CERT_UNTRUSTED:
      return true;
    default:
      return false;
  }
}

// What is wrong with `certificate`, after "its certificate (...) ".
std::string fault(int code, const Certificate& certificate, const Check& check) {
  if (is_foreign(code)) {
    return fmt::format(
        "is of no CA in {}: `connectctl cert show` that file, and add the CA if it is "
        "to be trusted",
        check.files.authorities);
  }
  const std::string now = second_text(seconds_now());
  switch (code) {
    case X509_V_ERR_CERT_HAS_EXPIRED:
      return fmt::format(
          "has expired at {} (the clock here: {}): renew it and reload the other "
          "side",
          second_text(certificate.not_after), now);
    case X509_V_ERR_CERT_NOT_YET_VALID:
      return fmt::format(
          "is not valid before {}, and the clock here says {}: probably a clock is "
          "wrong, here or where it was made",
          second_text(certificate.not_before), now);
    case X509_V_ERR_CERT_REVOKED:
      return fmt::format("is revoked by {}", check.files.revocations);
    case X509_V_ERR_CRL_HAS_EXPIRED:
      return fmt::format(
          "cannot be checked: the list of its CA in {} is past its next update, and "
          "tls.crl_stale is refuse: install a new list and reload",
          check.files.revocations);
    case X509_V_ERR_INVALID_PURPOSE:
      return fmt::format(
          "is for another purpose: its extendedKeyUsage or keyUsage does not allow "
          "{}",
          check.is_of_server ? "serverAuth" : "clientAuth");
    case X509_V_ERR_EE_KEY_TOO_SMALL:
    case X509_V_ERR_CA_KEY_TOO_SMALL:
      return "has a key that is too weak: RSA of 2048 bits, or P-256, at least";
    case X509_V_ERR_CA_MD_TOO_WEAK:
      return "is signed with a hash that is too weak: SHA-256 at least";
    default:
      return fmt::format("is refused: {}", X509_verify_cert_error_string(code));
  }
}

// Called by OpenSSL for each certificate, and for each error in it; 1: go on.
int on_finding(int good, X509_STORE_CTX* context) {
  if (good == 1) return 1;
  auto& check = *static_cast<Check*>(X509_STORE_CTX_get_app_data(context));
  const int code = X509_STORE_CTX_get_error(context);
  const bool is_stale = code == X509_V_ERR_CRL_HAS_EXPIRED || code == X509_V_ERR_CRL_NOT_YET_VALID;
  // Not every CA has a list. One from the future is a matter of clocks, and lists what it lists.
  if (code == X509_V_ERR_UNABLE_TO_GET_CRL || code == X509_V_ERR_CRL_NOT_YET_VALID ||
      (is_stale && check.options.stale_crl == StaleCrl::kWarn)) {
    X509_STORE_CTX_set_error(context, X509_V_OK);
    return 1;
  }
  X509* current = X509_STORE_CTX_get_current_cert(context);
  const Certificate facts = current != nullptr ? facts_of(current) : Certificate{};
  const bool is_above = X509_STORE_CTX_get_error_depth(context) > 0 && !is_foreign(code);
  X509* leaf = X509_STORE_CTX_get0_cert(context);
  check.refusal = fmt::format(
      "{} ({}) {}", is_above ? "the CA of its certificate" : "its certificate",
      name_of(is_above || leaf == nullptr ? facts : facts_of(leaf)), fault(code, facts, check));
  return 0;
}

}  // namespace

int64_t seconds_now() { return read_clocks().wall_ns / kNsPerSecond; }

bool verify_chain(x509_store_ctx_st* context, Check& check) {
  X509_STORE_CTX_set_app_data(context, &check);
  X509_STORE_CTX_set_verify_cb(context, on_finding);
  const bool good = X509_verify_cert(context) == 1;
  // The context may live longer than the check.
  X509_STORE_CTX_set_app_data(context, nullptr);
  X509* leaf = X509_STORE_CTX_get0_cert(context);
  if (!good) {
    if (check.refusal.empty()) {
      check.refusal = fmt::format("its certificate cannot be checked: {}",
                                  X509_verify_cert_error_string(X509_STORE_CTX_get_error(context)));
    }
    return false;
  }
  std::string why = wrong_purpose(leaf, check);
  int code = X509_V_ERR_INVALID_PURPOSE;
  if (why.empty() && check.expected != nullptr) {
    why = wrong_name(leaf, *check.expected);
    code = X509_V_ERR_HOSTNAME_MISMATCH;
  }
  if (why.empty()) {
    X509_STORE_CTX_set_error(context, X509_V_OK);
    return true;
  }
  check.refusal = fmt::format("its certificate ({}) {}", name_of(facts_of(leaf)), why);
  X509_STORE_CTX_set_error(context, code);
  return false;
}

Handle<x509_store_ctx_st> begin_check(x509_store_st* store, ssl_st* ssl, bool is_of_server) {
  Handle<x509_store_ctx_st> context(X509_STORE_CTX_new_ex(library(), nullptr));
  X509* leaf = SSL_get0_peer_certificate(ssl);
  if (!context ||
      X509_STORE_CTX_init(context.get(), store, leaf, SSL_get_peer_cert_chain(ssl)) != 1 ||
      X509_STORE_CTX_set_default(context.get(), is_of_server ? "ssl_server" : "ssl_client") != 1) {
    return nullptr;
  }
  X509_VERIFY_PARAM_set_auth_level(X509_STORE_CTX_get0_param(context.get()), kVerifySecurityLevel);
  return context;
}

}  // namespace connectd::tls
