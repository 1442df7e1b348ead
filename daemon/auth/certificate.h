// Who the owner of a client's certificate is, and what it may do. The chain was verified: here is
// decided what its names mean. A certificate of a CA that others run, too, names what they chose:
// an organizational unit, a common name or a DNS name counts only where the configuration says so.
//
//   URI connectd://CLUSTER/client/NAME   the principal is cert:NAME
//   URI connectd://CLUSTER/role/ROLE     it has that role; one URI for each
//   URI connectd://CLUSTER/node/ID       it is a node, and has the role monitor
//
// byte for byte, in the subject alternative names. Pure; any thread.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "auth/principal.h"
#include "auth/roles.h"
#include "base/error.h"

namespace connectd::auth {

// What a certificate says, as its decoder found it: any bytes.
struct CertificateFacts {
  std::vector<std::string> units;         // OU of the subject
  std::vector<std::string> common_names;  // CN of the subject
  std::vector<std::string> dns_names;     // of the subject alternative names
  std::vector<std::string> uris;          // of the subject alternative names
  std::string fingerprint;                // SHA-256 of its DER: 64 lower-case hexadecimal digits
  int64_t until = 0;                      // notAfter, in Unix seconds
};

// `auth.certificates`: which further names count, and the roles of each.
class CertificateMap final {
 public:
  // Keys OU=, CN=, DNS=, URI= or FINGERPRINT= (SHA-256, with or without colons), values as
  // parse_roles() has them. kUsage: the first that is wrong.
  static Result<CertificateMap> parse(const std::map<std::string, std::string>& entries);

  // Of one name, as in a key. A DNS name in any case.
  Roles roles_of(std::string_view kind, std::string_view value) const;

 private:
  std::map<std::string, Roles, std::less<>> roles_;
};

struct CertificateOwner {
  Principal principal;
  // URIs of this cluster that mean nothing to this version, for the log: at most kMaxIgnored, each
  // printable.
  std::vector<std::string> ignored{};
};
inline constexpr size_t kMaxIgnored = 4;

// Without a name of its own it is known by what the map knows it by, and else by its fingerprint. A
// unit names many, so it gives roles and no name. kRefused: it has two different names.
Result<CertificateOwner> owner_of(const CertificateFacts& facts, std::string_view cluster,
                                  const CertificateMap& map);

}  // namespace connectd::auth
