#include "auth/principal.h"

#include <fmt/format.h>

#include <utility>

#include "base/bytes.h"
#include "base/sha256.h"

namespace connectd::auth {
namespace {

constexpr size_t kMaxName = 128;
constexpr size_t kDigestShown = 32;

}  // namespace

std::string printable(std::string_view bytes) {
  std::string text;
  for (char c : bytes) {
    const bool is_plain = c > ' ' && c < 0x7f && c != '%' && c != '"' && c != '\\';
    text += is_plain ? std::string(1, c) : fmt::format("%{:02X}", static_cast<unsigned char>(c));
  }
  if (text.size() <= kMaxName) return text;
  // A '%' that is not followed by two digits: no shorter name gives the same text.
  return text.substr(0, kMaxName - kDigestShown - 2) + "%~" +
         sha256_hex(as_bytes(bytes)).substr(0, kDigestShown);
}

Principal Principal::anonymous(Roles roles) {
  Principal principal;
  principal.roles_ = roles;
  return principal;
}

Principal Principal::local(Roles roles) {
  Principal principal;
  principal.kind_ = Kind::kLocal;
  principal.roles_ = roles;
  return principal;
}

Principal Principal::token(std::string id, Roles roles, std::optional<int64_t> until) {
  Principal principal;
  principal.kind_ = Kind::kToken;
  principal.name_ = std::move(id);
  principal.roles_ = roles;
  principal.until_ = until;
  return principal;
}

Principal Principal::certificate(std::string_view name, Roles roles, std::optional<int64_t> until) {
  Principal principal;
  principal.kind_ = Kind::kCertificate;
  principal.name_ = printable(name);
  principal.roles_ = roles;
  principal.until_ = until;
  return principal;
}

std::string Principal::text() const {
  switch (kind_) {
    case Kind::kAnonymous:
      return "anonymous";
    case Kind::kLocal:
      return "local";
    case Kind::kToken:
      return "token:" + name_;
    case Kind::kCertificate:
      return "cert:" + name_;
  }
  return "?";
}

}  // namespace connectd::auth
