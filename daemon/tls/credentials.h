// The files that a node, or connectctl, proves itself with and trusts others by: read together, all
// or nothing, and constant from then on. A reload makes new ones; sessions that were begun with the
// old ones keep those alive, and check() tells which of them the new ones would refuse.
//
// What is the same for all: TLS 1.3, or 1.2 with ECDHE and AEAD; no renegotiation, compression,
// resumption or early data. Only the CAs of the files are trusted, never the system's.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "base/error.h"
#include "tls/certificate.h"
#include "tls/handles.h"

namespace connectd::tls {

class Session;
struct Check;

// Paths of PEM files.
struct Files {
  std::string certificate;  // the own one, then those between it and its CA
  std::string key;          // of the own one
  std::string authorities;  // the CAs, one or several: those of both sides of a rotation
  std::string revocations;  // one list for each CA, or for some; empty: no certificate is revoked
};

// Whose files these are. It decides what certificates must be for (extended key usage).
enum class Use : uint8_t {
  kPeers,   // of nodes among themselves: clientAuth and serverAuth, on both sides
  kServer,  // a port's: serverAuth for the own one, clientAuth for those of clients
  kClient,  // connectctl's: the reverse. It may have none of its own
};

// A revocation list past its nextUpdate.
enum class StaleCrl : uint8_t {
  kWarn,    // still counts as it is
  kRefuse,  // all certificates of its CA are refused
};

struct CredentialsOptions {
  Use use = Use::kPeers;
  StaleCrl stale_crl = StaleCrl::kWarn;
};

// Constant: any thread.
class Credentials final {
 public:
  ~Credentials() = default;
  Credentials(const Credentials&) = delete;
  Credentials& operator=(const Credentials&) = delete;

  const Files& files() const { return files_; }
  // Null: none.
  const Certificate* own() const { return has_own_ ? &own_ : nullptr; }
  const std::vector<Certificate>& authorities() const { return authorities_; }

  // What someone should look at, a sentence each: the own certificate or a CA expires in less than
  // 30 days, has expired, or is not valid yet; the own one is of no CA of the files; a revocation
  // list is stale. `now`: seconds since 1970.
  std::vector<std::string> warnings(int64_t now) const;

  // Whether these credentials accept what the other side of `session` has shown, as a new
  // handshake would: after a reload, and from time to time, since certificates expire. Empty: yes,
  // or it has shown none. Else a sentence. Takes about as long as a signature's check. On the
  // session's thread.
  std::string check(const Session& session) const;

 private:
  friend class Session;
  friend class CredentialsLoader;
  struct RevocationList {
    std::string issuer;
    int64_t next_update = 0;  // 0: not said
  };
  Credentials() = default;

  Files files_;
  CredentialsOptions options_;
  bool has_own_ = false;
  bool is_own_of_authorities_ = false;
  Certificate own_;
  std::vector<Certificate> authorities_;
  std::vector<RevocationList> lists_;
  Handle<x509_store_st> store_;
  Handle<ssl_ctx_st> server_;  // null: of a client
  Handle<ssl_ctx_st> client_;
};

// Reads all the files. Each error names its file, and what to do. kPermission for a key that other
// users may read, kNotFound, kDisk, kNoDescriptors; else kBadConfig. An own certificate that has
// expired, or is not valid yet, is no error: warnings(). `certificate` and `key` may be empty for
// Use::kClient, `authorities` for Use::kServer, which then asks no client for a certificate.
// Blocks while it reads.
Result<std::shared_ptr<const Credentials>> load_credentials(const Files& files,
                                                            const CredentialsOptions& options);

// What each certificate in a PEM file says, in its order. The same errors.
Result<std::vector<Certificate>> read_facts(const std::string& path);

}  // namespace connectd::tls
