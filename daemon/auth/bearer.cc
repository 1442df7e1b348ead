#include "auth/bearer.h"

#include <algorithm>

namespace connectd::auth {
namespace {

constexpr std::string_view kScheme = "bearer";

// RFC 9110 §5.6.3.
bool is_whitespace(char c) { return c == ' ' || c == '\t'; }
char lower(char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; }

}  // namespace

std::optional<std::string_view> bearer_token(std::string_view header) {
  while (!header.empty() && is_whitespace(header.front())) header.remove_prefix(1);
  while (!header.empty() && is_whitespace(header.back())) header.remove_suffix(1);
  // The scheme is in any case (RFC 9110 §11.1).
  const size_t length = kScheme.size();
  const bool is_bearer = header.size() > length && is_whitespace(header[length]) &&
                         std::equal(kScheme.begin(), kScheme.end(), header.begin(),
                                    [](char known, char c) { return known == lower(c); });
  if (!is_bearer) return std::nullopt;
  header.remove_prefix(length);
  while (is_whitespace(header.front())) header.remove_prefix(1);
  if (std::ranges::any_of(header, is_whitespace)) return std::nullopt;
  return header;
}

}  // namespace connectd::auth
