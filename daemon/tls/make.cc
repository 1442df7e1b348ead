#include "tls/make.h"

#include <openssl/bio.h>
#include <openssl/bn.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/rand.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>

#include <algorithm>
#include <array>

#include "base/log.h"
#include "base/random.h"
#include "tls/pem_files.h"

namespace connectd::tls {
namespace {

constexpr long kVersion3 = 2;
constexpr long kListVersion2 = 1;

Error no_memory() {
  return {ErrorKind::kInternal, fmt::format("OpenSSL cannot make this: {}", take_reasons())};
}

template <class Write>
std::string pem_of(Write write) {
  Handle<bio_st> text(BIO_new(BIO_s_mem()));
  CHECK(text != nullptr && write(text.get()) == 1) << take_reasons();
  char* bytes = nullptr;
  const long size = BIO_get_mem_data(text.get(), &bytes);
  return std::string(bytes, static_cast<size_t>(size));
}

std::string key_text(evp_pkey_st* key) {
  return pem_of([&](BIO* to) {
    return PEM_write_bio_PKCS8PrivateKey(to, key, nullptr, nullptr, 0, nullptr, nullptr);
  });
}

std::string certificate_text(x509_st* certificate) {
  return pem_of([&](BIO* to) { return PEM_write_bio_X509(to, certificate); });
}

Handle<evp_pkey_st> make_key() {
  return Handle<evp_pkey_st>(EVP_PKEY_Q_keygen(library(), nullptr, "EC", "P-256"));
}

// Random, so that no two certificates of a CA have the same one.
bool set_serial(x509_st* certificate) {
  std::array<uint8_t, 16> bytes = random_128();
  bytes[0] = (bytes[0] & 0x3f) | 0x40;  // positive, and always as long
  BIGNUM* number = BN_bin2bn(bytes.data(), static_cast<int>(bytes.size()), nullptr);
  const bool good = number != nullptr &&
                    BN_to_ASN1_INTEGER(number, X509_get_serialNumber(certificate)) != nullptr;
  BN_free(number);
  return good;
}

bool add_extension(x509_st* certificate, X509V3_CTX* context, int nid, const char* value) {
  X509_EXTENSION* extension = X509V3_EXT_conf_nid(nullptr, context, nid, value);
  const bool good = extension != nullptr && X509_add_ext(certificate, extension, -1) == 1;
  X509_EXTENSION_free(extension);
  return good;
}

bool add_name(GENERAL_NAMES* names, int type, ASN1_STRING* value) {
  GENERAL_NAME* name = GENERAL_NAME_new();
  if (name == nullptr || value == nullptr) {
    GENERAL_NAME_free(name);
    ASN1_STRING_free(value);
    return false;
  }
  GENERAL_NAME_set0_value(name, type, value);
  return sk_GENERAL_NAME_push(names, name) > 0;
}

ASN1_STRING* text_value(const std::string& text) {
  ASN1_STRING* value = ASN1_STRING_type_new(V_ASN1_IA5STRING);
  if (value != nullptr) ASN1_STRING_set(value, text.data(), static_cast<int>(text.size()));
  return value;
}

bool add_alternative_names(x509_st* certificate, const Request& request) {
  if (request.uris.empty() && request.hosts.empty()) return true;
  GENERAL_NAMES* names = GENERAL_NAMES_new();
  bool good = names != nullptr;
  for (const std::string& uri : request.uris) {
    good = good && add_name(names, GEN_URI, text_value(uri));
  }
  for (const std::string& host : request.hosts) {
    ASN1_OCTET_STRING* address = a2i_IPADDRESS(host.c_str());
    good = good && (address != nullptr ? add_name(names, GEN_IPADD, address)
                                       : add_name(names, GEN_DNS, text_value(host)));
  }
  ERR_clear_error();  // of names that are no addresses
  good = good && X509_add1_ext_i2d(certificate, NID_subject_alt_name, names, 0, 0) == 1;
  GENERAL_NAMES_free(names);
  return good;
}

bool set_times(x509_st* certificate, const Validity& validity) {
  return ASN1_TIME_set(X509_getm_notBefore(certificate), validity.from) != nullptr &&
         ASN1_TIME_set(X509_getm_notAfter(certificate), validity.until) != nullptr;
}

Result<void> check_common_name(const std::string& name) {
  // The bound is the standard's.
  constexpr size_t kMaxBytes = 64;
  if (!name.empty() && name.size() <= kMaxBytes && printable(name) == name) return {};
  return failure(ErrorKind::kUsage, fmt::format("'{}' must be a name of 1 to {} printable bytes",
                                                printable(name, 80), kMaxBytes));
}

// A certificate without extensions and signature.
Handle<x509_st> begin(const std::string& common_name, const Validity& validity, evp_pkey_st* key,
                      const X509_NAME* issuer) {
  Handle<x509_st> made(X509_new_ex(library(), nullptr));
  if (!made) return nullptr;
  X509_NAME* subject = X509_get_subject_name(made.get());
  const auto* bytes = reinterpret_cast<const unsigned char*>(common_name.data());
  const bool good = X509_set_version(made.get(), kVersion3) == 1 && set_serial(made.get()) &&
                    X509_NAME_add_entry_by_NID(subject, NID_commonName, MBSTRING_UTF8, bytes,
                                               static_cast<int>(common_name.size()), -1, 0) == 1 &&
                    X509_set_issuer_name(made.get(), issuer != nullptr ? issuer : subject) == 1 &&
                    set_times(made.get(), validity) && X509_set_pubkey(made.get(), key) == 1;
  return good ? std::move(made) : nullptr;
}

}  // namespace

Authority::Authority(Handle<x509_st> certificate, Handle<evp_pkey_st> key)
    : certificate_(std::move(certificate)),
      key_(std::move(key)),
      facts_(facts_of(certificate_.get())) {}

Result<Authority> Authority::make(const std::string& name, const Validity& validity) {
  if (Result<void> good = check_common_name(name); !good) return failure(good.error());
  ERR_clear_error();
  Handle<evp_pkey_st> key = make_key();
  if (!key) return failure(no_memory());
  Handle<x509_st> made = begin(name, validity, key.get(), nullptr);
  if (!made) return failure(no_memory());
  X509V3_CTX context;
  X509V3_set_ctx(&context, made.get(), made.get(), nullptr, nullptr, 0);
  // Its own certificates are all below it: it signs no further CA.
  const bool good =
      add_extension(made.get(), &context, NID_basic_constraints, "critical,CA:TRUE,pathlen:0") &&
      add_extension(made.get(), &context, NID_key_usage, "critical,keyCertSign,cRLSign") &&
      add_extension(made.get(), &context, NID_subject_key_identifier, "hash") &&
      X509_sign(made.get(), key.get(), EVP_sha256()) > 0;
  if (!good) return failure(no_memory());
  return Authority(std::move(made), std::move(key));
}

Result<Authority> Authority::load(const std::string& certificate_path,
                                  const std::string& key_path) {
  Result<std::vector<Handle<x509_st>>> read = read_certificates(certificate_path);
  if (!read) return failure(read.error());
  Handle<x509_st> certificate = std::move(read->front());
  Result<Handle<evp_pkey_st>> key = read_key(key_path);
  if (!key) return failure(key.error());
  if (X509_check_ca(certificate.get()) != 1) {
    return failure(ErrorKind::kBadConfig,
                   fmt::format("{}: is not the certificate of a CA", certificate_path));
  }
  if (X509_check_private_key(certificate.get(), key->get()) != 1) {
    return failure(ErrorKind::kBadConfig,
                   fmt::format("{}: is not the key of {}", key_path, certificate_path));
  }
  ERR_clear_error();
  return Authority(std::move(certificate), std::move(*key));
}

std::string Authority::certificate_pem() const { return certificate_text(certificate_.get()); }

std::string Authority::key_pem() const { return key_text(key_.get()); }

Result<Made> Authority::issue(const Request& request) const {
  if (Result<void> good = check_common_name(request.common_name); !good) {
    return failure(good.error());
  }
  ERR_clear_error();
  Handle<evp_pkey_st> key = make_key();
  if (!key) return failure(no_memory());
  const Validity validity{request.validity.from,
                          std::min(request.validity.until, facts_.not_after)};
  Handle<x509_st> made =
      begin(request.common_name, validity, key.get(), X509_get_subject_name(certificate_.get()));
  if (!made) return failure(no_memory());
  std::string purposes = request.is_for_servers ? "serverAuth" : "";
  if (request.is_for_clients) purposes += purposes.empty() ? "clientAuth" : ",clientAuth";
  X509V3_CTX context;
  X509V3_set_ctx(&context, certificate_.get(), made.get(), nullptr, nullptr, 0);
  const bool good =
      add_extension(made.get(), &context, NID_basic_constraints, "critical,CA:FALSE") &&
      add_extension(made.get(), &context, NID_key_usage, "critical,digitalSignature") &&
      (purposes.empty() ||
       add_extension(made.get(), &context, NID_ext_key_usage, purposes.c_str())) &&
      add_extension(made.get(), &context, NID_subject_key_identifier, "hash") &&
      add_extension(made.get(), &context, NID_authority_key_identifier, "keyid:always") &&
      add_alternative_names(made.get(), request) &&
      X509_sign(made.get(), key_.get(), EVP_sha256()) > 0;
  if (!good) return failure(no_memory());
  return Made{certificate_text(made.get()), key_text(key.get())};
}

namespace {

// The list that `before` is, without its signature, or a new one.
Result<Handle<X509_crl_st>> begin_list(std::string_view before, x509_st* authority) {
  Handle<X509_crl_st> list(X509_CRL_new_ex(library(), nullptr));
  if (!list) return failure(no_memory());
  if (before.empty()) {
    if (X509_CRL_set_version(list.get(), kListVersion2) != 1 ||
        X509_CRL_set_issuer_name(list.get(), X509_get_subject_name(authority)) != 1) {
      return failure(no_memory());
    }
    return list;
  }
  Handle<bio_st> reader(BIO_new_mem_buf(before.data(), static_cast<int>(before.size())));
  Handle<X509_crl_st> old(PEM_read_bio_X509_CRL(reader.get(), nullptr, nullptr, nullptr));
  if (!old) {
    return failure(ErrorKind::kBadConfig,
                   fmt::format("the revocation list cannot be read: {}", take_reasons()));
  }
  if (X509_NAME_cmp(X509_CRL_get_issuer(old.get()), X509_get_subject_name(authority)) != 0 ||
      X509_CRL_verify(old.get(), X509_get0_pubkey(authority)) != 1) {
    ERR_clear_error();
    return failure(ErrorKind::kBadConfig, "the revocation list is of another CA");
  }
  return old;
}

// Why issue() could not make it again; empty: it can. Texts of `facts` that are not the bytes of
// the name have a backslash or are cut.
std::string unrepeatable(x509_st* certificate, const Certificate& facts) {
  if (X509_NAME_entry_count(X509_get_subject_name(certificate)) != 1 ||
      facts.common_names.size() != 1) {
    return "its subject must be one CN";
  }
  auto* names = static_cast<GENERAL_NAMES*>(
      X509_get_ext_d2i(certificate, NID_subject_alt_name, nullptr, nullptr));
  const size_t all = names == nullptr ? 0 : static_cast<size_t>(sk_GENERAL_NAME_num(names));
  GENERAL_NAMES_free(names);
  ERR_clear_error();
  if (all != facts.uris.size() + facts.dns_names.size() + facts.addresses.size()) {
    return "it has other names than URIs, DNS names and addresses, or too many";
  }
  for (const auto* list : {&facts.common_names, &facts.uris, &facts.dns_names}) {
    for (const std::string& name : *list) {
      if (name.empty() || name.find('\\') != std::string::npos || name.ends_with("...")) {
        return fmt::format("the name '{}' cannot be repeated", name);
      }
    }
  }
  constexpr uint32_t kOurs = XKU_SSL_SERVER | XKU_SSL_CLIENT;
  const bool limited = (X509_get_extension_flags(certificate) & EXFLAG_XKUSAGE) != 0;
  const uint32_t uses = limited ? X509_get_extended_key_usage(certificate) : 0;
  if (uses == 0 || (uses & ~kOurs) != 0) {
    return "its extendedKeyUsage must be serverAuth, clientAuth or both";
  }
  return X509_check_ca(certificate) != 0 ? "it is of a CA" : "";
}

}  // namespace

Result<Request> Authority::request_of(const std::string& certificate_path,
                                      std::string_view revocations) const {
  Result<std::vector<Handle<x509_st>>> read = read_certificates(certificate_path);
  if (!read) return failure(read.error());
  x509_st* certificate = read->front().get();
  const Certificate facts = facts_of(certificate);
  const auto no = [&](std::string_view why) {
    return failure(ErrorKind::kRefused, fmt::format("{}: {}", certificate_path, why));
  };
  ERR_clear_error();
  // Its issuer is what somebody wrote: the names in it count only with the signature.
  if (X509_NAME_cmp(X509_get_issuer_name(certificate), X509_get_subject_name(certificate_.get())) !=
          0 ||
      X509_verify(certificate, key_.get()) != 1) {
    ERR_clear_error();
    return no(fmt::format("{} is not signed by {}", name_of(facts), facts_.subject));
  }
  Result<Handle<X509_crl_st>> list = begin_list(revocations, certificate_.get());
  if (!list) return failure(list.error());
  X509_REVOKED* revoked = nullptr;
  if (X509_CRL_get0_by_serial(list->get(), &revoked, X509_get_serialNumber(certificate)) == 1) {
    return no(fmt::format("{} is revoked", name_of(facts)));
  }
  if (const std::string why = unrepeatable(certificate, facts); !why.empty()) return no(why);
  Request request;
  request.common_name = facts.common_names.front();
  request.uris = facts.uris;
  request.hosts = facts.dns_names;
  request.hosts.insert(request.hosts.end(), facts.addresses.begin(), facts.addresses.end());
  const uint32_t uses = X509_get_extended_key_usage(certificate);
  request.is_for_servers = (uses & XKU_SSL_SERVER) != 0;
  request.is_for_clients = (uses & XKU_SSL_CLIENT) != 0;
  return request;
}

namespace {

bool add_serial(X509_CRL* list, const std::string& serial, int64_t now) {
  BIGNUM* number = nullptr;
  if (BN_hex2bn(&number, serial.c_str()) == 0) return false;
  ASN1_INTEGER* digits = BN_to_ASN1_INTEGER(number, nullptr);
  BN_free(number);
  X509_REVOKED* known = nullptr;
  bool good = digits != nullptr;
  if (good && X509_CRL_get0_by_serial(list, &known, digits) == 0) {
    X509_REVOKED* revoked = X509_REVOKED_new();
    ASN1_TIME* when = ASN1_TIME_set(nullptr, now);
    good = revoked != nullptr && when != nullptr &&
           X509_REVOKED_set_serialNumber(revoked, digits) == 1 &&
           X509_REVOKED_set_revocationDate(revoked, when) == 1 &&
           X509_CRL_add0_revoked(list, revoked) == 1;
    if (!good) X509_REVOKED_free(revoked);
    ASN1_TIME_free(when);
  }
  ASN1_INTEGER_free(digits);
  return good;
}

// The CA's key, and a number above that of the list before.
bool set_list_extensions(X509_CRL* list, x509_st* authority) {
  auto* old =
      static_cast<ASN1_INTEGER*>(X509_CRL_get_ext_d2i(list, NID_crl_number, nullptr, nullptr));
  const int64_t number = old != nullptr ? ASN1_INTEGER_get(old) + 1 : 1;
  ASN1_INTEGER_free(old);
  while (X509_CRL_get_ext_count(list) > 0) X509_EXTENSION_free(X509_CRL_delete_ext(list, 0));
  ASN1_INTEGER* next = ASN1_INTEGER_new();
  bool good = next != nullptr && ASN1_INTEGER_set_int64(next, number) == 1 &&
              X509_CRL_add1_ext_i2d(list, NID_crl_number, next, 0, 0) == 1;
  ASN1_INTEGER_free(next);
  X509V3_CTX context;
  X509V3_set_ctx(&context, authority, nullptr, nullptr, list, 0);
  X509_EXTENSION* key =
      X509V3_EXT_conf_nid(nullptr, &context, NID_authority_key_identifier, "keyid:always");
  good = good && key != nullptr && X509_CRL_add_ext(list, key, -1) == 1;
  X509_EXTENSION_free(key);
  return good;
}

}  // namespace

Result<std::string> Authority::revoke(std::string_view before,
                                      const std::vector<std::string>& serials,
                                      const Validity& validity) const {
  ERR_clear_error();
  Result<Handle<X509_crl_st>> list = begin_list(before, certificate_.get());
  if (!list) return failure(list.error());
  X509_CRL* crl = list->get();
  for (const std::string& serial : serials) {
    if (!add_serial(crl, serial, validity.from)) {
      return failure(
          ErrorKind::kUsage,
          fmt::format("'{}' must be a serial number in hexadecimal digits", printable(serial, 80)));
    }
  }
  ASN1_TIME* from = ASN1_TIME_set(nullptr, validity.from);
  ASN1_TIME* until = ASN1_TIME_set(nullptr, validity.until);
  const bool good =
      from != nullptr && until != nullptr && X509_CRL_set1_lastUpdate(crl, from) == 1 &&
      X509_CRL_set1_nextUpdate(crl, until) == 1 && set_list_extensions(crl, certificate_.get()) &&
      X509_CRL_sort(crl) == 1 && X509_CRL_sign(crl, key_.get(), EVP_sha256()) > 0;
  ASN1_TIME_free(from);
  ASN1_TIME_free(until);
  if (!good) return failure(no_memory());
  return pem_of([&](BIO* to) { return PEM_write_bio_X509_CRL(to, crl); });
}

}  // namespace connectd::tls
