#include "auth/token.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstdint>

#include "base/bytes.h"
#include "base/random.h"
#include "base/sha256.h"

namespace connectd::auth {
namespace {

constexpr size_t kSecretDigits = 64;
constexpr size_t kMadeId = 12;

bool is_digit_or_lower(char c) { return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z'); }
bool is_hex(char c) { return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f'); }

std::string random_id() {
  constexpr std::string_view kLetters = "abcdefghijklmnopqrstuvwxyz0123456789";
  Random random(random_seed());  // it needs to be unused, not secret
  std::string id;
  while (id.size() < kMadeId) id += kLetters[random.below(kLetters.size())];
  return id;
}

}  // namespace

bool is_token_id(std::string_view text) {
  return text.size() >= kMinTokenId && text.size() <= kMaxTokenId &&
         std::ranges::all_of(text, is_digit_or_lower);
}

Result<NewToken> make_token(std::string_view id) {
  if (!id.empty() && !is_token_id(id)) {
    return failure(ErrorKind::kUsage,
                   fmt::format("an id must be {} to {} of a-z and 0-9", kMinTokenId, kMaxTokenId));
  }
  NewToken token;
  token.id = id.empty() ? random_id() : std::string(id);
  token.text = fmt::format("{}{}_", kTokenPrefix, token.id);
  for (int half = 0; half < 2; ++half) {
    for (uint8_t byte : random_128()) token.text += fmt::format("{:02x}", byte);
  }
  return token;
}

std::optional<std::string> token_id(std::string_view token) {
  if (!token.starts_with(kTokenPrefix)) return std::nullopt;
  token.remove_prefix(kTokenPrefix.size());
  const size_t end = token.find('_');
  if (end == std::string_view::npos || !is_token_id(token.substr(0, end))) return std::nullopt;
  const std::string_view secret = token.substr(end + 1);
  if (secret.size() != kSecretDigits || !std::ranges::all_of(secret, is_hex)) return std::nullopt;
  return std::string(token.substr(0, end));
}

std::string token_hash(std::string_view token) { return sha256_hex(as_bytes(token)); }

bool equals_in_constant_time(std::string_view one, std::string_view other) {
  if (one.size() != other.size()) return false;
  // volatile: the compiler must not leave the loop once the result is known.
  volatile uint8_t difference = 0;
  for (size_t i = 0; i < one.size(); ++i) {
    const auto bits = static_cast<uint8_t>(one[i] ^ other[i]);
    difference = static_cast<uint8_t>(difference | bits);
  }
  return difference == 0;
}

}  // namespace connectd::auth
