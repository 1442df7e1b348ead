#include "auth/certificate.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <optional>
#include <utility>

namespace connectd::auth {
namespace {

constexpr size_t kMaxClientName = 64;
constexpr size_t kFingerprintDigits = 64;

constexpr std::string_view kUnit = "OU";
constexpr std::string_view kCommonName = "CN";
constexpr std::string_view kDns = "DNS";
constexpr std::string_view kUri = "URI";
constexpr std::string_view kFingerprint = "FINGERPRINT";

std::string lower_case(std::string_view text) {
  std::string lower(text);
  for (char& c : lower) c = (c >= 'A' && c <= 'Z') ? static_cast<char>(c - 'A' + 'a') : c;
  return lower;
}

// Names that mean the same have one spelling.
std::string normal_form(std::string_view kind, std::string_view value) {
  if (kind == kDns) return lower_case(value);
  if (kind != kFingerprint) return std::string(value);
  std::string digits = lower_case(value);
  std::erase(digits, ':');
  return digits;
}

std::string map_key(std::string_view kind, std::string_view value) {
  return fmt::format("{}={}", kind, normal_form(kind, value));
}

Result<std::string> parse_key(std::string_view key) {
  const size_t equals = key.find('=');
  const std::string_view kind = key.substr(0, std::min(equals, key.size()));
  constexpr std::array kKinds = {kUnit, kCommonName, kDns, kUri, kFingerprint};
  if (equals == std::string_view::npos || std::ranges::find(kKinds, kind) == kKinds.end()) {
    return failure(ErrorKind::kUsage,
                   "a key must be OU=, CN=, DNS=, URI= or FINGERPRINT= and the name");
  }
  const std::string_view value = key.substr(equals + 1);
  if (value.empty())
    return failure(ErrorKind::kUsage, fmt::format("missing name after '{}='", kind));
  std::string normal = normal_form(kind, value);
  const bool is_hex = std::ranges::all_of(
      normal, [](char c) { return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f'); });
  if (kind == kFingerprint && (normal.size() != kFingerprintDigits || !is_hex)) {
    return failure(ErrorKind::kUsage,
                   "FINGERPRINT= must be 64 hexadecimal digits, as openssl x509 -noout "
                   "-fingerprint -sha256 prints them");
  }
  return fmt::format("{}={}", kind, normal);
}

bool is_client_name(std::string_view name) {
  return !name.empty() && name.size() <= kMaxClientName && std::ranges::all_of(name, [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' ||
           c == '_' || c == '.';
  });
}

std::optional<Role> role_of(std::string_view name) {
  for (Role role : kAllRoles) {
    if (role_name(role) == name) return role;
  }
  return std::nullopt;
}

// What the URIs of this cluster say.
struct OwnUris {
  std::string name;
  std::string node;
  Roles roles;
  std::vector<std::string> ignored;
};

Result<OwnUris> read_uris(const std::vector<std::string>& uris, std::string_view cluster) {
  const std::string own = fmt::format("connectd://{}/", cluster);
  OwnUris read;
  for (const std::string& uri : uris) {
    std::string_view rest = uri;
    if (!rest.starts_with(own)) continue;
    rest.remove_prefix(own.size());
    const size_t slash = std::min(rest.find('/'), rest.size());
    const std::string_view what = rest.substr(0, slash);
    const std::string_view value = rest.substr(std::min(slash + 1, rest.size()));
    if (what == "client" && is_client_name(value)) {
      if (!read.name.empty() && read.name != value) {
        return failure(ErrorKind::kRefused,
                       fmt::format("the certificate has two names: {} and {}", read.name, value));
      }
      read.name = value;
    } else if (const auto role = role_of(value); what == "role" && role) {
      read.roles |= Roles{*role};
    } else if (what == "node" && is_client_name(value)) {
      // Nodes ask each other for their status.
      read.roles |= Roles{Role::kMonitor};
      read.node = "node-" + std::string(value);
    } else if (read.ignored.size() < kMaxIgnored) {
      read.ignored.push_back(printable(uri));
    }
  }
  return read;
}

}  // namespace

Result<CertificateMap> CertificateMap::parse(const std::map<std::string, std::string>& entries) {
  CertificateMap map;
  for (const auto& [text, list] : entries) {
    auto key = parse_key(text);
    if (!key) return failure(key.error());
    auto roles = parse_roles(list);
    if (!roles) return failure(ErrorKind::kUsage, fmt::format("{}: {}", *key, roles.error().text));
    if (!map.roles_.emplace(*key, *roles).second) {
      return failure(ErrorKind::kUsage, fmt::format("duplicate name {}", *key));
    }
  }
  return map;
}

Roles CertificateMap::roles_of(std::string_view kind, std::string_view value) const {
  const auto found = roles_.find(map_key(kind, value));
  return found == roles_.end() ? Roles() : found->second;
}

Result<CertificateOwner> owner_of(const CertificateFacts& facts, std::string_view cluster,
                                  const CertificateMap& map) {
  auto own = read_uris(facts.uris, cluster);
  if (!own) return failure(own.error());
  Roles roles = own->roles;
  std::string name = own->name;
  for (const std::string& unit : facts.units) roles |= map.roles_of(kUnit, unit);
  // From what names one owner most surely.
  const std::vector<std::string> fingerprint = {facts.fingerprint};
  const std::pair<std::string_view, const std::vector<std::string>*> kinds[] = {
      {kUri, &facts.uris},
      {kDns, &facts.dns_names},
      {kCommonName, &facts.common_names},
      {kFingerprint, &fingerprint}};
  for (const auto& [kind, values] : kinds) {
    for (const std::string& value : *values) {
      const Roles more = map.roles_of(kind, value);
      if (more.empty()) continue;
      roles |= more;
      if (name.empty()) name = map_key(kind, value);
    }
  }
  if (name.empty()) name = own->node;
  if (name.empty()) name = map_key(kFingerprint, facts.fingerprint);
  return CertificateOwner{Principal::certificate(name, roles, facts.until),
                          std::move(own->ignored)};
}

}  // namespace connectd::auth
