// token new, list, remove and check: the token file that auth.tokens names, without a node. A
// token's text is printed once, by `new`, and never taken from the command line, which other users
// of the machine can read.
#include <algorithm>
#include <boost/json.hpp>
#include <cstdlib>

#include "auth/times.h"
#include "auth/token.h"
#include "auth/token_file.h"
#include "base/wall_clock.h"
#include "config/values.h"
#include "ctl/commands.h"

namespace connectd::ctl {
namespace {

namespace json = boost::json;

constexpr int64_t kNsPerSecond = 1'000'000'000;
constexpr uint64_t kMaxTokenDays = 3650;
constexpr size_t kMaxTokenInput = 4096;

// Of "30" days from now, or of a date.
Result<int64_t> parse_expiry(std::string_view text) {
  const int64_t now_ns = read_clocks().wall_ns;
  if (!is_plausible(now_ns)) {
    return failure(ErrorKind::kUsage, "the clock of this machine was not set");
  }
  const int64_t now = now_ns / kNsPerSecond;
  if (const auto days = config::parse_integer(text)) {
    if (*days < 1 || *days > kMaxTokenDays) {
      return failure(ErrorKind::kUsage,
                     fmt::format("{} days are out of range 1-{}", text, kMaxTokenDays));
    }
    return now + static_cast<int64_t>(*days) * auth::kDaySeconds;
  }
  auto time = auth::parse_time(text);
  if (!time) {
    return failure(ErrorKind::kUsage,
                   fmt::format("{}; or a number of days from now", time.error().text));
  }
  if (*time <= now) return failure(ErrorKind::kUsage, fmt::format("'{}' is past", text));
  return time;
}

std::string expiry_text(const auth::TokenEntry& entry) {
  if (!entry.until) return "never";
  const bool is_past = read_clocks().wall_ns / kNsPerSecond >= *entry.until;
  return fmt::format("{}{}", auth::format_time(*entry.until), is_past ? " (expired)" : "");
}

json::object to_json(std::string_view id, const auth::TokenEntry& entry) {
  json::array roles;
  for (auth::Role role : auth::kAllRoles) {
    if (entry.roles.has(role)) roles.emplace_back(auth::role_name(role));
  }
  json::object object{{"id", id}, {"roles", std::move(roles)}, {"expires", nullptr}};
  if (entry.until) object["expires"] = auth::format_time(*entry.until);
  return object;
}

// Every command but `new` needs it.
std::optional<ExitCode> missing_file(const Context& context, std::string_view command) {
  if (!context.option("file").empty()) return std::nullopt;
  return context.fail(ExitCode::kUsage, with_help("missing --file", command));
}

// The token of CONNECTCTL_TOKEN, else the first line of standard input.
Result<std::string> token_to_check(Context& context) {
  std::string text;
  if (const char* variable = std::getenv(kTokenVariable); variable != nullptr) {
    text = variable;
  } else {
    for (int c;
         text.size() <= kMaxTokenInput && (c = context.streams.in.get()) != EOF && c != '\n';) {
      text += static_cast<char>(c);
    }
  }
  while (!text.empty() && (text.back() == '\r' || text.back() == ' ')) text.pop_back();
  if (text.empty()) {
    return failure(ErrorKind::kUsage, fmt::format("missing token: write it to standard input, or "
                                                  "set {}",
                                                  kTokenVariable));
  }
  return text;
}

}  // namespace

ExitCode token_new_command(Context& context) {
  auth::TokenEntry entry;
  auto roles = auth::parse_roles(context.has("roles") ? context.option("roles") : "read");
  if (!roles) return context.fail(ExitCode::kUsage, "--roles: " + roles.error().text);
  entry.roles = *roles;
  if (context.has("expires")) {
    auto until = parse_expiry(context.option("expires"));
    if (!until) return context.fail(ExitCode::kUsage, "--expires: " + until.error().text);
    entry.until = *until;
  }
  if (context.has("id") && context.option("id").empty()) {
    return context.fail(ExitCode::kUsage, "--id: must not be empty");
  }
  auto token = auth::make_token(context.option("id"));
  if (!token) return context.fail(ExitCode::kUsage, "--id: " + token.error().text);
  entry.hash = auth::token_hash(token->text);
  const std::string line = auth::token_line(token->id, entry);
  const std::string file = context.option("file");
  if (context.has("file")) {
    if (auto gone = missing_file(context, "token new")) return *gone;
    if (auto added = auth::add_token(file, token->id, entry); !added) {
      return context.fail(added.error());
    }
  }
  if (context.json) {
    json::object object = to_json(token->id, entry);
    object["token"] = token->text;
    object["line"] = line;
    context.streams.out << json::serialize(object) << "\n";
  } else {
    context.streams.out << token->text << "\n";
    if (file.empty()) context.streams.out << line << "\n";
  }
  context.streams.err << fmt::format(
      "The token is not stored anywhere: keep it now. {}; nodes accept it after a reload (after a "
      "restart if systemd hands the file over)\n",
      file.empty() ? "The second line is for the file that auth.tokens names"
                   : fmt::format("Its hash is in {}, as {}", file, token->id));
  return ExitCode::kOk;
}

ExitCode token_list_command(Context& context) {
  if (auto gone = missing_file(context, "token list")) return *gone;
  auto tokens = auth::load_tokens(context.option("file"));
  if (!tokens) return context.fail(tokens.error());
  json::array array;
  std::vector<std::vector<std::string>> rows = {{"ID", "ROLES", "EXPIRES"}};
  for (const auto& [id, entry] : tokens->entries()) {
    array.push_back(to_json(id, entry));
    rows.push_back({id, auth::format_roles(entry.roles), expiry_text(entry)});
  }
  context.streams.out << (context.json ? json::serialize(array) + "\n" : table(rows));
  return ExitCode::kOk;
}

ExitCode token_remove_command(Context& context) {
  if (auto gone = missing_file(context, "token remove")) return *gone;
  const std::string& id = context.arguments[0];
  // A token in place of its id would otherwise be shown by the error.
  if (!auth::is_token_id(id)) {
    return context.fail(ExitCode::kUsage,
                        "ID: must be 8 to 16 of a-z and 0-9, as `connectctl "
                        "token list` prints it");
  }
  if (auto removed = auth::remove_token(context.option("file"), id); !removed) {
    return context.fail(removed.error());
  }
  context.streams.err << fmt::format(
      "{} is removed; nodes refuse it after a reload (after a restart if systemd hands the file "
      "over)\n",
      id);
  return ExitCode::kOk;
}

ExitCode token_check_command(Context& context) {
  if (auto gone = missing_file(context, "token check")) return *gone;
  auto tokens = auth::load_tokens(context.option("file"));
  if (!tokens) return context.fail(tokens.error());
  auto token = token_to_check(context);
  if (!token) return context.fail(token.error());
  const auth::CheckedToken checked = tokens->check(*token, read_clocks().wall_ns);
  if (checked.verdict != auth::TokenVerdict::kGood) {
    const std::string_view verdict = auth::verdict_text(checked.verdict);
    return context.fail(ExitCode::kNegative,
                        checked.id.empty() ? std::string(verdict)
                                           : fmt::format("token {}: {}", checked.id, verdict));
  }
  const auth::TokenEntry& entry = tokens->entries().find(checked.id)->second;
  if (context.json) {
    context.streams.out << json::serialize(to_json(checked.id, entry)) << "\n";
  } else {
    context.streams.out << table(
        {{"ID", "ROLES", "EXPIRES"},
         {checked.id, auth::format_roles(entry.roles), expiry_text(entry)}});
  }
  return ExitCode::kOk;
}

}  // namespace connectd::ctl
