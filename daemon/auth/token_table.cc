#include "auth/token_table.h"

#include <fmt/format.h>

#include <algorithm>
#include <vector>

#include "auth/times.h"
#include "auth/token.h"
#include "base/wall_clock.h"

namespace connectd::auth {
namespace {

constexpr size_t kMaxErrorsShown = 20;
constexpr size_t kHashDigits = 64;
constexpr int64_t kNsPerSecond = 1'000'000'000;
constexpr std::string_view kExpires = "expires=";

bool is_blank(char c) { return c == ' ' || c == '\t'; }

std::vector<std::string_view> fields_of(std::string_view line) {
  std::vector<std::string_view> fields;
  for (size_t at = 0; at < line.size();) {
    if (is_blank(line[at])) {
      ++at;
      continue;
    }
    size_t end = at;
    while (end < line.size() && !is_blank(line[end])) ++end;
    fields.push_back(line.substr(at, end - at));
    at = end;
  }
  return fields;
}

bool is_hash(std::string_view text) {
  return text.size() == kHashDigits && std::ranges::all_of(text, [](char c) {
           return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f');
         });
}

struct ParsedLine {
  std::string id;
  TokenEntry entry;
};

Result<ParsedLine> parse_line(std::string_view line) {
  const std::vector<std::string_view> fields = fields_of(line);
  auto wrong = [](std::string text) { return failure(ErrorKind::kBadConfig, std::move(text)); };
  if (line.find(kTokenPrefix) != std::string_view::npos) {
    return wrong(
        "this is a token itself, and now no secret any more: a line holds only its hash. Make "
        "another with connectctl token new");
  }
  if (fields.size() < 3 || fields.size() > 4) {
    return wrong("must be: ID SHA256 ROLES [expires=2027-01-31T00:00:00Z]");
  }
  ParsedLine parsed;
  if (!is_token_id(fields[0])) {
    return wrong(
        fmt::format("invalid ID: must be {} to {} of a-z and 0-9", kMinTokenId, kMaxTokenId));
  }
  parsed.id = fields[0];
  if (!is_hash(fields[1])) {
    return wrong(fmt::format("token {}: the hash must be {} lower-case hexadecimal digits",
                             parsed.id, kHashDigits));
  }
  parsed.entry.hash = fields[1];
  auto roles = parse_roles(fields[2]);
  if (!roles) return wrong(fmt::format("token {}: {}", parsed.id, roles.error().text));
  parsed.entry.roles = *roles;
  if (fields.size() < 4) return parsed;
  if (!fields[3].starts_with(kExpires)) {
    return wrong(
        fmt::format("token {}: the fourth field must be expires=2027-01-31T00:00:00Z", parsed.id));
  }
  auto until = parse_time(fields[3].substr(kExpires.size()));
  if (!until) return wrong(fmt::format("token {}: expires: {}", parsed.id, until.error().text));
  parsed.entry.until = *until;
  return parsed;
}

// Collects what is wrong in a file.
class Errors final {
 public:
  explicit Errors(const std::string& name) : name_(name) {}
  void add(size_t line, std::string_view text) {
    if (++count_ > kMaxErrorsShown) return;
    text_ += fmt::format("{}{}:{}: {}", text_.empty() ? "" : "\n", name_, line, text);
  }
  bool empty() const { return count_ == 0; }
  std::string text() const {
    if (count_ <= kMaxErrorsShown) return text_;
    return fmt::format("{}\n{}: {} more errors", text_, name_, count_ - kMaxErrorsShown);
  }

 private:
  const std::string& name_;
  std::string text_;
  size_t count_ = 0;
};

}  // namespace

std::string_view verdict_text(TokenVerdict verdict) {
  switch (verdict) {
    case TokenVerdict::kGood:
      return "good";
    case TokenVerdict::kMalformed:
      return "malformed token";
    case TokenVerdict::kUnknown:
      return "unknown id";
    case TokenVerdict::kWrong:
      return "wrong secret";
    case TokenVerdict::kExpired:
      return "expired";
    case TokenVerdict::kNoClock:
      return "expires, and the clock of this machine was not set";
  }
  return "?";
}

Result<TokenTable> TokenTable::parse(std::string_view text, const std::string& name) {
  if (text.size() > kMaxTokenFileBytes) {
    return failure(ErrorKind::kBadConfig, fmt::format("{}: has {} bytes; must have at most {}",
                                                      name, text.size(), kMaxTokenFileBytes));
  }
  TokenTable table;
  Errors errors(name);
  size_t number = 0;
  for (size_t begin = 0; begin < text.size();) {
    const size_t end = std::min(text.find('\n', begin), text.size());
    std::string_view line = text.substr(begin, end - begin);
    begin = end + 1;
    ++number;
    if (line.ends_with('\r')) line.remove_suffix(1);
    const size_t first = line.find_first_not_of(" \t");
    if (first == std::string_view::npos || line[first] == '#') continue;
    auto parsed = parse_line(line);
    if (!parsed) {
      errors.add(number, parsed.error().text);
      continue;
    }
    parsed->entry.line = number;
    auto [known, fresh] = table.entries_.emplace(parsed->id, parsed->entry);
    if (!fresh) {
      errors.add(number, fmt::format("duplicate token {}; the other is in line {}", parsed->id,
                                     known->second.line));
    } else if (table.entries_.size() == kMaxTokens + 1) {
      errors.add(number, fmt::format("more than {} tokens", kMaxTokens));
    }
  }
  if (!errors.empty()) return failure(ErrorKind::kBadConfig, errors.text());
  return table;
}

CheckedToken TokenTable::check(std::string_view token, int64_t wall_ns) const {
  auto id = token_id(token);
  if (!id) return {};
  // Of nothing: an unknown ID takes as long as a wrong secret.
  static const TokenEntry kNobody{std::string(kHashDigits, '0'), {}, {}};
  const auto found = entries_.find(*id);
  const bool is_known = found != entries_.end();
  const TokenEntry& entry = is_known ? found->second : kNobody;
  const bool is_equal = equals_in_constant_time(token_hash(token), entry.hash);
  CheckedToken checked{TokenVerdict::kGood, *id};
  if (!is_known) {
    checked.verdict = TokenVerdict::kUnknown;
  } else if (!is_equal) {
    checked.verdict = TokenVerdict::kWrong;
  } else if (entry.until && !is_plausible(wall_ns)) {
    checked.verdict = TokenVerdict::kNoClock;
  } else if (entry.until && wall_ns / kNsPerSecond >= *entry.until) {
    checked.verdict = TokenVerdict::kExpired;
  } else {
    checked.principal = Principal::token(*id, entry.roles, entry.until);
  }
  return checked;
}

std::string token_line(std::string_view id, const TokenEntry& entry) {
  std::string line = fmt::format("{} {} {}", id, entry.hash, format_roles(entry.roles));
  if (entry.until) line += fmt::format(" {}{}", kExpires, format_time(*entry.until));
  return line;
}

}  // namespace connectd::auth
