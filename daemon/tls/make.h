// Makes certificates: a CA of one's own for development and small clusters, what it issues, and its
// revocation list. Keys are P-256, signatures ECDSA with SHA-256. PEM texts only; where files go is
// for the caller to say. Any thread; of a process without plugins, because OpenSSL uses its default
// context for some of this.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "tls/certificate.h"
#include "tls/handles.h"

namespace connectd::tls {

// In PEM.
struct Made {
  std::string certificate;
  std::string key;
};

// Seconds since 1970.
struct Validity {
  int64_t from = 0;
  int64_t until = 0;
};

// What is to be certified. Names are taken as they are.
struct Request {
  std::string common_name;
  std::vector<std::string> uris{};
  std::vector<std::string> hosts{};  // DNS names and addresses
  bool is_for_servers = false;
  bool is_for_clients = false;
  Validity validity{};
};

class Authority final {
 public:
  // kUsage for a name that a certificate cannot have.
  static Result<Authority> make(const std::string& name, const Validity& validity);
  // From the files that make() came to. As load_credentials(), and kBadConfig if it is not a CA's.
  static Result<Authority> load(const std::string& certificate_path, const std::string& key_path);

  const Certificate& facts() const { return facts_; }
  std::string certificate_pem() const;
  std::string key_pem() const;

  // The certificate ends when the CA does, at the latest. kUsage for a name that it cannot have.
  Result<Made> issue(const Request& request) const;
  // What issue() has made a certificate of, without its validity. kRefused: this CA has not signed
  // it, or `revocations`, its list (PEM; empty: there is none), has it, or it says more than
  // issue() can repeat. As load_credentials() for the file.
  Result<Request> request_of(const std::string& certificate_path,
                             std::string_view revocations) const;
  // The list with all that `before` has (PEM; empty: there is none) and these serials, in
  // hexadecimal digits, in PEM. kBadConfig when `before` is not this CA's.
  Result<std::string> revoke(std::string_view before, const std::vector<std::string>& serials,
                             const Validity& validity) const;

 private:
  Authority(Handle<x509_st> certificate, Handle<evp_pkey_st> key);

  Handle<x509_st> certificate_;
  Handle<evp_pkey_st> key_;
  Certificate facts_;
};

}  // namespace connectd::tls
