// Who asks, as far as connectd knows: the same text on every node of a cluster, so that logs can be
// joined by it and repeated requests recognized. Values; any thread.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "auth/roles.h"

namespace connectd::auth {

// Of text(), in bytes.
inline constexpr size_t kMaxPrincipalText = 160;

// Any bytes as printable ASCII without spaces: '%' and two digits for what is not, and a digest at
// the end of what is too long. Different bytes give different texts.
std::string printable(std::string_view bytes);

class Principal final {
 public:
  enum class Kind : uint8_t {
    kAnonymous,    // has shown nothing
    kLocal,        // has shown nothing, and uses what callers on this machine may do
    kToken,        // of a token file
    kCertificate,  // of TLS
  };

  // Anonymous, without a role.
  Principal() = default;
  static Principal anonymous(Roles roles);
  static Principal local(Roles roles);
  // `until`: when what it has shown ends, in Unix seconds; none: never.
  static Principal token(std::string id, Roles roles, std::optional<int64_t> until);
  // `name` may hold any bytes.
  static Principal certificate(std::string_view name, Roles roles, std::optional<int64_t> until);

  Kind kind() const { return kind_; }
  // Of a token its ID, of a certificate what text() shows; else empty.
  const std::string& name() const { return name_; }
  Roles roles() const { return roles_; }
  std::optional<int64_t> until() const { return until_; }
  // It has shown a token or a certificate.
  bool is_authenticated() const { return kind_ == Kind::kToken || kind_ == Kind::kCertificate; }
  // "anonymous", "local", "token:ID" or "cert:NAME", with printable() of the name: at most
  // kMaxPrincipalText bytes.
  std::string text() const;

  bool operator==(const Principal&) const = default;

 private:
  Kind kind_ = Kind::kAnonymous;
  std::string name_;
  Roles roles_;
  std::optional<int64_t> until_;
};

}  // namespace connectd::auth
