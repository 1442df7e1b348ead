#include "tls/certificate.h"

#include <openssl/asn1.h>
#include <openssl/bn.h>
#include <openssl/evp.h>
#include <openssl/objects.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>

#include <array>
#include <charconv>
#include <ctime>
#include <memory>

#include "base/limits.h"
#include "tls/handles.h"

namespace connectd::tls {
namespace {

constexpr size_t kMaxLineBytes = 256;
constexpr size_t kMaxNames = 256;
constexpr std::string_view kCut = "...";

// The bytes of the UTF-8 character that begins `text`; 0: there is none that may be shown.
size_t character_bytes(std::string_view text) {
  const auto byte = [&](size_t i) { return static_cast<uint8_t>(text[i]); };
  const uint8_t first = byte(0);
  if (first < 0x80) return first >= 0x20 && first != 0x7f && first != '\\' ? 1 : 0;
  const size_t size = first >= 0xf0 ? 4 : first >= 0xe0 ? 3 : 2;
  if (first < 0xc2 || first > 0xf4 || text.size() < size) return 0;
  uint32_t code = first & (0x7f >> size);
  for (size_t i = 1; i < size; ++i) {
    if ((byte(i) & 0xc0) != 0x80) return 0;
    code = code << 6 | (byte(i) & 0x3f);
  }
  constexpr uint32_t kLeast[] = {0, 0, 0x80, 0x800, 0x10000};
  if (code < kLeast[size] || code > 0x10ffff || (code >= 0xd800 && code <= 0xdfff)) return 0;
  // Controls of terminals and of the direction of text, and characters without a width.
  if (code < 0xa1 || code == 0xad || code == 0x61c || code == 0xfeff || code == 0x180e) return 0;
  if ((code >= 0x2000 && code <= 0x200f) || (code >= 0x2028 && code <= 0x202f)) return 0;
  if ((code >= 0x205f && code <= 0x206f) || (code >= 0xfff0 && code <= 0xffff)) return 0;
  if (code >= 0xe0000) return 0;
  return size;
}

std::string_view bytes_of(const ASN1_STRING* text) {
  if (text == nullptr || ASN1_STRING_length(text) <= 0) return {};
  return {reinterpret_cast<const char*>(ASN1_STRING_get0_data(text)),
          static_cast<size_t>(ASN1_STRING_length(text))};
}

// In UTF-8 where its type says how it is coded; the bytes as they are if it is not coded so.
std::string value_of(const ASN1_STRING* text) {
  unsigned char* utf8 = nullptr;
  const int size = ASN1_STRING_to_UTF8(&utf8, text);
  if (size < 0) return printable(bytes_of(text));
  std::string value = printable({reinterpret_cast<const char*>(utf8), static_cast<size_t>(size)});
  OPENSSL_free(utf8);
  return value;
}

std::string line_of(const X509_NAME* name) {
  std::string line;
  for (int i = 0; i < X509_NAME_entry_count(name) && line.size() <= kMaxLineBytes; ++i) {
    const X509_NAME_ENTRY* entry = X509_NAME_get_entry(name, i);
    const ASN1_OBJECT* type = X509_NAME_ENTRY_get_object(entry);
    const int nid = OBJ_obj2nid(type);
    char dotted[80] = "?";
    if (nid == NID_undef) OBJ_obj2txt(dotted, sizeof dotted, type, 1);
    if (!line.empty()) line += ", ";
    line += fmt::format("{}=", nid == NID_undef ? dotted : OBJ_nid2sn(nid));
    // A comma in a value must not look like the next part.
    for (char letter : value_of(X509_NAME_ENTRY_get_data(entry))) {
      if (letter == ',') line += '\\';
      line += letter;
    }
  }
  if (line.size() > kMaxLineBytes) {
    line.resize(kMaxLineBytes);
    while (!line.empty() && (static_cast<uint8_t>(line.back()) & 0x80) != 0) line.pop_back();
    line += kCut;
  }
  return line.empty() ? "(no name)" : line;
}

std::vector<std::string> values_of(const X509_NAME* name, int nid) {
  std::vector<std::string> values;
  for (int i = -1; (i = X509_NAME_get_index_by_NID(name, nid, i)) >= 0;) {
    if (values.size() == kMaxNames) break;
    values.push_back(value_of(X509_NAME_ENTRY_get_data(X509_NAME_get_entry(name, i))));
  }
  return values;
}

std::string address_text(std::string_view bytes) {
  const auto byte = [&](size_t i) { return static_cast<uint8_t>(bytes[i]); };
  if (bytes.size() == 4) return fmt::format("{}.{}.{}.{}", byte(0), byte(1), byte(2), byte(3));
  if (bytes.size() != 16) return printable(bytes);
  std::array<unsigned, 8> groups{};
  for (size_t i = 0; i < 8; ++i) groups[i] = byte(2 * i) << 8 | byte(2 * i + 1);
  // RFC 5952: the longest run of two or more zeros is "::".
  size_t best = 8;
  size_t best_size = 1;
  for (size_t i = 0; i < 8; ++i) {
    size_t size = 0;
    while (i + size < 8 && groups[i + size] == 0) ++size;
    if (size > best_size) {
      best = i;
      best_size = size;
    }
  }
  std::string text;
  for (size_t i = 0; i < 8; ++i) {
    if (i == best) {
      text += "::";
      i += best_size - 1;
      continue;
    }
    if (!text.empty() && !text.ends_with(':')) text += ':';
    text += fmt::format("{:x}", groups[i]);
  }
  return text;
}

void read_alternative_names(x509_st* certificate, Certificate& facts) {
  auto* names = static_cast<GENERAL_NAMES*>(
      X509_get_ext_d2i(certificate, NID_subject_alt_name, nullptr, nullptr));
  for (int i = 0; i < sk_GENERAL_NAME_num(names); ++i) {
    const GENERAL_NAME* name = sk_GENERAL_NAME_value(names, i);
    int type = 0;
    const auto* value = static_cast<const ASN1_STRING*>(GENERAL_NAME_get0_value(name, &type));
    std::vector<std::string>* list = type == GEN_URI     ? &facts.uris
                                     : type == GEN_DNS   ? &facts.dns_names
                                     : type == GEN_IPADD ? &facts.addresses
                                                         : nullptr;
    if (list == nullptr || list->size() == kMaxNames) continue;
    list->push_back(type == GEN_IPADD ? address_text(bytes_of(value)) : printable(bytes_of(value)));
  }
  GENERAL_NAMES_free(names);
}

int64_t seconds_of(const ASN1_TIME* time) {
  tm parts{};
  if (ASN1_TIME_to_tm(time, &parts) != 1) return 0;
  return timegm(&parts);
}

std::string serial_of(x509_st* certificate) {
  BIGNUM* number = ASN1_INTEGER_to_BN(X509_get0_serialNumber(certificate), nullptr);
  if (number == nullptr) return "?";
  char* digits = BN_bn2hex(number);
  std::string text = digits != nullptr ? digits : "?";
  OPENSSL_free(digits);
  BN_free(number);
  for (char& letter : text) {
    if (letter >= 'A' && letter <= 'F') letter = static_cast<char>(letter - 'A' + 'a');
  }
  return printable(text, 64);
}

std::string fingerprint_of(x509_st* certificate) {
  EVP_MD* sha256 = EVP_MD_fetch(library(), "SHA256", nullptr);
  std::array<uint8_t, EVP_MAX_MD_SIZE> digest{};
  unsigned size = 0;
  if (sha256 == nullptr || X509_digest(certificate, sha256, digest.data(), &size) != 1) size = 0;
  EVP_MD_free(sha256);
  std::string text;
  for (unsigned i = 0; i < size; ++i) text += fmt::format("{:02x}", digest[i]);
  return text;
}

}  // namespace

std::string printable(std::string_view bytes, size_t limit) {
  std::string text;
  while (!bytes.empty()) {
    size_t size = character_bytes(bytes);
    std::string part(bytes.substr(0, size));
    if (size == 0) {
      part = fmt::format("\\x{:02x}", static_cast<uint8_t>(bytes[0]));
      size = 1;
    }
    if (text.size() + part.size() > limit) return text + std::string(kCut);
    text += part;
    bytes.remove_prefix(size);
  }
  return text;
}

Certificate facts_of(x509_st* certificate) {
  Certificate facts;
  const X509_NAME* subject = X509_get_subject_name(certificate);
  facts.subject = line_of(subject);
  facts.issuer = line_of(X509_get_issuer_name(certificate));
  facts.serial = serial_of(certificate);
  facts.fingerprint = fingerprint_of(certificate);
  facts.common_names = values_of(subject, NID_commonName);
  facts.units = values_of(subject, NID_organizationalUnitName);
  read_alternative_names(certificate, facts);
  facts.not_before = seconds_of(X509_get0_notBefore(certificate));
  facts.not_after = seconds_of(X509_get0_notAfter(certificate));
  return facts;
}

std::string name_of(const Certificate& certificate) {
  return fmt::format("{}, issuer {}, serial {}", certificate.subject, certificate.issuer,
                     certificate.serial);
}

std::string second_text(int64_t seconds) {
  const time_t time = seconds;
  tm parts{};
  char text[32] = "?";
  if (::gmtime_r(&time, &parts) != nullptr) {
    (void)std::strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%SZ", &parts);
  }
  return text;
}

std::string node_uri(std::string_view cluster_name, NodeId id) {
  return fmt::format("connectd://{}/node/{}", cluster_name, id);
}

std::string client_uri(std::string_view cluster_name, std::string_view client) {
  return fmt::format("connectd://{}/client/{}", cluster_name, client);
}

std::string role_uri(std::string_view cluster_name, std::string_view role) {
  return fmt::format("connectd://{}/role/{}", cluster_name, role);
}

std::optional<NodeId> node_of(const Certificate& certificate, std::string_view cluster_name) {
  const std::string prefix = fmt::format("connectd://{}/node/", cluster_name);
  std::optional<NodeId> found;
  for (const std::string& uri : certificate.uris) {
    if (!uri.starts_with(prefix)) continue;
    uint64_t number = 0;
    const char* end = uri.data() + uri.size();
    const auto [stop, error] = std::from_chars(uri.data() + prefix.size(), end, number);
    const NodeId id(number);
    // Compared with the one way to write it: "007" and "7 " are not node 7.
    if (error != std::errc() || stop != end || number == 0 || number > kMaxNodeId) continue;
    if (node_uri(cluster_name, id) != uri) continue;
    if (found && *found != id) return std::nullopt;
    found = id;
  }
  return found;
}

}  // namespace connectd::tls
